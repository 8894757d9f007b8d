//! The printer: data on stdout, everything else on stderr, clear without color.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// Writes what a verb has to say.
pub struct Printer {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    out_is_terminal: bool,
    live: bool,
    json: bool,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("live", &self.live).field("json", &self.json).finish_non_exhaustive()
    }
}

impl Printer {
    /// To this process's stdout and stderr.
    pub fn of_process() -> Self {
        Self {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            out_is_terminal: std::io::stdout().is_terminal(),
            live: std::io::stderr().is_terminal(),
            json: false,
        }
    }

    /// To two writers that are no terminal.
    pub fn captured(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, out_is_terminal: false, live: false, json: false }
    }

    /// Whether data is wanted as JSON.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    pub(crate) const fn want_json(&mut self, json: bool) {
        self.json = json;
    }

    /// Data: one JSON document, or the words a person reads.
    pub(crate) fn data<T: Serialize>(&mut self, value: &T, words: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string_pretty(value)
                .map_err(|error| Failure::ours(format!("the answer cannot be written as JSON: {error}")))?;
            self.write(&format!("{text}\n"))
        } else {
            let text = words(value);
            self.write(&text)
        }
    }

    /// One JSON document on a line of its own, for streams.
    pub(crate) fn json_line(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        self.write(&format!("{value}\n"))
    }

    /// Text as it is, to stdout, at once. On a terminal, control characters that could drive it are left out: answers and
    /// logs are written by others.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Failure> {
        let shown = if self.out_is_terminal { harmless(text) } else { text.to_owned() };
        self.out.write_all(shown.as_bytes()).and_then(|()| self.out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Bytes as they are, to stdout, at once.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.out_is_terminal {
            return self.write(&String::from_utf8_lossy(bytes));
        }
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(|error| Failure::output(&error))
    }

    /// A line for the person, on stderr.
    pub(crate) fn note(&mut self, text: &str) {
        self.prompt(&format!("{text}\n"));
    }

    /// Text without a line end for the person, on stderr.
    pub(crate) fn prompt(&mut self, text: &str) {
        // Where nobody can be told anything any more, there is nobody to tell that either.
        let _ = self.err.write_all(harmless(text).as_bytes()).and_then(|()| self.err.flush());
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))
    }

    /// A bar for something that takes a while: live on a terminal, silent elsewhere.
    pub(crate) fn bar(&self, template: &str, length: Option<u64>) -> ProgressBar {
        if !self.live {
            return ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let style = if length.is_some() { ProgressStyle::default_bar() } else { ProgressStyle::default_spinner() };
        bar.set_style(style.clone().template(template).unwrap_or(style));
        bar
    }

    /// Whether a person watches stderr.
    pub(crate) const fn live(&self) -> bool {
        self.live
    }
}

/// Text without control characters, line ends and tabs kept.
fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}
