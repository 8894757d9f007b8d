//! Lines out of a stream of bytes, and the data of server-sent events out of lines.

use crate::failure::Failure;

/// The longest line that is read, in bytes.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Cuts a stream into lines, wherever its chunks may break.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Takes in a chunk; returns the lines that are whole now, without their ends.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Vec<String>, Failure> {
        self.pending.extend_from_slice(chunk);
        let mut lines = Vec::new();
        if let Some(last) = self.pending.iter().rposition(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.pending.drain(..=last).collect();
            let text = String::from_utf8_lossy(&whole);
            lines.extend(text.lines().map(str::to_owned));
        }
        if self.pending.len() > LINE_BYTES_MAX {
            return Err(Failure::ours(format!("the site sent a line of more than {LINE_BYTES_MAX} bytes")));
        }
        Ok(lines)
    }

    /// What is left when the stream has ended.
    pub(crate) fn rest(self) -> Option<String> {
        Some(String::from_utf8_lossy(&self.pending).into_owned()).filter(|text| !text.is_empty())
    }
}

/// The data of a line of a server-sent event stream; none for comments, other fields and empty lines.
pub(crate) fn event_data(line: &str) -> Option<&str> {
    let data = line.strip_prefix("data:")?;
    Some(data.strip_prefix(' ').unwrap_or(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_chunks_break_even_inside_a_character() {
        let text = "data: é\r\n: comment\ndata:{}\nrest";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                found.extend(lines.push(chunk).unwrap());
            }
            assert_eq!(found, ["data: é", ": comment", "data:{}"], "chunks of {size}");
            assert_eq!(lines.rest().as_deref(), Some("rest"));
            let data: Vec<_> = found.iter().filter_map(|line| event_data(line)).collect();
            assert_eq!(data, ["é", "{}"]);
        }
    }
}
