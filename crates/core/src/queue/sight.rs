//! What the live face asks of a queue to speak of its jobs.

use super::{
    field::{Field, Free, Kept, all_for},
    job::{Record, Stage},
    space::Space,
    state::Queue,
};
use crate::id::JobId;

/// A quota that does not allow a job now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaShort {
    /// What it allows now.
    pub(crate) available: u64,
    /// What is used of the quota that does not allow it.
    pub(crate) used: u64,
    /// What that one owns.
    pub(crate) owned: u64,
}

impl Queue {
    /// The job at a place in the order of submission.
    pub(crate) fn job_of(&self, seq: u64) -> Option<JobId> {
        Some(self.records.get(&seq)?.ask.job)
    }

    /// Whether a start is promised to a waiting job.
    pub(crate) fn is_promised(&self, seq: u64) -> bool {
        self.kinds.iter().any(|kind| kind.holds(seq))
    }

    /// Whether a waiting job would stay within what its share owns.
    pub(crate) fn is_guaranteed(&self, job: JobId) -> bool {
        let within = |ask: &super::Ask| self.quotas.within_own(ask.share, usize::from(ask.sku), ask.gpus);
        self.record(job).is_some_and(|record| within(&record.ask))
    }

    /// What its quota lacks for a waiting job. None: the quota allows it.
    pub(crate) fn quota_short(&self, job: JobId) -> Option<QuotaShort> {
        let record = self.record(job).filter(|record| matches!(record.stage, Stage::Waiting { .. }))?;
        let (share, sku) = (record.ask.share, usize::from(record.ask.sku));
        let available = self.quotas.available(share, sku);
        // Of whoever's quota it is that does not allow it: its own, or that of its family together.
        let family = self.quotas.family(share);
        let its_own = self.quotas.available(family, sku) >= u64::from(record.ask.gpus);
        let (used, owned) = self.quotas.used_owned(if its_own { share } else { family }, sku);
        (available < u64::from(record.ask.gpus)).then_some(QuotaShort { available, used, owned })
    }

    /// What of a node of mixed ground is free for a member of a job, and what it has for it in all.
    pub(crate) fn free_all(&self, job: JobId, node: u32) -> Option<(Free, Free)> {
        let (record, field) = self.in_field(job)?;
        let shape = field.shape(record.ask.shape);
        Some((field.free(node, shape), all_for(field.node(node), shape)))
    }

    /// Whom a node of mixed ground is kept for, if not for this job now.
    pub(crate) fn kept(&self, job: JobId, node: u32) -> Option<Kept> {
        let (record, field) = self.in_field(job)?;
        let until_ms = record.until_ms(self.now_ms, self.policy());
        field.kept(node, field.shape(record.ask.shape), until_ms)
    }

    /// How many members of a job fit at a site now, all in one group of the level it asks for, and how many it has.
    pub(crate) fn members_fit(&self, job: JobId, site: usize) -> Option<(u32, u32)> {
        let (record, field) = self.in_field(job)?;
        let shape = field.shape(record.ask.shape);
        let until_ms = record.until_ms(self.now_ms, self.policy());
        Some((field.gang_fit(shape, until_ms, u16::try_from(site).ok()?), shape.members))
    }

    fn in_field(&self, job: JobId) -> Option<(&Record, &Field)> {
        let record = self.record(job)?;
        match &self.kinds.get(self.config.ground.field(&record.ask))?.space {
            Space::Field(field) => Some((record, field)),
            Space::Pool(_) => None,
        }
    }

    /// Until when a waiting job would have its room if it started now, in milliseconds.
    pub(crate) fn until_ms(&self, job: JobId) -> Option<u64> {
        Some(self.record(job)?.until_ms(self.now_ms, self.policy()))
    }

    /// What loading its work again takes when a job starts, in milliseconds.
    pub(crate) fn restart_ms(&self, job: JobId) -> i64 {
        self.record(job).map_or(0, |record| i64::try_from(record.restart_ms(self.policy())).unwrap_or(i64::MAX))
    }
}
