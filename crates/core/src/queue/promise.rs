//! When a job that lacks accelerators starts at the latest, by the limits of what runs.

use super::{
    job::Ask,
    pool::{Later, Slot},
    quota::Quotas,
    state::Queue,
};

/// What a pass knows of the promise it must not delay.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// Who was promised.
    pub(super) seq: u64,
    /// When it starts at the latest, as far as is known now.
    pub(super) at_ms: u64,
    /// What is free then, and whether the job still fits.
    pub(super) later: Later,
    /// The quotas as they stand then.
    pub(super) quotas: Quotas,
    ask: Ask,
}

impl Guard {
    /// Lets a job stay past the promised start if the promised job can still start then; else changes nothing.
    pub(super) fn admit(&mut self, ask: &Ask, slots: &[Slot]) -> bool {
        let sku = usize::from(ask.sku);
        if !self.quotas.take(ask.share, sku, ask.gpus) {
            return false;
        }
        let allowed = self.quotas.available(self.ask.share, sku) >= u64::from(self.ask.gpus);
        if allowed && self.later.occupy(slots) {
            return true;
        }
        self.quotas.give_back(ask.share, sku, ask.gpus);
        false
    }
}

impl Queue {
    /// The earliest time at which the limits of what runs leave room for a job, and what will be free then.
    pub(super) fn guard(&self, sku: usize, seq: u64) -> Option<Guard> {
        let kind = &self.kinds[sku];
        let ask = self.records.get(&seq)?.ask;
        let mut guard = Guard {
            seq,
            at_ms: self.now_ms,
            later: Later::of(&kind.pool, ask.gpus, self.config.policy.counted),
            quotas: self.quotas.clone(),
            ask,
        };
        let fits = |guard: &Guard| guard.later.fits() && guard.quotas.available(ask.share, sku) >= u64::from(ask.gpus);
        for (ends_ms, running) in &kind.ends {
            if *ends_ms > guard.at_ms && fits(&guard) {
                break;
            }
            // A run beyond its limit is about to end: nothing ends in the past.
            guard.at_ms = guard.at_ms.max(*ends_ms);
            let record = self.records.get(running)?;
            guard.later.release(record.slots());
            guard.quotas.give_back(record.ask.share, sku, record.ask.gpus);
        }
        fits(&guard).then_some(guard)
    }
}
