//! `gregal simulate admission`: a generated load through queues with quotas and borrowing.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;
use gregal_sim::queue::Scenario;

use super::Watch;

#[derive(Debug, Args)]
pub(crate) struct AdmissionArgs {
    /// The scenario: `kueue-15000`, Kueue's published performance scenario of 15,000 workloads, or a file of JSON with `cohorts`,
    /// `queues` (of each cohort), `guarantee`, `borrow_max`, `lend_max` (of each queue; null: without end) and `classes` of
    /// workloads (`name`, `count` for each queue, `gpus`, `run_ms`, `every_ms`, `priority`, 0 to 255, higher first)
    #[arg(long, value_name = "NAME|FILE")]
    scenario: PathBuf,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// The scenario that is built in by this name, else the one in the file.
fn scenario(asked: &Path) -> Result<Scenario> {
    if let Some(built_in) = asked.to_str().and_then(Scenario::named) {
        return Ok(built_in);
    }
    serde_json::from_str(&super::read(asked)?).with_context(|| format!("`{}` is no scenario", asked.display()))
}

pub(super) fn run(args: &AdmissionArgs) -> Result<()> {
    let scenario = scenario(&args.scenario)?;
    let mut watch = Watch::new("admitting");
    let outcome = scenario.run(&mut watch)?;
    drop(watch);
    if args.json {
        return super::print_json(&outcome);
    }
    say!("admitted   {} workloads; {} could never be", outcome.admitted, outcome.refused);
    say!("makespan   {:.1} s; the work alone needs {:.1} s", outcome.makespan_s, outcome.work_s);
    say!("took       {:.2} s of real time in {} passes", outcome.wall_s, outcome.passes);
    say!("violations {}", outcome.violations);
    for (class, wait) in &outcome.wait_ms {
        say!("wait       {class}: mean {} ms, p99 {} ms, longest {} ms", wait.mean, wait.p99, wait.max);
    }
    say!("decision   p50 {} µs, p99 {} µs", outcome.decision_us.p50, outcome.decision_us.p99);
    say!("digest     {}", outcome.digest);
    Ok(())
}
