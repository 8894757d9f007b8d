//! `gregal simulate openb`: how full a shared GPU cluster gets by each placement policy.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gregal_sim::openb::{PackOptions, PackPolicy, load_milli, pack, read_openb};

use super::Watch;

#[derive(Debug, Args)]
pub(crate) struct OpenbArgs {
    /// Nodes as CSV with the header `sn,cpu_milli,memory_mib,gpu,model`
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// Pods as CSV whose header begins `name,cpu_milli,memory_mib,num_gpu,gpu_milli`
    #[arg(long, value_name = "FILE")]
    pods: PathBuf,
    /// Placement policy: random, best-fit, fgd or default
    #[arg(long, default_value = "default", value_name = "NAME")]
    policy: String,
    /// What every draw follows from
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// Accelerators asked for in all, as a multiple of those there are
    #[arg(long, default_value = "1.3", value_parser = load, value_name = "FACTOR")]
    load: u64,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

fn load(text: &str) -> Result<u64, String> {
    load_milli(text).ok_or_else(|| "expected a number such as `1.3`, above 0 and at most 100".into())
}

pub(super) fn run(args: &OpenbArgs) -> Result<()> {
    let policy: PackPolicy = args.policy.parse().map_err(anyhow::Error::msg)?;
    let trace = read_openb(&super::read(&args.nodes)?, &super::read(&args.pods)?)
        .with_context(|| format!("`{}` and `{}` are no trace", args.nodes.display(), args.pods.display()))?;
    let watch = Watch::new("packing");
    let options = PackOptions { policy, seed: args.seed, load_milli: args.load };
    let outcome = pack(&trace, options, &mut || watch.nanos())?;
    drop(watch);
    if args.json {
        return super::print_json(&outcome);
    }
    say!("policy     {} (ties: {})", args.policy, outcome.tie_rule);
    say!("cluster    {} nodes, {} GPUs", outcome.nodes, outcome.gpus);
    say!("arrived    {} pods, of which {} fitted nowhere", outcome.pods, outcome.failed);
    for (load, share) in &outcome.allocated_percent {
        say!("allocated  {}.{:02} % of all GPUs when {load} % were asked for", share.0 / 100, share.0 % 100);
    }
    say!("decision   p50 {:.1} µs, p99 {:.1} µs", outcome.decision_us.p50, outcome.decision_us.p99);
    say!("digest     {}", outcome.digest);
    Ok(())
}
