//! What a replay of queueing came to.

use serde::{Deserialize, Serialize};

use crate::Spread;

/// How evenly finishing times are spread, as Shockwave's authors count: a job's time in the system by the time it would
/// have taken alone on its share, one of as many shares as there are jobs in the trace, of all accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// The worst ratio; 1 or less is fair.
    pub worst: f64,
    /// Jobs with a ratio above 1.05, in percent.
    pub unfair_percent: f64,
}

impl Fairness {
    /// Of times in the system and times alone, in milliseconds, of all jobs of a trace.
    pub fn of(jobs: &[(u64, u64)], gpus: u64) -> Self {
        let contention = (jobs.len() as f64 / gpus.max(1) as f64).max(1.0);
        let ratios: Vec<f64> =
            jobs.iter().map(|(jct, alone)| *jct as f64 / ((*alone).max(1) as f64 * contention)).collect();
        let unfair = ratios.iter().filter(|ratio| **ratio > 1.05).count();
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        Self { worst, unfair_percent: 100.0 * unfair as f64 / ratios.len().max(1) as f64 }
    }
}

/// What a replay came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The policy's name.
    pub policy: String,
    /// How ties are settled.
    pub ties: String,
    /// Jobs that ran to their end.
    pub finished: usize,
    /// Jobs refused at once, because they could never run here.
    pub refused: usize,
    /// Time in the system without progress: waiting, saving and loading work; in seconds.
    pub wait_s: Spread,
    /// Time until the first start, in seconds.
    pub first_start_s: Spread,
    /// The longest single wait, between submission or a stop and the next start, in seconds.
    pub single_wait_s_max: u64,
    /// From submission to end, in seconds.
    pub jct_s: Spread,
    /// From the first submission to the last end, in seconds.
    pub makespan_s: u64,
    /// The same, in milliseconds.
    pub makespan_ms: u64,
    /// Useful accelerator-time of the accelerator-time that there was between the first submission and the last end: nodes that
    /// were down or reserved count as not there.
    pub utilisation: f64,
    /// Accelerator-seconds that saving and loading work took.
    pub overhead_gpu_s: u64,
    /// Runs that were stopped for others.
    pub preemptions: u64,
    /// The most stops of one job.
    pub preemptions_of_one_max: u32,
    /// Runs that were stopped because their nodes went down or were reserved.
    pub interruptions: u64,
    /// Accelerator-seconds of work that was lost so.
    pub lost_gpu_s: u64,
    /// Starts that were promised.
    pub promises: u64,
    /// Promised jobs that started later than promised.
    pub late_promises: u64,
    /// After how long a wait a job goes before all that waited less, in seconds; none: never.
    pub overdue_after_s: Option<u64>,
    /// How evenly finishing times are spread.
    pub fairness: Fairness,
    /// What an independent count of every decision found wrong: accelerators given out twice, limits passed. Must be 0.
    pub violations: u64,
    /// Passes made.
    pub passes: u64,
    /// How long a pass took, in microseconds; not part of the digest.
    pub decision_us: Spread,
    /// SHA-256 over every decision in order, hex: two replays agree when this does.
    pub digest: String,
}
