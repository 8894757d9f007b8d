//! One pass: who starts now, who makes room, who is promised a start.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{
    ground::Ground,
    history::load_milli,
    job::{Ask, Record, Stage},
    lane::{LaneKey, Score},
    policy::Order,
    pool::Slot,
    preempt::Room,
    promise::{Earliest, Guard, admit_all},
    quota::ShareId,
    state::{Decision, Queue},
};
use crate::id::JobId;

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
    /// There is room, but only where it would have to leave before it ends.
    Late,
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

/// What a job needs, as far as room goes: its shape and how many accelerators.
pub(super) type Need = (u32, u32);

/// What one pass over one pool, or the mixed ground, knows.
pub(super) struct Pass {
    pub(super) field: usize,
    /// The promised starts, and whoever waits where nobody knows until when.
    pub(super) guards: Vec<Guard>,
    /// Needs that fit nowhere for the rest of the pass: it frees nothing.
    full: BTreeSet<Need>,
    /// Needs that, for a share, fit nowhere past so many of the promised starts.
    full_later: BTreeSet<(ShareId, Need, usize)>,
    /// How much of its expected work counts for every family, in thousandths.
    fair: BTreeMap<ShareId, u64>,
    pub(super) room: Option<Room>,
    pub(super) decisions: Vec<Decision>,
}

impl Pass {
    fn new(field: usize, fair: BTreeMap<ShareId, u64>) -> Self {
        Self {
            field,
            guards: Vec::new(),
            full: BTreeSet::new(),
            full_later: BTreeSet::new(),
            fair,
            room: None,
            decisions: Vec::new(),
        }
    }
}

impl Queue {
    /// Decides what happens now. What is decided is in force when this returns.
    pub fn pass(&mut self, now_ms: u64) -> Vec<Decision> {
        self.pass_seen(now_ms).0
    }

    /// As `pass`, with the promises it kept.
    pub(crate) fn pass_seen(&mut self, now_ms: u64) -> (Vec<Decision>, Vec<Guard>) {
        self.tick(now_ms);
        let fair = self.fair();
        let (mut decisions, mut guards) = (Vec::new(), Vec::new());
        for field in 0..self.kinds.len() {
            if self.kinds[field].lanes.len() == 0 {
                continue;
            }
            let mut pass = Pass::new(field, fair.clone());
            self.pass_over(&mut pass);
            self.claims_end(&mut pass);
            decisions.append(&mut pass.decisions);
            guards.append(&mut pass.guards);
        }
        (decisions, guards)
    }

    /// The order in which a pass at this time would look at who waits: promised starts first, the earliest first; then who
    /// waited too long; then by score, as it stands before anybody starts.
    pub(crate) fn order(&mut self, now_ms: u64) -> Vec<JobId> {
        self.tick(now_ms);
        let fair = self.fair();
        let mut order: Vec<u64> = Vec::new();
        for field in 0..self.kinds.len() {
            let pass = Pass::new(field, fair.clone());
            order.extend(self.holders(field).into_iter().map(|(_, seq)| seq));
            order.extend(self.overdue(field));
            let mut scored: Vec<Score> = Vec::new();
            for (key, first) in self.kinds[field].lanes.heads() {
                let mut next = Some(first);
                while let Some(place) = next {
                    scored.push(self.score(&pass, &key, place));
                    next = self.kinds[field].lanes.next(&key, (place.0, place.1 + 1));
                }
            }
            scored.sort_unstable();
            order.extend(scored.into_iter().map(|score| score.seq));
        }
        let mut seen = BTreeSet::new();
        order.retain(|seq| seen.insert(*seq));
        order.into_iter().filter_map(|seq| Some(self.records.get(&seq)?.ask.job)).collect()
    }

    fn pass_over(&mut self, pass: &mut Pass) {
        self.pass_holders(pass);
        if !self.pass_overdue(pass) {
            return;
        }
        let only_what_fits = self.only_what_fits(pass);
        let mut heap: BinaryHeap<Reverse<(Score, LaneKey)>> = self.kinds[pass.field]
            .lanes
            .heads()
            .filter(|(key, _)| only_what_fits.as_ref().is_none_or(|fits| fits.contains(&(key.shape, key.class.gpus))))
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
                    Blocked::Waits if matches!(attempt, Attempt::Guarded | Attempt::Late) => {
                        self.next_short(pass, &key, after)
                    }
                    Blocked::Waits => None,
                },
            };
            heap.extend(next.and_then(|from| self.scored(pass, key, from)).map(Reverse));
        }
    }

    /// Looks at who was promised a start.
    fn pass_holders(&mut self, pass: &mut Pass) {
        let holders = self.holders(pass.field);
        let reserved = self.reserved(pass.field);
        if let ([(place, holder)], true) = (&holders[..], reserved.is_empty()) {
            let (place, holder) = (*place, *holder);
            // Mostly there is one, and mostly it starts or nothing has changed: what it guards is looked for only then.
            if self.attempt(pass, holder) != Attempt::Started {
                pass.guards.extend(self.guard((pass.field, place), holder, &[]));
                let _ = self.make_room(pass, holder);
            }
        } else if holders.is_empty() {
            pass.guards = reserved;
        } else {
            pass.guards = self.guards(pass.field);
            // All of them first: what one claims while it waits may be what another was promised.
            let wait = |queue: &mut Self, pass: &mut Pass, seq| queue.attempt(pass, seq) != Attempt::Started;
            let waiting: Vec<u64> =
                holders.into_iter().map(|(_, seq)| seq).filter(|seq| wait(self, pass, *seq)).collect();
            for holder in waiting {
                let _ = self.make_room(pass, holder);
            }
        }
        // A promise that can be kept no more, because its place lost what it counted on, is let go: another will be made.
        let field = pass.field;
        for (place, holder) in self.holders(field) {
            let lost =
                matches!(self.config.ground, Ground::Mixed(_)) && !pass.guards.iter().any(|guard| guard.seq == holder);
            if lost {
                self.kinds[field].holders[place] = None;
            }
        }
    }

    /// The sizes that fit somewhere, where a job that does not fit changes nothing: nobody makes room for it, it is promised
    /// nothing, and it stops nobody. None: every job must be looked at.
    fn only_what_fits(&self, pass: &Pass) -> Option<BTreeSet<Need>> {
        let (policy, kind) = (&self.config.policy, &self.kinds[pass.field]);
        let long_ago = policy.promise_after_ms.and_then(|after| self.now_ms.checked_sub(after));
        let promises = kind.holders.contains(&None) && long_ago.is_some_and(|since_ms| kind.lanes.any_since(since_ms));
        if policy.preemption.is_some() || policy.strict || promises {
            return None;
        }
        let mut needs: BTreeMap<Need, bool> = BTreeMap::new();
        for (key, (_, seq)) in kind.lanes.heads() {
            // As though it were over at once: how long it is differs within a lane.
            let fits = || {
                let record = self.records.get(&seq);
                record.is_some_and(|record| kind.space.best_fit(&record.ask, self.now_ms).is_some())
            };
            needs.entry((key.shape, key.class.gpus)).or_insert_with(fits);
        }
        Some(needs.into_iter().filter(|(_, fits)| *fits).map(|(need, _)| need).collect())
    }

    /// Looks at who waited too long, the longest first. False: the pass is over.
    fn pass_overdue(&mut self, pass: &mut Pass) -> bool {
        for seq in self.overdue(pass.field) {
            let attempt = self.attempt(pass, seq);
            if attempt != Attempt::Started && self.blocked(pass, seq, attempt) == Blocked::Stops {
                return false;
            }
        }
        true
    }

    fn overdue(&self, field: usize) -> Vec<u64> {
        let since_ms = self.config.policy.overdue_after_ms.and_then(|after_ms| self.now_ms.checked_sub(after_ms));
        since_ms.map(|since_ms| self.kinds[field].lanes.waiting_since(since_ms, OVERDUE_MAX)).unwrap_or_default()
    }

    /// A job did not start: somebody may make room for it, or it is promised a start.
    fn blocked(&mut self, pass: &mut Pass, seq: u64, attempt: Attempt) -> Blocked {
        if self.kinds[pass.field].holds(seq) {
            return Blocked::Waits;
        }
        // Where there is room and a promise is in the way, claiming that room would only keep it from who may pass.
        let claimed = attempt != Attempt::Guarded && self.make_room(pass, seq);
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
        self.config.policy.promise_after_ms.is_some() && self.kinds[pass.field].holders.contains(&None)
    }

    /// Promises a start to a job that waited long enough.
    fn promise(&mut self, pass: &mut Pass, seq: u64) {
        let Some(since_ms) = self.waits_since_ms(seq) else { return };
        let Some(ask) = self.records.get(&seq).map(|record| record.ask) else { return };
        let long_enough =
            self.config.policy.promise_after_ms.is_some_and(|after| self.now_ms.saturating_sub(since_ms) >= after);
        if !long_enough {
            return;
        }
        let kind = &self.kinds[pass.field];
        let guarded =
            |place: usize| pass.guards.iter().any(|guard| guard.place == place && guard.block_until_ms.is_none());
        let (mut best, mut unknown): (Option<Guard>, Vec<Guard>) = (None, Vec::new());
        for place in kind.space.places(&ask) {
            if kind.holders[place].is_some() || guarded(place) {
                continue;
            }
            match self.earliest((pass.field, place), seq, &pass.guards) {
                Earliest::At(guard) if best.as_ref().is_none_or(|best| guard.at_ms < best.at_ms) => best = Some(guard),
                Earliest::Unknown(guard) => unknown.push(guard),
                Earliest::At(_) | Earliest::Never | Earliest::Hopeless => {}
            }
        }
        pass.full_later.clear();
        let Some((guard, at_ms)) = best.and_then(|guard| guard.at_ms.map(|at_ms| (guard, at_ms))) else {
            // Nothing can be promised, and whoever passed might keep it waiting for ever: nobody does.
            pass.guards.append(&mut unknown);
            return;
        };
        // By the limits of what runs it would start now, and it does not: what keeps it away is claimed in this pass alone, and the
        // next one knows better than to promise what is over already.
        let is_over = at_ms <= self.now_ms;
        if is_over
            || self.config.policy.promise_within_ms.is_some_and(|within| at_ms.saturating_sub(self.now_ms) > within)
        {
            return;
        }
        self.kinds[pass.field].holders[guard.place] = Some(seq);
        pass.guards.push(guard);
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
        let last_ms = pass.guards.iter().filter_map(|guard| guard.at_ms).max();
        let last_ms = last_ms.max(self.kinds[pass.field].space.until_max())?;
        loop {
            let (due_ms, seq) = self.kinds[pass.field].lanes.next(key, from)?;
            if self.records.get(&seq)?.until_ms(self.now_ms, &self.config.policy) <= last_ms {
                return Some((due_ms, seq));
            }
            from = (due_ms, seq + 1);
        }
    }

    /// Starts a job if everything allows it.
    fn attempt(&mut self, pass: &mut Pass, seq: u64) -> Attempt {
        let Some(record) = self.records.get(&seq) else { return Attempt::Full };
        let (ask, until_ms) = (record.ask, record.until_ms(self.now_ms, &self.config.policy));
        let (sku, need) = (usize::from(ask.sku), (ask.shape, ask.gpus));
        if self.quotas.available(ask.share, sku) < u64::from(ask.gpus) {
            let shared = self.quotas.short_at_top(ask.share, sku, ask.gpus);
            return if shared { Attempt::Full } else { Attempt::Quota };
        }
        if pass.full.contains(&need) {
            return Attempt::Full;
        }
        let space = &self.kinds[pass.field].space;
        let Some(slots) = space.best_fit(&ask, until_ms) else {
            // One that is over before a node has to be left may fit there.
            if space.until_max().is_some() && space.best_fit(&ask, self.now_ms).is_some() {
                return Attempt::Late;
            }
            pass.full.insert(need);
            return Attempt::Full;
        };
        let timed = space.until_max().is_some();
        let binding = pass.guards.iter().filter(|guard| guard.binds(seq, until_ms)).count();
        if binding == 0 {
            self.start(pass, seq, slots);
            return Attempt::Started;
        }
        // Which of the promises bind follows from their number: all that are known to be early enough.
        let full_later = (ask.share, need, binding);
        let guards_itself = pass.guards.iter().any(|guard| guard.seq == seq);
        if !guards_itself && !timed && pass.full_later.contains(&full_later) {
            return Attempt::Guarded;
        }
        let Some(slots) = self.passing(&mut pass.guards, (seq, until_ms), &ask, slots) else {
            if !guards_itself {
                pass.full_later.insert(full_later);
            }
            return Attempt::Guarded;
        };
        self.start(pass, seq, slots);
        Attempt::Started
    }

    /// Where a job can stay past the promised starts without delaying them, and notes that it does.
    fn passing(&self, guards: &mut [Guard], who: (u64, u64), ask: &Ask, best: Vec<Slot>) -> Option<Vec<Slot>> {
        let space = &self.kinds[self.config.ground.field(ask)].space;
        if admit_all(guards, who, ask, &best, space) {
            return Some(best);
        }
        // All members of a job together rather where no promise counts on anything.
        let counted = |node: u32| {
            let mut binding = guards.iter().filter(|guard| guard.binds(who.0, who.1));
            binding.any(|guard| match guard.at_ms {
                None => space.place_of(node) == guard.place,
                Some(_) => guard.later.counts_on(node),
            })
        };
        let mut others = space.fits(ask, who.1, &counted);
        others.find(|slots| admit_all(guards, who, ask, slots, space))
    }

    fn start(&mut self, pass: &mut Pass, seq: u64, slots: Vec<Slot>) {
        let policy = &self.config.policy;
        let kind = &mut self.kinds[pass.field];
        let Some(record) = self.records.get_mut(&seq) else { return };
        let ask = record.ask;
        kind.lanes.remove(record, policy);
        let held = kind.let_go(seq);
        assert!(self.quotas.take(ask.share, usize::from(ask.sku), ask.gpus), "the quota was asked before");
        assert!(kind.space.take(&slots, &ask), "the accelerators were free");
        record.stage = Stage::Running { since_ms: self.now_ms, slots: slots.clone() };
        kind.settle_in(record, policy);
        self.count_usage(&ask, |gpus| gpus + u64::from(ask.gpus));
        pass.decisions.push(Decision::Start { job: ask.job, slots });
        if held {
            pass.full_later.clear();
            // The others' starts were computed as though its room were kept; it has it now.
            pass.guards.retain(|guard| guard.seq != seq && guard.at_ms.is_none());
            let mut anew = self.guards(pass.field);
            pass.guards.retain(|guard| !anew.iter().any(|other| other.seq == guard.seq));
            pass.guards.append(&mut anew);
        }
    }

    /// The first of a lane from a place on, with its score.
    fn scored(&self, pass: &Pass, key: LaneKey, from: (u64, u64)) -> Option<(Score, LaneKey)> {
        let first = self.kinds[pass.field].lanes.next(&key, from)?;
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
                beyond_own: !self.quotas.within_own(key.class.share, usize::from(key.class.sku), key.class.gpus),
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

    /// Units of a kind, with nothing running.
    fn units_total(&self, sku: u16) -> u64 {
        let field = match self.config.ground {
            Ground::Uniform(_) => usize::from(sku),
            Ground::Mixed(_) => 0,
        };
        self.kinds.get(field).map_or(1, |kind| kind.space.units_total(sku).max(1))
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
        let mut totals: BTreeMap<u16, u64> = BTreeMap::new();
        for ((share, sku), usage) in &self.usage {
            let gpus = *totals.entry(*sku).or_insert_with(|| self.units_total(*sku));
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
