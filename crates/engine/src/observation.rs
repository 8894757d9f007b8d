//! What an engine knows about one workload.

use serde::{Deserialize, Serialize};

use crate::{Energy, WorkloadId};

/// One workload, as it is now or as it ended. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Which attempt.
    pub id: WorkloadId,
    /// Where it stands.
    pub state: State,
    /// What it has used so far, or used in all once it exited.
    pub usage: Usage,
}

impl Observation {
    /// How it ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            State::Starting | State::Running { .. } => None,
        }
    }
}

/// Where a workload stands. It only ever moves down this list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// Accepted; its program has not begun.
    Starting,
    /// Its program began.
    Running {
        /// When, in Unix milliseconds.
        since_ms: u64,
    },
    /// It is over, and none of its processes is left.
    Exited(Exit),
}

/// How a workload ended. Never changes once observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Why.
    pub reason: Reason,
    /// The program's exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What a person should read besides, such as why the program could not begin.
    pub message: Option<String>,
    /// When its program began, in Unix milliseconds; none if it never did.
    pub began_ms: Option<u64>,
    /// When it ended, in Unix milliseconds. For what was lost: when it was last known to live.
    pub at_ms: u64,
}

/// Why a workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The program ended with code 0.
    Finished,
    /// The program ended with another code or a signal of its own, or could not begin.
    Failed,
    /// It ran into its time limit.
    TimedOut,
    /// It was ended for using more memory than granted.
    OutOfMemory,
    /// Somebody asked for its end.
    Stopped,
    /// It is gone and nobody saw how: the machine or the engine's process died with it.
    Lost,
}

/// What a workload has used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of all its processes, in milliseconds.
    pub cpu_ms: u64,
    /// Time since its program began, in milliseconds.
    pub wall_ms: u64,
    /// The most memory it held at once, in bytes.
    pub memory_peak_bytes: u64,
    /// The energy it used.
    pub energy: Energy,
}
