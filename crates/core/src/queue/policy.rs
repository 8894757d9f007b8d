//! Policies by name, and the numbers that make them.

use serde::{Deserialize, Serialize};

const SECOND_MS: u64 = 1000;
const HOUR_MS: u64 = 3600 * SECOND_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// In which order waiting jobs are looked at, after the overdue ones, which always come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they were submitted.
    Submission,
    /// Priority, then who would first be treated unfairly: a job is due when it has been there for its stated limit times
    /// a stretch. Makes finishing times fair (Themis, NSDI'20) where owners know how long their jobs run.
    Due {
        /// Thousandths: 2000 is due after twice its limit.
        stretch_milli: u64,
    },
    /// Priority, then what lies within its owner's guarantee, then work done so far, then the least work expected.
    Work,
}

/// How running jobs make room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preemption {
    /// Work, in accelerator-milliseconds, after which a job sinks one level. A job gives way to a waiting one of a higher
    /// level, never to one of its own: that would go back and forth for nothing.
    pub levels: Vec<u64>,
    /// How long every run is left alone. Doubles with every time the job was stopped before, six times at most, so that
    /// nobody is picked again and again.
    pub protected_ms: u64,
    /// What it takes to save a job's work; its accelerators stay taken meanwhile.
    pub checkpoint_ms: u64,
    /// What it takes to load it again, without progress.
    pub restart_ms: u64,
    /// The most searches for victims in one pass; the rest is searched in the next one.
    pub searches_max: u32,
}

/// How a queue decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The order.
    pub order: Order,
    /// Whether a job that lacks accelerators stops all behind it.
    pub strict: bool,
    /// After how long a wait the first job that lacks accelerators is promised a start that nobody delays. None: never.
    pub promise_after_ms: Option<u64>,
    /// The furthest ahead that a start is promised. Where owners state no limit, runs count with the platform's, so a start
    /// lies months ahead: nobody can plan with it, and what is kept for it stays idle that long. None: however far.
    pub promise_within_ms: Option<u64>,
    /// Whether who passes only leaves enough accelerators by number, as EASY is defined, rather than by place. A start
    /// reserved so may be late for want of accelerators in one place, so it is no promise: to compare with others only.
    pub counted: bool,
    /// After how long a wait a job is overdue: looked at before all that are not, the longest known first.
    pub overdue_after_ms: Option<u64>,
    /// The run time counted for a job that states no limit or a longer one; the platform ends every run there.
    pub limit_max_ms: u64,
    /// How many ended runs of a class are remembered.
    pub history_runs: usize,
    /// How long it takes until half of what an organisation used is forgotten.
    pub usage_half_life_ms: u64,
    /// How strongly what an organisation used lately moves it back, in thousandths: 0 not at all, 1000 in full.
    pub fairness_milli: u64,
    /// Whether and how running jobs make room.
    pub preemption: Option<Preemption>,
}

impl Policy {
    /// The names `named` knows.
    pub const NAMES: [&'static str; 7] =
        ["fifo", "fifo-easy", "fifo-promise", "fair-finish", "steady", "default", "live"];

    /// A policy by its name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "fifo" => Self::fifo(),
            "fifo-easy" => Self::fifo_easy(),
            "fifo-promise" => Self::fifo_promise(),
            "fair-finish" => Self::fair_finish(),
            "steady" => Self::steady(),
            "default" => Self::default(),
            "live" => Self::live(),
            _ => return None,
        })
    }

    /// What drives the live plane: the default, but for that the first who waits is promised a start at once. There every
    /// job states a limit and its owner holds the money for it, so a promise is near and worth making: on the philly trace
    /// with stated limits it takes the mean wait from 3,709 s to 3,044 s, and from 17,396 s to 14,051 s where nobody may be
    /// stopped. Where nobody states a limit it costs a little instead (philly on 2026-11-23: 4,191 s to 4,828 s).
    pub fn live() -> Self {
        Self { promise_after_ms: Some(0), promise_within_ms: None, ..Self::default() }
    }

    /// First come, first served; who cannot start stops all behind.
    pub fn fifo() -> Self {
        Self {
            order: Order::Submission,
            strict: true,
            promise_after_ms: None,
            promise_within_ms: None,
            counted: false,
            overdue_after_ms: None,
            limit_max_ms: 60 * DAY_MS,
            history_runs: 100,
            usage_half_life_ms: 7 * DAY_MS,
            fairness_milli: 0,
            preemption: None,
        }
    }

    /// First come, first served; for the first who cannot start, accelerators are reserved by the limits of what runs, and
    /// others pass as far as enough remain by number (EASY backfill, Lifka 1995).
    pub fn fifo_easy() -> Self {
        Self { counted: true, ..Self::fifo_promise() }
    }

    /// As EASY, but what is reserved is a place, so that the start can be promised.
    pub fn fifo_promise() -> Self {
        Self { strict: false, promise_after_ms: Some(0), ..Self::fifo() }
    }

    /// The default with fair finishing times as its order: a job is due after 3.75 times its limit.
    pub fn fair_finish() -> Self {
        Self { order: Order::Due { stretch_milli: 3750 }, ..Self::default() }
    }

    /// The default without stopping anything that runs. Making sure of large jobs then means to leave accelerators idle, so
    /// it is done later.
    pub fn steady() -> Self {
        let after = Some(14 * DAY_MS);
        Self {
            preemption: None,
            promise_after_ms: after,
            promise_within_ms: None,
            overdue_after_ms: after,
            ..Self::default()
        }
    }
}

impl Default for Policy {
    /// Least expected work first, from history; least attained service among what may be stopped (Tiresias, NSDI'19).
    fn default() -> Self {
        Self {
            order: Order::Work,
            strict: false,
            promise_after_ms: Some(2 * DAY_MS),
            promise_within_ms: Some(14 * DAY_MS),
            counted: false,
            overdue_after_ms: Some(2 * DAY_MS),
            limit_max_ms: 60 * DAY_MS,
            history_runs: 100,
            usage_half_life_ms: 7 * DAY_MS,
            fairness_milli: 300,
            preemption: Some(Preemption {
                levels: vec![4 * HOUR_MS, 32 * HOUR_MS, 256 * HOUR_MS],
                protected_ms: 600 * SECOND_MS,
                checkpoint_ms: 60 * SECOND_MS,
                restart_ms: 60 * SECOND_MS,
                searches_max: 64,
            }),
        }
    }
}
