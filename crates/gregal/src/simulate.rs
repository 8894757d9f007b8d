//! `gregal simulate`: what a load would have met on other machines, by the scheduler that is live.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use gregal_sim::{Pool, read_csv, replay};

/// Replay a load of jobs through the live scheduler, to plan capacity
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Jobs as CSV with the header `arrival_s,duration_s,cpus,gpus`
    #[arg(long, value_name = "FILE")]
    jobs: PathBuf,
    /// CPU cores of the pool
    #[arg(long)]
    cpus: u32,
    /// Accelerators of the pool
    #[arg(long, default_value_t = 0)]
    gpus: u32,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// Replays and prints.
pub(crate) fn run(args: &SimulateArgs) -> Result<()> {
    let name = args.jobs.display();
    let text = std::fs::read_to_string(&args.jobs).with_context(|| format!("could not read `{name}`"))?;
    let load = read_csv(&text).with_context(|| format!("`{name}` is no load"))?;
    let outcome = replay(&load, Pool { cpus: args.cpus, gpus: args.gpus });
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
        return Ok(());
    }
    let wait = outcome.wait_s;
    println!("ran        {}", outcome.ran);
    println!("never fits {}", outcome.never);
    println!("wait       mean {} s, median {} s, p99 {} s, longest {} s", wait.mean, wait.p50, wait.p99, wait.max);
    println!("makespan   {} s", outcome.makespan_s);
    let percent = |milli: u64| format!("{}.{} %", milli / 10, milli % 10);
    println!("used       CPU {}, accelerators {}", percent(outcome.cpu_used_milli), percent(outcome.gpu_used_milli));
    println!("digest     {}", outcome.digest);
    Ok(())
}
