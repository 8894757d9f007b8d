//! `gregal lm`: the embedded language-model engine as a process of its own. Engines start it like any other program.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum LmVerb {
    /// Train or fine-tune a model as a file of settings says; progress goes to stdout as JSON lines
    Train {
        /// Settings of the training, JSON
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Runs a verb of the embedded engine.
pub(crate) fn run(verb: LmVerb) -> Result<ExitCode> {
    match verb {
        LmVerb::Train { config } => train(&config),
    }
}

fn train(path: &std::path::Path) -> Result<ExitCode> {
    use gregal_lm::{progress, train};
    let config = train::config_from(path)?;
    let outcome = train::run(&config, &mut progress::Lines(std::io::stdout()))?;
    Ok(if outcome == train::Outcome::Finished { ExitCode::SUCCESS } else { ExitCode::from(train::EXIT_STOPPED) })
}
