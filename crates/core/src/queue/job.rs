//! A job as the queue knows it.

use serde::{Deserialize, Serialize};

use super::{
    history::Class,
    policy::{Order, Policy},
    pool::Slot,
    quota::ShareId,
};
use crate::id::JobId;

/// What is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Which job.
    pub job: JobId,
    /// Whose share it uses.
    pub share: ShareId,
    /// Which kind, by its place in the configuration: what the quota tree counts it as.
    pub sku: u16,
    /// How many accelerators, all at once or none. On mixed ground the units of all members of its shape.
    pub gpus: u32,
    /// Its shape, by its place among those of a mixed ground; 0 on uniform ground.
    #[serde(default)]
    pub shape: u32,
    /// How long it may run at most, in milliseconds of work: what its owner says, not what it will take.
    pub limit_ms: Option<u64>,
    /// Higher goes first.
    pub priority: u8,
    /// Whether it can save its work and be stopped for others.
    pub preemptible: bool,
}

/// When what runs gives its accelerators back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By its limit, counted from when it got them.
    #[default]
    Limit,
    /// At this time at the latest, in milliseconds.
    At(u64),
    /// Nobody knows: it is not ready yet, say. Nothing is promised where it runs, and it is not stopped for others.
    Unknown,
    /// Never by itself: it stands, as a served model does. It is not stopped for others.
    Never,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// It waits.
    Waiting {
        /// Since when, in milliseconds: the submission, or the last stop.
        since_ms: u64,
    },
    /// It runs, or loads its work again.
    Running {
        /// Since when it holds its accelerators.
        since_ms: u64,
        /// Where.
        slots: Vec<Slot>,
    },
    /// It was told to save its work and to stop, and still holds its accelerators.
    Stopping {
        /// Since when it holds its accelerators.
        since_ms: u64,
        /// When it was told.
        told_ms: u64,
        /// Where.
        slots: Vec<Slot>,
    },
}

/// A job and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was asked.
    pub ask: Ask,
    /// Its place in the order of submission: what settles every tie.
    pub seq: u64,
    /// When it was submitted.
    pub submitted_ms: u64,
    /// Work saved by earlier runs.
    pub worked_ms: u64,
    /// How often it was stopped for others.
    pub stops: u32,
    /// The start it was promised: it starts no later.
    pub promised_ms: Option<u64>,
    /// When it ends, if it runs.
    #[serde(default)]
    pub end: End,
    /// Where it stands.
    pub stage: Stage,
}

impl Record {
    /// The class it is alike to.
    pub(super) fn class(&self) -> Class {
        Class::of(self.ask.share, self.ask.sku, self.ask.gpus, self.ask.limit_ms)
    }

    /// Where its accelerators are; nothing while it waits.
    pub fn slots(&self) -> &[Slot] {
        match &self.stage {
            Stage::Waiting { .. } => &[],
            Stage::Running { slots, .. } | Stage::Stopping { slots, .. } => slots,
        }
    }

    /// What loading its work again takes when it starts.
    pub(super) fn restart_ms(&self, policy: &Policy) -> u64 {
        if self.worked_ms == 0 { 0 } else { policy.preemption.as_ref().map_or(0, |preemption| preemption.restart_ms) }
    }

    /// How long it holds its accelerators at most when it starts.
    pub(super) fn hold_ms_max(&self, policy: &Policy) -> u64 {
        let limit = self.ask.limit_ms.unwrap_or(policy.limit_max_ms).min(policy.limit_max_ms);
        limit.saturating_sub(self.worked_ms).saturating_add(self.restart_ms(policy))
    }

    /// Until when it has its accelerators at most if it gets them now.
    pub(super) fn until_ms(&self, now_ms: u64, policy: &Policy) -> u64 {
        if self.end == End::Never { u64::MAX } else { now_ms.saturating_add(self.hold_ms_max(policy)) }
    }

    /// When it gives its accelerators back at the latest, if it has any.
    pub(super) fn ends_ms_max(&self, policy: &Policy) -> Option<u64> {
        match &self.stage {
            Stage::Waiting { .. } => None,
            Stage::Running { since_ms, .. } => match self.end {
                End::Limit => Some(since_ms.saturating_add(self.hold_ms_max(policy))),
                End::At(at_ms) => Some(at_ms),
                End::Unknown | End::Never => None,
            },
            Stage::Stopping { told_ms, .. } => {
                let checkpoint = policy.preemption.as_ref().map_or(0, |preemption| preemption.checkpoint_ms);
                Some(told_ms.saturating_add(checkpoint))
            }
        }
    }

    /// All the work it has done by now.
    pub fn worked_ms_at(&self, now_ms: u64, policy: &Policy) -> u64 {
        let until = match &self.stage {
            Stage::Waiting { .. } => return self.worked_ms,
            Stage::Running { .. } => now_ms,
            Stage::Stopping { told_ms, .. } => *told_ms,
        };
        let (Stage::Running { since_ms, .. } | Stage::Stopping { since_ms, .. }) = &self.stage else { return 0 };
        let ran_ms = until.saturating_sub(*since_ms).saturating_sub(self.restart_ms(policy));
        self.worked_ms.saturating_add(ran_ms)
    }

    /// What orders jobs of one lane before their places do: when finishing would still be fair, where that is the order.
    pub(super) fn due_ms(&self, policy: &Policy) -> u64 {
        let Order::Due { stretch_milli } = policy.order else { return 0 };
        let limit = u128::from(self.ask.limit_ms.unwrap_or(policy.limit_max_ms).min(policy.limit_max_ms));
        let fair = u64::try_from(limit * u128::from(stretch_milli) / 1000).unwrap_or(u64::MAX);
        self.submitted_ms.saturating_add(fair)
    }

    /// How far it has sunk by the work it has done: 0 is highest.
    pub(super) fn level(&self, now_ms: u64, policy: &Policy) -> u32 {
        let Some(preemption) = &policy.preemption else { return 0 };
        let work = self.worked_ms_at(now_ms, policy).saturating_mul(u64::from(self.ask.gpus));
        u32::try_from(preemption.levels.iter().filter(|level| work >= **level).count()).unwrap_or(u32::MAX)
    }

    /// When a run sinks by a level next, if it does before it ends.
    pub(super) fn sinks_ms(&self, now_ms: u64, policy: &Policy) -> Option<u64> {
        let Stage::Running { since_ms, .. } = self.stage else { return None };
        let levels = &policy.preemption.as_ref()?.levels;
        let gpus = u64::from(self.ask.gpus.max(1));
        let work = self.worked_ms_at(now_ms, policy).saturating_mul(gpus);
        let next_ms = levels.iter().filter(|level| **level > work).min()?.div_ceil(gpus);
        let begun_ms = since_ms.saturating_add(self.restart_ms(policy));
        // At the end of all time nothing sinks any more.
        Some(begun_ms.saturating_add(next_ms.saturating_sub(self.worked_ms))).filter(|sinks_ms| *sinks_ms > now_ms)
    }

    /// Whether this run may be stopped for others at all: now, or later.
    pub(super) fn may_stop(&self) -> bool {
        self.ask.preemptible && matches!(self.end, End::Limit | End::At(_))
    }

    /// How long this run is left alone.
    pub(super) fn protected_ms(&self, policy: &Policy) -> u64 {
        const DOUBLINGS_MAX: u32 = 6;
        let first = policy.preemption.as_ref().map_or(0, |preemption| preemption.protected_ms);
        first.saturating_mul(1 << self.stops.min(DOUBLINGS_MAX))
    }
}
