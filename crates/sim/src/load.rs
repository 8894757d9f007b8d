//! Loads: who asks for what, when, and for how long it then runs.

use serde::{Deserialize, Serialize};

use crate::jobs::OwnJob;

/// One request of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// When it arrives, in seconds since the load's beginning.
    pub arrival_s: u64,
    /// How long it runs once started, in seconds. The scheduler does not see this.
    pub duration_s: u64,
    /// The limit that the scheduler does see, in seconds: no less than the run.
    pub limit_s: u64,
    /// CPU cores it needs.
    pub cpus: u32,
    /// Accelerators it needs.
    pub gpus: u32,
}

/// One's own jobs as a load, sorted by arrival; jobs of one second keep the order of the file. A run without a limit, or with one
/// that it passes, is its own limit: the platform would have ended it there.
pub fn load_of(jobs: &[OwnJob]) -> Vec<Request> {
    let request = |job: &OwnJob| Request {
        arrival_s: job.submit_s,
        duration_s: job.run_s,
        limit_s: job.limit_s.unwrap_or(0).max(job.run_s),
        cpus: job.cpus,
        gpus: job.gpus,
    };
    let mut load: Vec<Request> = jobs.iter().map(request).collect();
    load.sort_by_key(|request| request.arrival_s);
    load
}
