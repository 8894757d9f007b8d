//! How a training is asked of the embedded engine, and what its progress lines say.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use gregal_core::job::{Heldout, Progress};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Where the sandbox shows the job's folders.
pub(super) const WORK: &str = "/gregal/work";
pub(super) const INPUT: &str = "/gregal/input";
/// The longest line a trainer may say, in bytes; a longer one is skipped.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes read at once.
const READ_BYTES_MAX: u64 = 1 << 20;

/// The trainer's settings file: the tenant's settings, with our places and limits over them.
pub(super) fn config(
    settings: &Map<String, Value>,
    has_heldout: bool,
    has_base_model: bool,
    seconds_max: u32,
) -> Map<String, Value> {
    let mut config = settings.clone();
    // Time for answering the held-out questions, writing and storing the model is kept back from training.
    let training = u64::from(seconds_max).saturating_sub(u64::from(seconds_max / 10).max(5)).max(1);
    let wanted = settings.get("seconds_max").and_then(Value::as_u64).unwrap_or(u64::MAX);
    config.insert("data".into(), json!(format!("{INPUT}/data")));
    config.insert("heldout".into(), if has_heldout { json!(format!("{INPUT}/heldout")) } else { Value::Null });
    config.insert("base_model".into(), if has_base_model { json!(format!("{INPUT}/base.gguf")) } else { Value::Null });
    config.insert("out".into(), json!(format!("{WORK}/model")));
    config.insert("checkpoints".into(), json!(format!("{WORK}/checkpoints")));
    config.insert("seconds_max".into(), json!(training.min(wanted)));
    config
}

/// A line of progress, as far as the agent needs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "gregal", rename_all = "snake_case")]
pub(super) enum Line {
    Start {
        parameters: u64,
    },
    Step {
        step: u64,
        steps: u64,
        loss: f64,
        tokens: u64,
        tokens_per_s: f64,
    },
    Heldout {
        asked: u64,
        exact: u64,
    },
    Done {
        tokens: u64,
        flop: u64,
        parameters: u64,
    },
    #[serde(other)]
    Other,
}

impl Line {
    /// A point of the progress series, if the line is a step.
    pub(super) fn point(&self, elapsed_ms: u64, energy_mj: u64) -> Option<Progress> {
        let Self::Step { step, steps, loss, tokens, tokens_per_s } = *self else { return None };
        // JSON has no other numbers, but what control stores must add up and draw.
        let sane = |number: f64| if number.is_finite() { number } else { 0.0 };
        Some(Progress {
            step,
            steps,
            loss: sane(loss),
            tokens,
            tokens_per_s: sane(tokens_per_s),
            elapsed_ms,
            energy_mj,
        })
    }

    /// What a line of held-out answers says.
    pub(super) fn heldout(&self) -> Option<Heldout> {
        let Self::Heldout { asked, exact } = *self else { return None };
        Some(Heldout { asked, exact: exact.min(asked) })
    }
}

/// Reads the lines that were added to a file since the last look.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
}

impl Tail {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0, rest: Vec::new() }
    }

    /// The whole lines that are new; at most a megabyte at once.
    pub(super) fn lines(&mut self) -> io::Result<Vec<Line>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        self.offset += file.take(READ_BYTES_MAX).read_to_end(&mut self.rest)? as u64;
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            // What is no progress line is somebody's print; it is in the file for whoever wants it.
            if let Ok(line) = serde_json::from_slice(&line) {
                lines.push(line);
            }
        }
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest.clear();
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_tenants_settings_never_choose_where_things_lie_or_how_long_it_runs() {
        let Value::Object(settings) = json!({"data": "/etc/passwd", "out": "/", "seconds_max": 9999, "batch": 8})
        else {
            panic!("an object")
        };
        let config = config(&settings, false, false, 100);
        assert_eq!(
            (config["data"].as_str(), config["out"].as_str()),
            (Some("/gregal/input/data"), Some("/gregal/work/model"))
        );
        assert_eq!((config["seconds_max"].as_u64(), config["batch"].as_u64()), (Some(90), Some(8)));
    }

    #[test]
    fn lines_are_read_once_and_only_when_they_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress");
        let mut tail = Tail::new(path.clone());
        assert_eq!(tail.lines().unwrap(), []);
        let mut file = File::create(&path).unwrap();
        file.write_all(b"hello\n{\"gregal\":\"heldout\",\"asked\":4,\"exact\":3}\n{\"gregal\":\"chec").unwrap();
        assert_eq!(tail.lines().unwrap(), [Line::Heldout { asked: 4, exact: 3 }]);
        file.write_all(b"kpoint\",\"step\":1}\n").unwrap();
        assert_eq!(tail.lines().unwrap(), [Line::Other]);
        assert_eq!(tail.lines().unwrap(), []);
    }
}
