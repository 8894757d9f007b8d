//! `gregal simulate load`: one's own jobs through the very function that drives the live control plane.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gregal_sim::{Pool, load_of, read_jobs, replay};

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Jobs as CSV: a header with `submit_s`, `run_s` and `cpus`, `gpus` or both, and, if wanted, `limit_s`, in any order; times in whole
    /// seconds. `queue`, `priority` and `model` may stand there, and change nothing: here all jobs are one organisation's, on one pool
    #[arg(long, value_name = "FILE")]
    jobs: PathBuf,
    /// CPU cores of the pool
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    cpus: u32,
    /// Accelerators of the pool
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    gpus: u32,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &LoadArgs) -> Result<()> {
    let jobs = read_jobs(&super::read(&args.jobs)?);
    let jobs = jobs.with_context(|| format!("`{}` is no file of jobs", args.jobs.display()))?;
    let outcome = replay(&load_of(&jobs), Pool { cpus: args.cpus, gpus: args.gpus });
    if args.json {
        return super::print_json(&outcome);
    }
    let wait = outcome.wait_s;
    say!("ran        {}", outcome.ran);
    say!("never fits {}", outcome.never);
    say!("wait       mean {} s, median {} s, p99 {} s, longest {} s", wait.mean, wait.p50, wait.p99, wait.max);
    say!("makespan   {} s", outcome.makespan_s);
    let percent = |milli: u64| format!("{}.{} %", milli / 10, milli % 10);
    say!("used       CPU {}, accelerators {}", percent(outcome.cpu_used_milli), percent(outcome.gpu_used_milli));
    say!("digest     {}", outcome.digest);
    Ok(())
}
