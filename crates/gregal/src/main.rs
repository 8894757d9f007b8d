//! The executable: settings, wiring, roles. Decisions live in the rooms below.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cloud;
mod contract;
mod invoicing;
mod lm;
mod logs;
mod settings;
mod simulate;
mod tour;
mod up;
mod visible;

/// A sovereign AI cloud in one executable: rent out compute, train, fine-tune and serve models, bill and prove
#[derive(Debug, Parser)]
#[command(name = "gregal", version, arg_required_else_help = true, max_term_width = 100)]
struct Gregal {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(up::UpArgs),
    Tour(tour::TourArgs),
    #[command(flatten)]
    Client(gregal_cli::Command),
    /// Replay loads and published traces through the scheduling code, to plan capacity and to compare policies
    #[command(subcommand)]
    Simulate(simulate::SimulateVerb),
    /// Show the settings that hold
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Train and serve models directly, without the cloud
    #[command(subcommand)]
    Lm(lm::LmVerb),
    /// Print the generated contract files
    #[command(hide = true)]
    Contract {
        /// openapi, cli, config or problems
        what: String,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print every setting with its value
    Show {
        #[command(flatten)]
        settings: settings::SettingsArgs,
        /// Also print where each value came from
        #[arg(long)]
        origin: bool,
    },
}

/// Data on stdout, everything else on stderr. Exit: 0 fine, 1 yours, 2 ours.
fn main() -> ExitCode {
    // A sandbox stage must come before any thread exists: namespaces belong to the one that asks.
    if let Some(code) = gregal_engine::sandbox::run_if_asked() {
        return code;
    }
    let verb = match Gregal::try_parse() {
        Ok(gregal) => gregal.verb,
        Err(words) => return misspelt(&words),
    };
    let done = match verb {
        Verb::Up(args) => runtime(up::run(args)).map(|()| ExitCode::SUCCESS),
        Verb::Tour(args) => {
            runtime(tour::run(args)).map(|held| if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Client(command) => runtime(async { Ok(gregal_cli::run(command).await) }),
        Verb::Simulate(verb) => simulate::run(&verb).map(|()| ExitCode::SUCCESS),
        Verb::Config(ConfigVerb::Show { settings, origin }) => show(&settings, origin),
        Verb::Lm(verb) => lm::run(verb),
        Verb::Contract { what } => contract::print(&what),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Help and version are fine; anything else was the caller's mistake.
fn misspelt(words: &clap::Error) -> ExitCode {
    let shown = words.print();
    if words.use_stderr() || shown.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn show(flags: &settings::SettingsArgs, origin: bool) -> anyhow::Result<ExitCode> {
    let loaded = settings::load(flags, std::env::vars())?;
    for (key, (value, from)) in &loaded.origins {
        if origin {
            println!("{key} = {value}   # {from}");
        } else {
            println!("{key} = {value}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
