//! `gregal simulate queue`: how long the jobs of a trace wait by each queueing policy.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gregal_core::queue::Policy;
use gregal_sim::queue::{Format, Options, Spread, Trace, replay};

use super::Watch;

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The trace
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// What the trace is: `csv` (header with `submit_s`, `run_s`, `gpus` and, if wanted, `queue`, `limit_s`, `priority`), `philly`, `swf`
    /// or `shockwave`
    #[arg(long, default_value = "csv", value_name = "NAME")]
    format: String,
    /// Nodes of the pool
    #[arg(long, value_name = "N")]
    nodes: u32,
    /// Accelerators of each node
    #[arg(long, value_name = "G")]
    gpus_per_node: u32,
    /// What if there were so many nodes more
    #[arg(long, default_value_t = 0, value_name = "N")]
    add_nodes: u32,
    /// Queueing policy: fifo, fifo-easy, fifo-promise, fair-finish, steady or default
    #[arg(long, default_value = "default", value_name = "NAME")]
    policy: String,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &QueueArgs) -> Result<()> {
    let format = Format::named(&args.format)
        .with_context(|| format!("no format `{}`: there are csv, philly, swf and shockwave", args.format))?;
    let options = Options::named(&args.policy, args.nodes.saturating_add(args.add_nodes), args.gpus_per_node)
        .with_context(|| format!("no policy `{}`: there are {}", args.policy, Policy::NAMES.join(", ")))?;
    let trace = Trace::read(&super::read(&args.trace)?, format)
        .with_context(|| format!("`{}` is no {} trace", args.trace.display(), args.format))?;
    let watch = Watch::new("queueing");
    let report = replay(&trace, &options, &mut || watch.micros())?;
    drop(watch);
    if args.json {
        return super::print_json(&report);
    }
    say!("policy     {} (ties: {})", report.policy, report.ties);
    say!("finished   {} jobs; {} could never run here", report.finished, report.refused);
    say!("wait       {}", said(report.wait_s));
    say!("in all     {} from submission to end", said(report.jct_s));
    say!("makespan   {} s, {:.1} % of the accelerators' time used", report.makespan_s, 100.0 * report.utilisation);
    say!("stopped    {} runs, {} accelerator-seconds to save and load work", report.preemptions, report.overhead_gpu_s);
    say!("promised   {} starts, of which {} came late", report.promises, report.late_promises);
    say!(
        "fairness   worst finish-time ratio {:.2}, {:.1} % unfair",
        report.fairness.worst,
        report.fairness.unfair_percent
    );
    say!("violations {}", report.violations);
    say!("decision   p50 {} µs, p99 {} µs", report.decision_us.p50, report.decision_us.p99);
    say!("digest     {}", report.digest);
    Ok(())
}

fn said(spread: Spread) -> String {
    format!("mean {} s, median {} s, p99 {} s, longest {} s", spread.mean, spread.p50, spread.p99, spread.max)
}
