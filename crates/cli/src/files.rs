//! Files that hold JSON this program wrote earlier.

use std::{io::Read as _, path::Path};

use serde_json::Value;

use crate::failure::Failure;

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads a file as one JSON value.
pub(crate) fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    parse(path, &text(path)?)
}

/// Reads a list: `{"items": [...]}`, an array, or one JSON object a line.
pub(crate) fn items(path: &Path) -> Result<Vec<Value>, Failure> {
    let text = text(path)?;
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Array(items)) => Ok(items),
        Ok(Value::Object(mut fields)) => match fields.remove("items") {
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(Failure::yours(format!("`items` of `{}` is not a list", path.display()))),
            // One record alone is a list of one, as a file of lines with one line is.
            None => Ok(vec![Value::Object(fields)]),
        },
        Ok(_) => Err(Failure::yours(format!("`{}` holds no list", path.display()))),
        Err(_) => lines(path, &text),
    }
}

fn lines(path: &Path, text: &str) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value = serde_json::from_str(line).map_err(|error| {
            Failure::yours(format!("line {} of `{}` is not JSON: {error}", index + 1, path.display()))
        })?;
        items.push(value);
    }
    Ok(items)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::yours(format!("`{}` is not what was expected: {error}", path.display())))
}

/// Reads a file as text.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::file("read", path, &error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::yours(format!("`{}` has more than {FILE_BYTES_MAX} bytes", path.display())));
    }
    Ok(text)
}

/// Writes a file whole or not at all: beside it first, then in its place.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = Path::new(&beside);
    let written = std::fs::write(beside, text).and_then(|()| std::fs::rename(beside, path));
    written.map_err(|error| {
        // What was half written is of no use; that it could not be removed adds nothing to the first error.
        let _ = std::fs::remove_file(beside);
        Failure::file("write", path, &error)
    })
}
