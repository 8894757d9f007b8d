//! `gregal simulate gangs`: how close together gangs land on a real network.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gregal_sim::topology::{gangs, read_topology};

#[derive(Debug, Args)]
pub(crate) struct GangsArgs {
    /// Hosts as CSV with the header `ip,DSW,PSW,ASW` (core, aggregation and leaf switch); eight GPUs each
    #[arg(long, value_name = "FILE")]
    hosts: PathBuf,
    /// Gangs of 8 to 512 GPUs that come
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    gangs: u32,
    /// GPUs they would take on average if none had to wait, in percent of all
    #[arg(long, default_value_t = 50, value_name = "PERCENT")]
    load: u64,
    /// What every draw follows from
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &GangsArgs) -> Result<()> {
    let hosts = read_topology(&super::read(&args.hosts)?)
        .with_context(|| format!("`{}` is no network of hosts", args.hosts.display()))?;
    let outcome = gangs(&hosts, args.gangs as usize, args.load, args.seed)?;
    if args.json {
        return super::print_json(&outcome);
    }
    say!("network    {} hosts behind {} leaves", outcome.hosts, outcome.leaves);
    say!("gangs      {} ran, {} waited, {} in part", outcome.gangs, outcome.waited, outcome.partial_gangs);
    say!(
        "leaves     {} a gang; {} at least with what was free, {} on an empty network (ratio {})",
        outcome.leaves_mean,
        outcome.leaves_mean_min_free,
        outcome.leaves_mean_min,
        outcome.leaves_ratio
    );
    say!("digest     {}", outcome.digest);
    Ok(())
}
