//! What the tour shows while it walks: one line a step, a bar while a model trains. Everything goes to stderr.

use std::{io::IsTerminal, time::Duration};

use gregal_api::job::ProgressView;
use indicatif::{ProgressBar, ProgressStyle};

/// Shows progress to a person, or as plain lines to a file.
#[derive(Debug)]
pub(crate) struct Display {
    live: bool,
    bar: Option<ProgressBar>,
    last_plain_ms: u64,
}

/// Plain output says how training goes at most this often.
const PLAIN_EVERY_MS: u64 = 5_000;

impl Display {
    /// A display that is live on a terminal and plain elsewhere.
    pub(crate) fn new() -> Self {
        Self { live: std::io::stderr().is_terminal(), bar: None, last_plain_ms: 0 }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) {
        self.finish();
        if self.live {
            let bar = ProgressBar::new_spinner().with_message(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            self.bar = Some(bar);
        } else {
            eprintln!("... {title}");
        }
    }

    /// Ends a step with what came of it.
    pub(crate) fn done(&mut self, text: &str) {
        self.finish();
        eprintln!("ok  {text}");
    }

    /// A line of detail below a step.
    pub(crate) fn detail(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("    {text}")),
            None => eprintln!("    {text}"),
        }
    }

    /// How a training goes.
    pub(crate) fn training(&mut self, progress: &ProgressView) {
        let text = format!(
            "step {}/{}  loss {:.4}  {:.0} tokens/s  {} kWh (estimate)",
            progress.step,
            progress.steps,
            progress.loss,
            progress.tokens_per_s,
            gregal_api::model::kwh(progress.energy_mj),
        );
        if self.live {
            let bar = self.bar.get_or_insert_with(|| ProgressBar::new(progress.steps));
            if bar.length() != Some(progress.steps) {
                bar.set_length(progress.steps);
                if let Ok(style) = ProgressStyle::with_template("{bar:32} {msg}") {
                    bar.set_style(style);
                }
            }
            bar.set_position(progress.step);
            bar.set_message(text);
        } else if progress.elapsed_ms >= self.last_plain_ms + PLAIN_EVERY_MS {
            self.last_plain_ms = progress.elapsed_ms;
            eprintln!("    {text}");
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
