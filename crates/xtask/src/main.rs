//! Chores: `ci`, `test`, `tidy`, `generate`, `matrix`, `bench`, `replays`, `faults`. Never shipped, and never part of what a user
//! runs.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

mod bench;
mod faults;
mod gateway;
mod generate;
mod install;
mod matrix;
mod postgres;
mod replays;
mod test;
mod tidy;

/// Chores of the Gregal repository
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Run the quick checks: format, structure, lints, docs, generated files
    Ci,
    /// Run every test; installs what the legs need and says what
    Test(test::TestArgs),
    /// Check the structure: arrows between rooms, room heads, file sizes
    Tidy,
    /// Write the generated files under contract/, or check that they are fresh
    Generate {
        /// Only check
        #[arg(long)]
        check: bool,
    },
    /// Ask every route as every role of the own, a sibling's and another organisation, and print what each was told
    Matrix,
    /// Measure and print figures side by side
    Bench(bench::BenchArgs),
    /// Replay published traces and write what came of it beside what others reach
    Replays(replays::ReplaysArgs),
    /// Plant faults one by one in a copy, and see that the tests of what they break fail
    Faults(faults::FaultsArgs),
}

fn main() -> ExitCode {
    let done = match Xtask::parse().chore {
        Chore::Ci => ci(),
        Chore::Test(args) => test::run(&args),
        Chore::Tidy => tidy::run(),
        Chore::Generate { check } => generate::run(check),
        Chore::Matrix => matrix::run(),
        Chore::Bench(args) => bench::run(&args),
        Chore::Replays(args) => replays::run(&args),
        Chore::Faults(args) => faults::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Quick checks first: what a reader of a change would otherwise have to say.
fn ci() -> Result<()> {
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("tidy", tidy::run)?;
    step("clippy", clippy)?;
    step("docs", || {
        run(Command::new("cargo")
            .args(["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("generated files", || generate::run(true))
}

fn clippy() -> Result<()> {
    // The stories are code too, though only a leg of the tests builds them.
    let code = ["--workspace", "--all-targets", "--features", "gregal/stories"];
    run(Command::new("cargo").arg("clippy").args(code).args(["--locked", "--", "-D", "warnings"]))
}

/// Says what is about to be done, then does it.
fn step(name: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("== {name}");
    act().with_context(|| format!("`{name}` does not hold"))
}

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs cargo in the repository's root.
fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(arguments))
}

/// Runs a command in the repository's root unless it has a folder of its own; a bad exit is an error.
fn run(command: &mut Command) -> Result<()> {
    if command.get_current_dir().is_none() {
        command.current_dir(root());
    }
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Runs a command and reads what it prints on stdout.
fn output(command: &mut Command) -> Result<String> {
    if command.get_current_dir().is_none() {
        command.current_dir(root());
    }
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("could not start {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed something that is not text"))
}
