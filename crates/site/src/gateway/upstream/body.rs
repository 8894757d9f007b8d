//! How an answer of HTTP/1.1 is framed: its head, and where its body ends (RFC 9112, sections 4 to 7). Decides only.

use std::io;

use bytes::{Buf as _, BytesMut};

/// The longest line that says how long a chunk is, in bytes.
const LINE_BYTES_MAX: usize = 1 << 10;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) keeps: bool,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// After a chunk of nothing.
    Chunked(Chunk),
    /// With the connection.
    Close,
}

/// What comes next of a body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// A line that says how long the next one is.
    Size,
    /// So many bytes, and an end of line.
    Data(u64),
    /// The end of line after a chunk.
    End,
    /// Lines until an empty one.
    Trailers,
    /// Nothing.
    Over,
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The head at the beginning of `raw` and its length; none while it is not whole. What only informs (1xx) is passed over.
pub(super) fn head(raw: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut from = 0;
    loop {
        let Some(length) = raw[from..].windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
        let end = from + length + 4;
        let head = read(&raw[from..end - 4])?;
        if (100..200).contains(&head.status) {
            from = end;
        } else {
            return Ok(Some((head, end)));
        }
    }
}

fn read(text: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(text).map_err(|_| broken("the head is no text"))?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let (version, rest) = first.split_once(' ').ok_or_else(|| broken("no status line"))?;
    let status = rest.get(..3).and_then(|status| status.parse().ok()).ok_or_else(|| broken("no status"))?;
    let (mut length, mut chunked, mut keeps) = (None, false, version == "HTTP/1.1");
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a header without a name"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let said: u64 = value.parse().map_err(|_| broken("a length that is no number"))?;
            if length.replace(said).is_some_and(|before| before != said) {
                return Err(broken("two lengths"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
            if !chunked {
                return Err(broken("an encoding that nobody asked for"));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            keeps &= !value.eq_ignore_ascii_case("close");
        }
    }
    let framing = match (chunked, length) {
        _ if status == 204 || status == 304 => Framing::Length(0),
        (true, _) => Framing::Chunked(Chunk::Size),
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Close,
    };
    Ok(Head { status, keeps: keeps && framing != Framing::Close, framing })
}

impl Framing {
    /// Whether the whole body was decoded.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Over))
    }

    /// The connection has ended: whether the body may end so.
    pub(super) fn closed(self) -> io::Result<()> {
        if self.is_over() || self == Self::Close { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Takes what belongs to the body out of `raw`, as far as it is there.
    pub(super) fn decode(&mut self, raw: &mut BytesMut, data: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Close => data.unsplit(raw.split()),
            Self::Length(left) => *left -= carry(raw, data, *left),
            Self::Chunked(next) => while next.step(raw, data)? {},
        }
        Ok(())
    }
}

/// Moves so many bytes at most; answers how many.
fn carry(raw: &mut BytesMut, data: &mut BytesMut, most: u64) -> u64 {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(raw.len());
    if data.is_empty() && most == raw.len() {
        std::mem::swap(data, raw);
        raw.clear();
    } else {
        data.extend_from_slice(&raw[..most]);
        raw.advance(most);
    }
    most as u64
}

impl Chunk {
    /// One step; false where there is nothing more to be done now.
    fn step(&mut self, raw: &mut BytesMut, data: &mut BytesMut) -> io::Result<bool> {
        *self = match *self {
            Self::Over => return Ok(false),
            Self::Data(left) => {
                let left = left - carry(raw, data, left);
                if left > 0 {
                    *self = Self::Data(left);
                    return Ok(false);
                }
                Self::End
            }
            Self::Size | Self::Trailers | Self::End => {
                let Some(end) = raw.iter().position(|byte| *byte == b'\n') else {
                    return if raw.len() > LINE_BYTES_MAX { Err(broken("a line without an end")) } else { Ok(false) };
                };
                let next = after(*self, raw[..end].trim_ascii_end())?;
                raw.advance(end + 1);
                next
            }
        };
        Ok(true)
    }
}

/// What comes after a line.
fn after(expected: Chunk, line: &[u8]) -> io::Result<Chunk> {
    match expected {
        Chunk::End if line.is_empty() => Ok(Chunk::Size),
        Chunk::Trailers if line.is_empty() => Ok(Chunk::Over),
        Chunk::Trailers => Ok(Chunk::Trailers),
        Chunk::Size => {
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let digits =
                std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
            let size = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            match size.ok_or_else(|| broken("a chunk without a length"))? {
                0 => Ok(Chunk::Trailers),
                size => Ok(Chunk::Data(size)),
            }
        }
        Chunk::End | Chunk::Data(_) | Chunk::Over => Err(broken("a chunk longer than it said")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes an answer that arrives in pieces of this size.
    fn decoded(answer: &[u8], piece: usize) -> io::Result<(u16, Vec<u8>, bool)> {
        let (mut raw, mut data, mut found) = (BytesMut::new(), BytesMut::new(), None);
        for piece in answer.chunks(piece) {
            raw.extend_from_slice(piece);
            if found.is_none()
                && let Some((head, length)) = head(&raw)?
            {
                raw.advance(length);
                found = Some(head);
            }
            if let Some(head) = &mut found {
                head.framing.decode(&mut raw, &mut data)?;
            }
        }
        let head = found.ok_or_else(|| broken("no head"))?;
        Ok((head.status, data.to_vec(), head.framing.is_over() && head.keeps && raw.is_empty()))
    }

    #[test]
    fn a_body_is_the_same_however_it_arrives() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunks = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nt: 1\r\n\r\n";
        for piece in 1..40 {
            assert_eq!(decoded(whole, piece).unwrap(), (200, b"hello".to_vec(), true));
            assert_eq!(decoded(chunks, piece).unwrap(), (200, b"hello".to_vec(), true), "pieces of {piece}");
        }
    }

    #[test]
    fn a_connection_is_used_again_only_after_a_whole_answer_that_says_nothing_against_it() {
        let keeps = |answer: &[u8]| decoded(answer, 1000).unwrap().2;
        assert!(!keeps(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"));
        assert!(!keeps(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nhel"));
        assert!(!keeps(b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 1\r\n\r\nh"));
        assert!(!keeps(b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nh"));
        assert!(!keeps(b"HTTP/1.1 200 OK\r\n\r\nhello"));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for answer in [
            &b"nonsense\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+1\r\nx\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxy\r\n",
        ] {
            assert!(decoded(answer, 1000).is_err(), "{:?}", String::from_utf8_lossy(answer));
        }
    }
}
