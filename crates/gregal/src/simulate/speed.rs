//! `gregal simulate speed`: how long decisions take on a large cluster. Figures of the machine it runs on.

use std::io::Write as _;

use anyhow::{Context, Result};
use clap::Args;
use gregal_core::queue::Policy;
use gregal_sim::{
    queue::{Latency, Load, latency},
    speed::{SpeedOptions, SpeedOutcome, speed},
};
use serde::Serialize;

use super::Watch;

#[derive(Debug, Args)]
pub(crate) struct SpeedArgs {
    /// Nodes
    #[arg(long, default_value_t = 12_500, value_name = "N")]
    nodes: u32,
    /// Accelerators of each node
    #[arg(long, default_value_t = 8, value_name = "G")]
    gpus_per_node: u8,
    /// Jobs that wait
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    queued: u32,
    /// Passes of each kind to measure
    #[arg(long, default_value_t = 100, value_name = "N")]
    rounds: u32,
    /// Queueing policy
    #[arg(long, default_value = "default", value_name = "NAME")]
    policy: String,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    placing: SpeedOutcome,
    queueing: Latency,
    /// The most memory that the process held at any time, in bytes; a snapshot of the queue and one built of it stood beside it.
    peak_bytes: Option<u64>,
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

pub(super) fn run(args: &SpeedArgs) -> Result<()> {
    let load = Load {
        nodes: args.nodes,
        gpus_per_node: u32::from(args.gpus_per_node),
        queued: args.queued,
        rounds: args.rounds,
        seed: 1,
        policy: args.policy.clone(),
    };
    // Before anything else has taken memory and given it back, so that what the queue takes is seen.
    let mut watch = Watch::new("queueing");
    let queueing = latency(load, &mut watch)?
        .with_context(|| format!("no policy `{}`: there are {}", args.policy, Policy::NAMES.join(", ")))?;
    drop(watch);
    let options = SpeedOptions {
        nodes: usize::try_from(args.nodes)?,
        gpus_per_node: args.gpus_per_node,
        turns: 20_000,
        seed: 42,
    };
    let mut watch = Watch::new("placing");
    let placing = speed(options, &mut watch)?;
    drop(watch);
    let outcome = Outcome { placing, queueing, peak_bytes: super::memory_bytes("VmHWM:") };
    if args.json {
        return super::print_json(&outcome);
    }
    let Outcome { placing, queueing, peak_bytes } = &outcome;
    say!(
        "placing    {:.0} a second; one decision p50 {:.1} µs, p99 {:.1} µs",
        placing.placements_per_s,
        micros(placing.place_ns.p50),
        micros(placing.place_ns.p99)
    );
    say!(
        "           one release and one placement p99 {:.1} µs; all anew {:.1} ms",
        micros(placing.turn_ns.p99),
        placing.rebuild_ms
    );
    say!("queueing   {} run, {} wait", queueing.running, queueing.waiting);
    say!("           full pass p50 {} µs, p99 {} µs", queueing.full_us.p50, queueing.full_us.p99);
    say!("           incremental pass p50 {} µs, p99 {} µs", queueing.incremental_us.p50, queueing.incremental_us.p99);
    let mebibytes = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string());
    let per_job = queueing.state_bytes_per_job.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
    say!("memory     {} MiB for the queue, {per_job} bytes a job", mebibytes(queueing.state_bytes));
    say!("           {} MiB at most, with a snapshot and a queue built of it", mebibytes(*peak_bytes));
    Ok(())
}
