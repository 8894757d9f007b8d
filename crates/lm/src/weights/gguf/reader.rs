//! The GGUF container: little-endian metadata and a table of tensors. Knows nothing of models.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::super::Error;

/// Most metadata entries, and most tensors, that a file may announce.
const ENTRIES_MAX: u64 = 1 << 16;
/// Longest string, bytes. Chat templates are the longest in practice.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// Most elements of one metadata array; vocabularies are the longest in practice.
const ARRAY_MAX: u64 = 1 << 22;

/// One metadata value. Arrays other than of strings and whole numbers are skipped.
#[derive(Debug)]
pub(super) enum Value {
    Whole(i128),
    Real(f64),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Wholes(Vec<i128>),
    Other,
}

/// One line of the tensor table.
#[derive(Debug)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// Rows first: GGUF writes the fastest dimension first, this is turned round.
    pub(super) shape: Vec<usize>,
    pub(super) kind: u32,
    /// From the start of the data.
    pub(super) offset: u64,
}

impl TensorInfo {
    pub(super) fn fits(&self, bytes: usize, header: &Header) -> bool {
        header
            .data_at
            .checked_add(self.offset)
            .and_then(|at| at.checked_add(bytes as u64))
            .is_some_and(|end| end <= header.total)
    }
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) values: HashMap<String, Value>,
    pub(super) tensors: Vec<TensorInfo>,
    /// Where the data begins in the file.
    pub(super) data_at: u64,
    /// Length of the file, bytes.
    pub(super) total: u64,
}

impl Header {
    pub(super) fn read(path: &Path, file: &File) -> Result<Self, Error> {
        let total = file.metadata().map_err(|source| Error::Read { path: path.to_owned(), source })?.len();
        let mut reader = Reader { path, from: BufReader::new(file), at: 0, total };
        reader.header()
    }
}

struct Reader<'a> {
    path: &'a Path,
    from: BufReader<&'a File>,
    at: u64,
    total: u64,
}

impl Reader<'_> {
    fn header(&mut self) -> Result<Header, Error> {
        if &self.bytes::<4>()? != b"GGUF" {
            return Err(self.malformed("it does not begin with `GGUF`"));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(Error::Unsupported { path: self.path.to_owned(), what: format!("GGUF version {version}") });
        }
        let tensors_len = self.count(ENTRIES_MAX, 24, "tensors")?;
        let values_len = self.count(ENTRIES_MAX, 13, "metadata entries")?;
        let mut values = HashMap::new();
        for _ in 0..values_len {
            let key = self.text()?;
            let kind = self.u32()?;
            let value = self.value(kind)?;
            values.insert(key, value);
        }
        let mut tensors = Vec::new();
        for _ in 0..tensors_len {
            tensors.push(self.tensor()?);
        }
        let align = match values.get("general.alignment") {
            Some(Value::Whole(number)) => u64::try_from(*number).ok().filter(|size| (1..=65536).contains(size)),
            _ => Some(32),
        };
        let align = align.ok_or_else(|| self.malformed("`general.alignment` is out of range"))?;
        Ok(Header { values, tensors, data_at: self.at.next_multiple_of(align), total: self.total })
    }

    fn tensor(&mut self) -> Result<TensorInfo, Error> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(self.malformed(format!("tensor `{name}` has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64()?;
            let size = usize::try_from(size).ok().filter(|size| (1..=1 << 40).contains(size));
            shape.push(size.ok_or_else(|| self.malformed(format!("a dimension of tensor `{name}` is out of range")))?);
        }
        shape.reverse();
        Ok(TensorInfo { name, shape, kind: self.u32()?, offset: self.u64()? })
    }

    fn value(&mut self, kind: u32) -> Result<Value, Error> {
        Ok(match kind {
            6 => Value::Real(f64::from(f32::from_le_bytes(self.bytes()?))),
            12 => Value::Real(f64::from_le_bytes(self.bytes()?)),
            7 => Value::Flag(self.bytes::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 => self.array()?,
            whole => Value::Whole(self.whole(whole)?),
        })
    }

    fn array(&mut self) -> Result<Value, Error> {
        let kind = self.u32()?;
        let least = if kind == 8 { 8 } else { 1 };
        let length = self.count(ARRAY_MAX, least, "array elements")?;
        if kind == 8 {
            return (0..length).map(|_| self.text()).collect::<Result<_, _>>().map(Value::Texts);
        }
        if matches!(kind, 6 | 7 | 12) {
            for _ in 0..length {
                self.value(kind)?;
            }
            return Ok(Value::Other);
        }
        (0..length).map(|_| self.whole(kind)).collect::<Result<_, _>>().map(Value::Wholes)
    }

    fn whole(&mut self, kind: u32) -> Result<i128, Error> {
        Ok(match kind {
            0 => i128::from(self.bytes::<1>()?[0]),
            1 => i128::from(i8::from_le_bytes(self.bytes()?)),
            2 => i128::from(u16::from_le_bytes(self.bytes()?)),
            3 => i128::from(i16::from_le_bytes(self.bytes()?)),
            4 => i128::from(self.u32()?),
            5 => i128::from(i32::from_le_bytes(self.bytes()?)),
            10 => i128::from(self.u64()?),
            11 => i128::from(i64::from_le_bytes(self.bytes()?)),
            other => return Err(self.malformed(format!("metadata of type {other}"))),
        })
    }

    /// A length, refused when the rest of the file could not hold that many elements.
    fn count(&mut self, most: u64, bytes_each: u64, of: &str) -> Result<usize, Error> {
        let count = self.u64()?;
        let left = self.total.saturating_sub(self.at);
        if count > most || count.saturating_mul(bytes_each) > left {
            return Err(self.malformed(format!("it announces {count} {of} with {left} bytes left")));
        }
        Ok(count as usize)
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.count(TEXT_BYTES_MAX, 1, "bytes of text")?;
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), Error> {
        self.from.read_exact(into).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => self.malformed(format!("it ends at byte {}, too early", self.total)),
            _ => Error::Read { path: self.path.to_owned(), source },
        })?;
        self.at += into.len() as u64;
        Ok(())
    }

    fn malformed(&self, what: impl Into<String>) -> Error {
        Error::Malformed { path: self.path.to_owned(), what: what.into() }
    }
}
