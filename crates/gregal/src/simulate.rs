//! `gregal simulate`: what loads would have met on other machines. Pure replays: nothing is started, nothing is sent.

/// Prints a line; whoever reads may have stopped reading.
macro_rules! say {
    ($($argument:tt)*) => { writeln!(std::io::stdout(), $($argument)*)? };
}

mod admission;
mod gangs;
mod load;
mod openb;
mod output;
mod queue;
mod speed;

use std::{
    io::{ErrorKind, Write as _},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Replay loads and published traces through the scheduling code, to plan capacity and to compare policies
#[derive(Debug, Subcommand)]
pub(crate) enum SimulateVerb {
    /// One's own load of jobs on one pool, by the scheduler that is live
    Load(load::LoadArgs),
    /// Pack pods onto nodes as the openb traces of Alibaba (2023) do, and compare placement policies
    Openb(openb::OpenbArgs),
    /// Queue a trace of jobs on a pool of nodes, and compare queueing policies
    Queue(queue::QueueArgs),
    /// Admit a generated load through queues with quotas
    Admission(admission::AdmissionArgs),
    /// Place gangs on a network of hosts and leaves
    Gangs(gangs::GangsArgs),
    /// Measure how long decisions take on a large cluster
    Speed(speed::SpeedArgs),
}

/// Replays and prints. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn run(verb: &SimulateVerb) -> Result<()> {
    let done = replay(verb);
    let is_gone = |error: &anyhow::Error| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    done.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
}

fn replay(verb: &SimulateVerb) -> Result<()> {
    match verb {
        SimulateVerb::Load(args) => load::run(args),
        SimulateVerb::Openb(args) => openb::run(args),
        SimulateVerb::Queue(args) => queue::run(args),
        SimulateVerb::Admission(args) => admission::run(args),
        SimulateVerb::Gangs(args) => gangs::run(args),
        SimulateVerb::Speed(args) => speed::run(args),
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("could not read `{}`", file.display()))
}

fn print_json(outcome: &impl Serialize) -> Result<()> {
    say!("{}", serde_json::to_string_pretty(outcome)?);
    Ok(())
}

/// What Linux says of this process's memory under a name, in bytes; none elsewhere.
fn memory_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A steady clock for a replay, and a bar that says how far it is to whoever watches.
struct Watch {
    start: Instant,
    bar: ProgressBar,
}

impl Watch {
    fn new(what: &str) -> Self {
        // Four times a second is as often as anybody looks; without a terminal nothing is drawn.
        let target = ProgressDrawTarget::stderr_with_hz(4);
        let bar = ProgressBar::with_draw_target(None, target).with_message(what.to_owned());
        Self { start: Instant::now(), bar }
    }
}

impl gregal_sim::Watch for Watch {
    fn nanos(&mut self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn memory_bytes(&mut self) -> Option<u64> {
        memory_bytes("VmRSS:")
    }

    fn progress(&mut self, done: u64, all: u64) {
        if self.bar.length() != Some(all) {
            self.bar.set_length(all);
            // A template of ours; if it could not be read, the bar keeps the usual style.
            if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}, {eta} left") {
                self.bar.set_style(style);
            }
        }
        self.bar.set_position(done);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
