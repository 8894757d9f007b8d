//! Loads: who asks for what, when, and for how long it then runs.

use serde::{Deserialize, Serialize};

/// The header a load's CSV must have.
pub(crate) const CSV_HEADER: &str = "arrival_s,duration_s,cpus,gpus";
/// The most requests a load may have.
const REQUESTS_MAX: usize = 5_000_000;
/// The latest arrival and the longest run, in seconds: a century.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// One request of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// When it arrives, in seconds since the load's beginning.
    pub arrival_s: u64,
    /// How long it runs once started, in seconds. The scheduler does not see this.
    pub duration_s: u64,
    /// CPU cores it needs.
    pub cpus: u32,
    /// Accelerators it needs.
    pub gpus: u32,
}

/// Why a load cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The first line is not the header.
    #[error("line 1: expected the header `{CSV_HEADER}`")]
    Header,
    /// A line has another number of fields.
    #[error("line {line}: expected 4 fields, found {found}")]
    Fields {
        /// Which line, from 1.
        line: usize,
        /// How many fields it has.
        found: usize,
    },
    /// A field is not a number, or an absurd one.
    #[error("line {line}: `{field}` is not {expected}")]
    Field {
        /// Which line, from 1.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A request asks for nothing.
    #[error("line {line}: asks for no CPU and no accelerator")]
    Nothing {
        /// Which line, from 1.
        line: usize,
    },
    /// There are more requests than a replay takes.
    #[error("more than {REQUESTS_MAX} requests")]
    TooMany,
}

/// Reads a load from CSV: a header, then a line a request, in any order. Empty lines are passed over.
pub fn read_csv(text: &str) -> Result<Vec<Request>, LoadError> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line.trim()) != Some(CSV_HEADER) {
        return Err(LoadError::Header);
    }
    let mut load = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        if load.len() == REQUESTS_MAX {
            return Err(LoadError::TooMany);
        }
        load.push(request(line, index + 1)?);
    }
    // Stable: requests of one second keep the order of the file.
    load.sort_by_key(|request| request.arrival_s);
    Ok(load)
}

fn request(text: &str, line: usize) -> Result<Request, LoadError> {
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    let [arrival, duration, cpus, gpus] = fields.as_slice() else {
        return Err(LoadError::Fields { line, found: fields.len() });
    };
    let seconds = |text: &str, field| {
        let found = text.parse().ok().filter(|seconds| *seconds <= SECONDS_MAX);
        found.ok_or(LoadError::Field { line, field, expected: "a whole number of seconds within a century" })
    };
    let count = |text: &str, field| {
        let found = text.parse().ok().filter(|count| *count <= 1_000_000);
        found.ok_or(LoadError::Field { line, field, expected: "a whole number up to 1,000,000" })
    };
    let request = Request {
        arrival_s: seconds(arrival, "arrival_s")?,
        duration_s: seconds(duration, "duration_s")?,
        cpus: count(cpus, "cpus")?,
        gpus: count(gpus, "gpus")?,
    };
    if request.cpus == 0 && request.gpus == 0 { Err(LoadError::Nothing { line }) } else { Ok(request) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_sorted_by_arrival_and_bad_lines_are_named() {
        let load = read_csv("arrival_s,duration_s,cpus,gpus\n10,5,1,0\n\n3,7,2,1\n").unwrap();
        assert_eq!(load[0], Request { arrival_s: 3, duration_s: 7, cpus: 2, gpus: 1 });
        assert_eq!(read_csv("a,b\n"), Err(LoadError::Header));
        let bad = |line: &str| read_csv(&format!("{CSV_HEADER}\n1,1,1,0\n{line}\n")).unwrap_err().to_string();
        assert!(bad("1,2,3").starts_with("line 3: expected 4 fields, found 3"));
        assert!(bad("-1,2,3,0").starts_with("line 3: `arrival_s`"));
        assert!(bad("1,2,99999999999,0").starts_with("line 3: `cpus`"));
        assert!(bad("1,2,0,0").starts_with("line 3: asks for no CPU"));
    }
}
