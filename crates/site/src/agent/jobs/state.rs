//! What the site knows of one attempt, kept on disk so that a restart goes on where it was.

use std::{
    io,
    path::{Path, PathBuf},
};

use gregal_api::protocol::{AttemptRef, ProducedModel, WantedAttempt};
use gregal_core::{
    id::JobId,
    job::{Heldout, JobEnd},
    time::Time,
};
use serde::{Deserialize, Serialize};

use crate::{agent::meter::Metered, durable};

/// Why the agent asked an attempt to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopWhy {
    /// It was cancelled, or is wanted no more.
    Cancelled,
    /// It makes room for others, and another attempt goes on with what it saved.
    Preempted,
    /// It used up its time.
    TimedOut,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) at: Time,
    pub(crate) end: JobEnd,
    pub(crate) succeeded: bool,
    pub(crate) cancelled: bool,
    pub(crate) product: Option<ProducedModel>,
    pub(crate) heldout: Option<Heldout>,
}

/// What a training said of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrainFacts {
    pub(crate) parameters: u64,
    pub(crate) flop: u64,
    pub(crate) tokens: u64,
    pub(crate) heldout: Option<Heldout>,
}

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AttemptState {
    /// What was asked, as it was asked first.
    pub(crate) wanted: WantedAttempt,
    /// The newest run that was begun; 0 before the first.
    pub(crate) run: u32,
    /// Whether the job's folder holds everything a run needs.
    pub(crate) prepared: bool,
    /// When it was ready first.
    pub(crate) since: Option<Time>,
    pub(crate) metered: Metered,
    pub(crate) energy_method: Option<String>,
    /// Why it was asked to stop, if it was.
    pub(crate) stopping: Option<StopWhy>,
    pub(crate) facts: TrainFacts,
    pub(crate) ended: Option<Ended>,
    /// Number after the last usage record of it in the spool.
    pub(crate) spooled_until: u64,
    /// Whether control has its end. Kept until it is wanted no more: an old intent must not start it again.
    pub(crate) acknowledged: bool,
}

impl AttemptState {
    pub(crate) fn new(wanted: WantedAttempt) -> Self {
        Self {
            metered: Metered::after(&wanted.billed),
            wanted,
            run: 0,
            prepared: false,
            since: None,
            energy_method: None,
            stopping: None,
            facts: TrainFacts::default(),
            ended: None,
            spooled_until: 0,
            acknowledged: false,
        }
    }

    pub(crate) const fn reference(&self) -> AttemptRef {
        AttemptRef { job: self.wanted.job, attempt: self.wanted.attempt }
    }

    /// The longest it may be billed, in milliseconds.
    pub(crate) fn limit_ms(&self) -> u64 {
        u64::from(self.wanted.seconds_max) * 1000
    }

    /// Keeps it.
    pub(crate) fn save(&self, folder: &JobFolder) -> io::Result<()> {
        durable::write(&folder.state(self.wanted.attempt), &serde_json::to_vec(self)?)
    }
}

/// Where a job's things lie. Checkpoints and the log are the job's, not an attempt's: a later attempt goes on with them.
#[derive(Debug, Clone)]
pub(crate) struct JobFolder(PathBuf);

impl JobFolder {
    pub(crate) fn new(jobs: &Path, job: JobId) -> Self {
        Self(jobs.join(job.to_string()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn state(&self, attempt: u32) -> PathBuf {
        self.0.join(format!("attempt-{attempt}.json"))
    }

    /// What the program reads.
    pub(crate) fn input(&self) -> PathBuf {
        self.0.join("input")
    }

    /// What the program writes: checkpoints, the finished model.
    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// What people read.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log.txt")
    }

    /// What the trainer says to the agent, one JSON object a line.
    pub(crate) fn progress(&self, attempt: u32, run: u32) -> PathBuf {
        self.0.join(format!("progress-{attempt}-{run}.jsonl"))
    }

    /// Every attempt that was kept here.
    pub(crate) fn load(&self) -> io::Result<Vec<AttemptState>> {
        let mut attempts = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("attempt-") && path.extension().is_some_and(|extension| extension == "json") {
                attempts.push(serde_json::from_slice(&std::fs::read(&path)?)?);
            }
        }
        Ok(attempts)
    }

    /// Removes what only a running attempt needs; the log stays.
    pub(crate) fn clean(&self) -> io::Result<()> {
        durable::remove_folder(&self.input())?;
        durable::remove_folder(&self.work())?;
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("progress-") {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}
