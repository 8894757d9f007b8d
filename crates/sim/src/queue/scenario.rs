//! Generated loads on queues with quotas: how fast everything is admitted, and whether any limit is passed.
//!
//! A scenario is a JSON object; `kueue-15000` is built in and looks like this:
//!
//! ```json
//! {
//!   "cohorts": 5,
//!   "queues": 6,
//!   "guarantee": 20,
//!   "borrow_max": 100,
//!   "lend_max": null,
//!   "classes": [
//!     {"name": "small", "count": 350, "gpus": 1, "run_ms": 200, "every_ms": 100, "priority": 50},
//!     {"name": "medium", "count": 100, "gpus": 5, "run_ms": 500, "every_ms": 500, "priority": 100},
//!     {"name": "large", "count": 50, "gpus": 20, "run_ms": 1000, "every_ms": 1200, "priority": 200}
//!   ]
//! }
//! ```
//!
//! Every cohort has so many queues; every queue owns `guarantee` units, lends at most `lend_max` (all, if null) and borrows
//! at most `borrow_max` (without end, if null) from its cohort, and gets `count` workloads of every class, one each
//! `every_ms`.

use gregal_core::queue::{Config, Ground, Policy, Quota, Share, ShareId, Sku};
use serde::{Deserialize, Serialize};

use super::{
    run::{Limits, Options, ReplayError, Replayed, replay_on},
    trace::{Trace, TraceJob},
};
use crate::{NodeKind, Spread, Watch};

/// The most queues, and the most workloads, of a scenario.
const QUEUES_MAX: u64 = 10_000;
const WORKLOADS_MAX: u64 = 5_000_000;
/// The longest time a scenario may speak of, in milliseconds: a year.
const MILLIS_MAX: u64 = 366 * 86_400_000;

/// Queues with quotas, and what comes to each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Groups of queues that lend to each other.
    pub cohorts: u32,
    /// Queues of each cohort.
    pub queues: u32,
    /// Units each queue owns.
    pub guarantee: u32,
    /// The most units a queue may use beyond its own.
    pub borrow_max: Option<u32>,
    /// The most of its units a queue lends.
    pub lend_max: Option<u32>,
    /// What comes to every queue.
    pub classes: Vec<Class>,
}

/// Workloads that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// What it is called.
    pub name: String,
    /// How many come to each queue.
    pub count: u32,
    /// Units each needs.
    pub gpus: u32,
    /// How long each runs, in milliseconds.
    pub run_ms: u64,
    /// How long after one the next comes, in milliseconds.
    pub every_ms: u64,
    /// Higher goes first.
    pub priority: u8,
}

/// Why a scenario cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// It has nothing to run, or too much.
    #[error(
        "a scenario has 1 to {QUEUES_MAX} queues that own something, and 1 to {WORKLOADS_MAX} workloads of at least 1 unit within a year"
    )]
    Size,
    /// The replay failed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// What a scenario came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Admission {
    /// Workloads that were admitted and ended.
    pub admitted: usize,
    /// Workloads that could never be admitted.
    pub refused: usize,
    /// From the first workload to the last end in the scenario's own time, in seconds.
    pub makespan_s: f64,
    /// What the work alone takes with every unit busy, in seconds.
    pub work_s: f64,
    /// How long the whole run took, decisions and replay, in seconds of real time.
    pub wall_s: f64,
    /// Limits passed and units given out twice, counted independently. Must be 0.
    pub violations: u64,
    /// Passes made.
    pub passes: u64,
    /// How long a pass took, in microseconds.
    pub decision_us: Spread,
    /// Waiting, in milliseconds, by class.
    pub wait_ms: Vec<(String, Spread)>,
    /// SHA-256 over every decision in order, hex.
    pub digest: String,
}

impl Scenario {
    /// The scenarios that are built in, by name.
    pub fn named(name: &str) -> Option<Self> {
        let class = |name: &str, count, gpus, run_ms, every_ms, priority| Class {
            name: name.into(),
            count,
            gpus,
            run_ms,
            every_ms,
            priority,
        };
        // Kueue's performance test, configs/baseline: 30 queues, 15,000 workloads.
        (name == "kueue-15000").then(|| Self {
            cohorts: 5,
            queues: 6,
            guarantee: 20,
            borrow_max: Some(100),
            lend_max: None,
            classes: vec![
                class("small", 350, 1, 200, 100, 50),
                class("medium", 100, 5, 500, 500, 100),
                class("large", 50, 20, 1000, 1200, 200),
            ],
        })
    }

    /// Runs it.
    pub fn run(&self, watch: &mut dyn Watch) -> Result<Admission, ScenarioError> {
        let units = self.units().ok_or(ScenarioError::Size)?;
        let start = watch.nanos();
        let options = Options {
            // Units are like each other: a node each.
            kinds: vec![NodeKind { model: None, nodes: units, gpus_per_node: 1 }],
            policy_name: "steady".into(),
            policy: Policy::steady(),
            limits: Limits::Stated,
            tick_ms: 1000,
            absences: Vec::new(),
        };
        let config = self.config(units, options.policy.clone());
        let shares: Vec<ShareId> = config
            .shares
            .iter()
            .zip(0..)
            .filter(|(share, _)| share.parent != Some(ShareId(0)) && share.parent.is_some())
            .map(|(_, share)| ShareId(share))
            .collect();
        let (trace, classes) = self.trace(shares.len());
        let Replayed { report, waits_ms, .. } = replay_on(&trace, &options, config, shares, watch)?;
        let of_class = |class: usize| {
            let both = waits_ms.iter().zip(&classes);
            Spread::of(both.filter(|(_, of)| **of == class).filter_map(|(wait, _)| *wait).collect())
        };
        let work: u128 = trace.jobs.iter().map(|job| u128::from(job.run_ms) * u128::from(job.gpus)).sum();
        Ok(Admission {
            admitted: report.finished,
            refused: report.refused,
            makespan_s: report.makespan_ms as f64 / 1000.0,
            work_s: work as f64 / f64::from(units) / 1000.0,
            wall_s: watch.nanos().saturating_sub(start) as f64 / 1e9,
            violations: report.violations,
            passes: report.passes,
            decision_us: report.decision_us,
            wait_ms: self.classes.iter().enumerate().map(|(at, class)| (class.name.clone(), of_class(at))).collect(),
            digest: report.digest,
        })
    }

    /// All units there are, if the scenario is of a size that can be run.
    fn units(&self) -> Option<u32> {
        let queues = u64::from(self.cohorts) * u64::from(self.queues);
        let each: u64 = self.classes.iter().map(|class| u64::from(class.count)).sum();
        let sound = |class: &Class| {
            let last = class.every_ms.checked_mul(u64::from(class.count));
            class.gpus > 0 && class.run_ms <= MILLIS_MAX && last.is_some_and(|last| last <= MILLIS_MAX)
        };
        let units = u32::try_from(queues.checked_mul(u64::from(self.guarantee))?).ok().filter(|units| *units > 0)?;
        let fits = queues <= QUEUES_MAX && (1..=WORKLOADS_MAX).contains(&queues.checked_mul(each)?);
        (fits && self.classes.iter().all(sound)).then_some(units)
    }

    /// A top, the cohorts, which lend nothing to each other, and their queues.
    fn config(&self, units: u32, policy: Policy) -> Config {
        let share = |parent, quota| Share { parent, weight: 1, quotas: vec![quota] };
        let apart = Quota { guarantee: 0, borrow_max: Some(0), lend_max: Some(0) };
        let queue = Quota { guarantee: self.guarantee, borrow_max: self.borrow_max, lend_max: self.lend_max };
        let mut shares = vec![share(None, Quota::default())];
        shares.extend((0..self.cohorts).map(|_| share(Some(ShareId(0)), apart)));
        for cohort in 1..=self.cohorts {
            shares.extend((0..self.queues).map(|_| share(Some(ShareId(cohort)), queue)));
        }
        Config { ground: Ground::Uniform(vec![Sku { nodes: units, gpus_per_node: 1 }]), shares, policy }
    }

    /// The workloads in order of arrival, and of which class each is.
    fn trace(&self, queues: usize) -> (Trace, Vec<usize>) {
        let mut jobs: Vec<(TraceJob, usize)> = Vec::new();
        for (at, class) in self.classes.iter().enumerate() {
            for number in 0..u64::from(class.count) {
                for queue in (0..).take(queues) {
                    let submit_ms = number * class.every_ms;
                    let Class { gpus, run_ms, priority, .. } = *class;
                    let (limit_ms, model, line) = (None, None, 0);
                    jobs.push((TraceJob { submit_ms, run_ms, gpus, queue, limit_ms, priority, model, line }, at));
                }
            }
        }
        jobs.sort_by_key(|(job, _)| job.submit_ms);
        let (jobs, classes) = jobs.into_iter().unzip();
        let queues = (0..queues).map(|queue| format!("queue-{queue}")).collect();
        (Trace { jobs, queues, models: Vec::new(), skipped: 0 }, classes)
    }
}
