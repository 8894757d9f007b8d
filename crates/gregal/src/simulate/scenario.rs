//! `gregal simulate kueue`: a generated load through queues with quotas and borrowing.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gregal_sim::queue::Scenario;

use super::Watch;

#[derive(Debug, Args)]
pub(crate) struct KueueArgs {
    /// The scenario as JSON: `cohorts`, `queues`, `guarantee`, `borrow_max`, `lend_max` and `classes` of workloads (`name`,
    /// `count`, `gpus`, `run_ms`, `every_ms`, `priority`); absent: Kueue's published performance scenario of 15,000 workloads
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &KueueArgs) -> Result<()> {
    let scenario = match &args.scenario {
        Some(file) => {
            serde_json::from_str(&super::read(file)?).with_context(|| format!("`{}` is no scenario", file.display()))?
        }
        None => Scenario::named("kueue-15000").context("the scenario that is built in is missing")?,
    };
    let watch = Watch::new("admitting");
    let outcome = scenario.run(&mut || watch.micros())?;
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
