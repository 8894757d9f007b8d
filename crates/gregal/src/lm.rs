//! `gregal lm`: the embedded language-model engine as a process of its own. Engines start it like any other program.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Subcommand;
use gregal_lm::{bench, serve};

#[derive(Debug, Subcommand)]
pub(crate) enum LmVerb {
    /// Train or fine-tune a model as a file of settings says; progress goes to stdout as JSON lines
    Train {
        /// Settings of the training, JSON
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Serve a model in the shapes of the `OpenAI` API, on a Unix socket or a loopback port
    Serve {
        /// A Hugging Face folder or a GGUF file
        #[arg(long, value_name = "PATH")]
        model: PathBuf,
        /// unix:PATH or 127.0.0.1:PORT
        #[arg(long, value_name = "ADDRESS")]
        listen: String,
        /// Name requests must ask for; the model's own if absent
        #[arg(long)]
        name: Option<String>,
        /// Worker threads; 1 where cores are shared
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Sequences in a step
        #[arg(long, default_value_t = 8)]
        max_batch: usize,
        /// Longest sequence in tokens; the model's own limit if absent
        #[arg(long)]
        context: Option<usize>,
    },
    /// Measure reading and writing in tokens per second of processor time
    Bench {
        /// A Hugging Face folder or a GGUF file
        #[arg(long, value_name = "PATH")]
        model: PathBuf,
        /// Worker threads
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs a verb of the embedded engine.
pub(crate) fn run(verb: LmVerb) -> Result<ExitCode> {
    match verb {
        LmVerb::Train { config } => train(&config),
        LmVerb::Serve { model, listen, name, threads, max_batch, context } => {
            let options = serve::Options {
                name,
                threads,
                batch_max: max_batch,
                context,
                ..serve::Options::new(model, listen.parse()?)
            };
            crate::runtime(async { Ok(serve::run(options).await?) })?;
            Ok(ExitCode::SUCCESS)
        }
        LmVerb::Bench { model, threads, json } => {
            bench(&bench::Options { threads, ..bench::Options::new(model) }, json)
        }
    }
}

fn bench(options: &bench::Options, json: bool) -> Result<ExitCode> {
    let report = bench::run(options)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}: {} parameters, {} thread(s), {}",
        report.model, report.parameters, report.threads, report.instructions
    );
    println!("{:>10} {:>22} {:>22}", "sequences", "prefill tokens/CPU-s", "decode tokens/CPU-s");
    for line in &report.lines {
        println!(
            "{:>10} {:>22.1} {:>22.1}",
            line.sequences, line.prefill_tokens_per_cpu_s, line.decode_tokens_per_cpu_s
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn train(path: &std::path::Path) -> Result<ExitCode> {
    use gregal_lm::{progress, train};
    let config = train::config_from(path)?;
    let outcome = train::run(&config, &mut progress::Told(progress::Lines(std::io::stdout()), std::io::stderr()))?;
    Ok(if outcome == train::Outcome::Finished { ExitCode::SUCCESS } else { ExitCode::from(train::EXIT_STOPPED) })
}
