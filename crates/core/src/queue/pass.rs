//! One pass: who starts now, who makes room, who is promised a start.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{
    history::load_milli,
    job::{Ask, Record, Stage},
    lane::{LaneKey, Score},
    policy::Order,
    pool::{Slot, split},
    preempt::Room,
    promise::Guard,
    quota::ShareId,
    state::{Decision, Queue},
};

/// The most overdue jobs one pass looks at one by one.
const OVERDUE_MAX: usize = 1024;
/// How far fairness moves a job: its expected work counts a quarter to four times, in thousandths.
const FAIR_MILLI: (u64, u64) = (250, 4000);

/// What became of one attempt to start a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It runs.
    Started,
    /// Its quota does not allow it now.
    Quota,
    /// Nowhere are enough accelerators free.
    Full,
    /// It would delay a promised start.
    Guarded,
}

/// What a job that did not start means for those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    /// They wait too.
    Stops,
    /// It claimed room that is being made; the next of its lane may find some too.
    Claimed,
    /// No more of its lane starts now, at this length.
    Waits,
}

/// What one pass over one kind of accelerator knows.
pub(super) struct Pass {
    pub(super) sku: usize,
    pub(super) guard: Option<Guard>,
    /// Sizes that fit nowhere for the rest of the pass: it frees nothing.
    full: BTreeSet<u32>,
    /// Sizes that, for a share, fit nowhere past the promised start.
    full_later: BTreeSet<(ShareId, u32)>,
    /// How much of its expected work counts for every family, in thousandths.
    fair: BTreeMap<ShareId, u64>,
    pub(super) room: Option<Room>,
    pub(super) decisions: Vec<Decision>,
}

impl Queue {
    /// Decides what happens now. What is decided is in force when this returns.
    pub fn pass(&mut self, now_ms: u64) -> Vec<Decision> {
        self.tick(now_ms);
        let fair = self.fair();
        let mut decisions = Vec::new();
        for sku in 0..self.kinds.len() {
            if self.kinds[sku].lanes.len() == 0 {
                continue;
            }
            let mut pass = Pass {
                sku,
                guard: None,
                full: BTreeSet::new(),
                full_later: BTreeSet::new(),
                fair: fair.clone(),
                room: None,
                decisions: Vec::new(),
            };
            self.pass_over(&mut pass);
            self.claims_end(&mut pass);
            decisions.append(&mut pass.decisions);
        }
        decisions
    }

    fn pass_over(&mut self, pass: &mut Pass) {
        if let Some(holder) = self.kinds[pass.sku].holder
            && self.attempt(pass, holder) != Attempt::Started
        {
            pass.guard = self.guard(pass.sku, holder);
            let _ = self.make_room(pass, holder);
        }
        if !self.pass_overdue(pass) {
            return;
        }
        let only_what_fits = self.only_what_fits(pass);
        let mut heap: BinaryHeap<Reverse<(Score, LaneKey)>> = self.kinds[pass.sku]
            .lanes
            .heads()
            .filter(|(key, _)| only_what_fits.as_ref().is_none_or(|sizes| sizes.contains(&key.class.gpus)))
            .map(|(key, first)| Reverse((self.score(pass, &key, first), key)))
            .collect();
        while let Some(Reverse((score, key))) = heap.pop() {
            // What was started since may have moved a lane beyond what its share owns.
            let Some(fresh) = self.scored(pass, key, (score.due_ms, score.seq)) else { continue };
            if fresh.0 > score {
                heap.push(Reverse(fresh));
                continue;
            }
            let attempt = self.attempt(pass, score.seq);
            let after = (score.due_ms, score.seq + 1);
            let next = match attempt {
                Attempt::Started => Some(after),
                _ => match self.blocked(pass, score.seq, attempt) {
                    Blocked::Stops => return,
                    // There may be room for more of its like.
                    Blocked::Claimed => Some(after),
                    // Alike in size, but one that ends in time may pass.
                    Blocked::Waits if attempt == Attempt::Guarded => self.next_short(pass, &key, after),
                    Blocked::Waits => None,
                },
            };
            heap.extend(next.and_then(|from| self.scored(pass, key, from)).map(Reverse));
        }
    }

    /// The sizes that fit somewhere, where a job that does not fit changes nothing: nobody makes room for it, it is promised
    /// nothing, and it stops nobody. None: every job must be looked at.
    fn only_what_fits(&self, pass: &Pass) -> Option<BTreeSet<u32>> {
        let (policy, kind) = (&self.config.policy, &self.kinds[pass.sku]);
        let long_ago = policy.promise_after_ms.and_then(|after| self.now_ms.checked_sub(after));
        let promises = kind.holder.is_none() && long_ago.is_some_and(|since_ms| kind.lanes.any_since(since_ms));
        if policy.preemption.is_some() || policy.strict || promises {
            return None;
        }
        let sizes: BTreeSet<u32> = kind.lanes.heads().map(|(key, _)| key.class.gpus).collect();
        Some(sizes.into_iter().filter(|gpus| kind.pool.best_fit(*gpus).is_some()).collect())
    }

    /// Looks at who waited too long, the longest first. False: the pass is over.
    fn pass_overdue(&mut self, pass: &mut Pass) -> bool {
        let Some(after_ms) = self.config.policy.overdue_after_ms else { return true };
        let Some(since_ms) = self.now_ms.checked_sub(after_ms) else { return true };
        for seq in self.kinds[pass.sku].lanes.waiting_since(since_ms, OVERDUE_MAX) {
            let attempt = self.attempt(pass, seq);
            if attempt != Attempt::Started && self.blocked(pass, seq, attempt) == Blocked::Stops {
                return false;
            }
        }
        true
    }

    /// A job did not start: somebody may make room for it, or it is promised a start.
    fn blocked(&mut self, pass: &mut Pass, seq: u64, attempt: Attempt) -> Blocked {
        if Some(seq) == self.kinds[pass.sku].holder {
            return Blocked::Waits;
        }
        let claimed = self.make_room(pass, seq);
        if attempt != Attempt::Quota {
            if self.may_be_promised(pass) {
                self.promise(pass, seq);
            }
            if self.config.policy.strict {
                return Blocked::Stops;
            }
        }
        if claimed { Blocked::Claimed } else { Blocked::Waits }
    }

    fn may_be_promised(&self, pass: &Pass) -> bool {
        self.config.policy.promise_after_ms.is_some() && self.kinds[pass.sku].holder.is_none()
    }

    /// Promises a start to a job that waited long enough.
    fn promise(&mut self, pass: &mut Pass, seq: u64) {
        let Some(record) = self.records.get(&seq) else { return };
        let Stage::Waiting { since_ms } = record.stage else { return };
        let ask = record.ask;
        let long_enough =
            self.config.policy.promise_after_ms.is_some_and(|after| self.now_ms.saturating_sub(since_ms) >= after);
        if !long_enough {
            return;
        }
        let Some(guard) = self.guard(pass.sku, seq) else { return };
        let at_ms = guard.at_ms;
        pass.guard = Some(guard);
        self.kinds[pass.sku].holder = Some(seq);
        if self.config.policy.counted {
            return;
        }
        if let Some(record) = self.records.get_mut(&seq) {
            record.promised_ms = Some(at_ms);
        }
        pass.decisions.push(Decision::Promise { job: ask.job, at_ms });
    }

    /// The next of a lane that would end before the promised start.
    fn next_short(&self, pass: &Pass, key: &LaneKey, mut from: (u64, u64)) -> Option<(u64, u64)> {
        let guard = pass.guard.as_ref()?;
        loop {
            let (due_ms, seq) = self.kinds[pass.sku].lanes.next(key, from)?;
            if self.now_ms.saturating_add(self.records.get(&seq)?.hold_ms_max(&self.config.policy)) <= guard.at_ms {
                return Some((due_ms, seq));
            }
            from = (due_ms, seq + 1);
        }
    }

    /// Starts a job if everything allows it.
    fn attempt(&mut self, pass: &mut Pass, seq: u64) -> Attempt {
        let Some(record) = self.records.get(&seq) else { return Attempt::Full };
        let (ask, hold_ms) = (record.ask, record.hold_ms_max(&self.config.policy));
        if self.quotas.available(ask.share, pass.sku) < u64::from(ask.gpus) {
            let shared = self.quotas.short_at_top(ask.share, pass.sku, ask.gpus);
            return if shared { Attempt::Full } else { Attempt::Quota };
        }
        if pass.full.contains(&ask.gpus) {
            return Attempt::Full;
        }
        let Some(slots) = self.kinds[pass.sku].pool.best_fit(ask.gpus) else {
            pass.full.insert(ask.gpus);
            return Attempt::Full;
        };
        let slots = match &mut pass.guard {
            Some(guard) if guard.seq != seq && self.now_ms.saturating_add(hold_ms) > guard.at_ms => {
                if pass.full_later.contains(&(ask.share, ask.gpus)) {
                    return Attempt::Guarded;
                }
                let Some(slots) = self.passing(guard, &ask, slots) else {
                    pass.full_later.insert((ask.share, ask.gpus));
                    return Attempt::Guarded;
                };
                slots
            }
            _ => slots,
        };
        self.start(pass, seq, slots);
        Attempt::Started
    }

    /// Where a job can stay past a promised start without delaying it, and notes that it does.
    fn passing(&self, guard: &mut Guard, ask: &Ask, best: Vec<Slot>) -> Option<Vec<Slot>> {
        if guard.admit(ask, &best) {
            return Some(best);
        }
        let pool = &self.kinds[usize::from(ask.sku)].pool;
        if split(ask.gpus, pool.gpus_per_node()).0 > 0 {
            return None;
        }
        let gpus = ask.gpus;
        pool.nodes_by_fit(gpus).map(|node| vec![Slot { node, gpus }]).find(|slots| guard.admit(ask, slots))
    }

    fn start(&mut self, pass: &mut Pass, seq: u64, slots: Vec<Slot>) {
        let policy = &self.config.policy;
        let kind = &mut self.kinds[pass.sku];
        let Some(record) = self.records.get_mut(&seq) else { return };
        let ask = record.ask;
        kind.lanes.remove(record, policy);
        if kind.holder.take_if(|holder| *holder == seq).is_some() {
            pass.guard = None;
            pass.full_later.clear();
        }
        assert!(self.quotas.take(ask.share, pass.sku, ask.gpus), "the quota was asked before");
        assert!(kind.pool.take(&slots), "the accelerators were free");
        record.stage = Stage::Running { since_ms: self.now_ms, slots: slots.clone() };
        kind.settle_in(record, policy);
        self.count_usage(&ask, |gpus| gpus + u64::from(ask.gpus));
        pass.decisions.push(Decision::Start { job: ask.job, slots });
    }

    /// The first of a lane from a place on, with its score.
    fn scored(&self, pass: &Pass, key: LaneKey, from: (u64, u64)) -> Option<(Score, LaneKey)> {
        let first = self.kinds[pass.sku].lanes.next(&key, from)?;
        Some((self.score(pass, &key, first), key))
    }

    fn score(&self, pass: &Pass, key: &LaneKey, (due_ms, seq): (u64, u64)) -> Score {
        match self.config.policy.order {
            Order::Submission => Score { priority: Reverse(0), beyond_own: false, level: 0, work: 0, due_ms, seq },
            Order::Due { .. } => {
                Score { priority: Reverse(key.priority), beyond_own: false, level: 0, work: due_ms, due_ms, seq }
            }
            Order::Work => Score {
                priority: Reverse(key.priority),
                beyond_own: !self.quotas.within_own(key.class.share, pass.sku, key.class.gpus),
                level: key.level,
                work: self.work(pass, *key),
                due_ms,
                seq,
            },
        }
    }

    /// The work expected of a lane's jobs, moved by what its family used lately.
    fn work(&self, pass: &Pass, key: LaneKey) -> u64 {
        let fair = pass.fair.get(&self.quotas.family(key.class.share)).copied().unwrap_or(1000);
        let work =
            u128::from(self.history.expected_ms(key.class)) * u128::from(key.class.gpus) * u128::from(fair) / 1000;
        u64::try_from(work).unwrap_or(u64::MAX)
    }

    /// How much of its expected work counts for every family, in thousandths.
    fn fair(&self) -> BTreeMap<ShareId, u64> {
        let strength = self.config.policy.fairness_milli;
        if strength == 0 {
            return BTreeMap::new();
        }
        let half_life = self.config.policy.usage_half_life_ms;
        // The dominant resource: of all kinds, the one of which a family has used most, measured by how many there are.
        let mut used: BTreeMap<ShareId, u64> = BTreeMap::new();
        for ((share, sku), usage) in &self.usage {
            let gpus = self.kinds.get(usize::from(*sku)).map_or(1, |kind| kind.pool.gpus_total().max(1));
            let of_kind = u128::from(usage.at(self.now_ms, half_life).faded) * 1000 / u128::from(gpus);
            let dominant = used.entry(*share).or_default();
            *dominant = (*dominant).max(u64::try_from(of_kind).unwrap_or(u64::MAX));
        }
        let used_by_all = used.values().fold(0_u64, |sum, used| sum.saturating_add(*used));
        let weight = |share: ShareId| self.config.shares.get(share.0 as usize).map_or(1, |share| share.weight.max(1));
        let weights = used.keys().map(|share| u64::from(weight(*share))).sum();
        let factor = |load: u64| {
            let moved = if load >= 1000 {
                1000 + (load - 1000).saturating_mul(strength) / 1000
            } else {
                1000_u64.saturating_sub((1000 - load).saturating_mul(strength) / 1000)
            };
            moved.clamp(FAIR_MILLI.0, FAIR_MILLI.1)
        };
        used.iter()
            .map(|(share, used)| (*share, factor(load_milli(*used, used_by_all, weight(*share), weights))))
            .collect()
    }
}

/// Whether a job waits.
pub(super) fn waits(record: &Record) -> bool {
    matches!(record.stage, Stage::Waiting { .. })
}
