//! Making room: which running jobs save their work and stop for a waiting one.
//!
//! A running job may be picked if it can save its work, if its protected time is over, and if it stands lower than the one
//! it makes room for: by priority, by level, because it uses what was borrowed from the other's guarantee, or because
//! the other is overdue. Who stays within a guarantee makes room only for those whose guarantee it is
//! as well: a project's for itself, an organisation's for its projects.
//!
//! Accelerators come free when the work is saved. Until then a claim stands for the length of a pass and is found anew in
//! the next: it costs nothing to claim what is being freed, so the same node is found again.
//!
//! On mixed ground the same is done with cores, memory and accelerators by model ([`mixed`]).

mod mixed;

use std::collections::BTreeSet;

use super::{
    job::{Record, Stage},
    movers::Hint,
    pass::{Pass, waits},
    policy::Order,
    pool::{Pool, Slot},
    quota::{Quotas, ShareId},
    space::Space,
    state::{Decision, Queue},
};

/// The most nodes one search weighs against each other beyond those it needs.
const PLANS_MAX: usize = 256;

/// What is being freed, and for whom it is kept during one pass.
pub(super) struct Room {
    /// Accelerators being freed and not claimed, by node; mixed ground keeps its own count.
    pending: Vec<u32>,
    /// The quotas as they will stand when everything that is told to stop has stopped and every claim has started.
    quotas: Quotas,
    /// Free accelerators kept for claims until the pass ends.
    kept: Vec<Slot>,
    /// Sizes and ranks for which nothing was found.
    failed: BTreeSet<Rank>,
    /// What no node's hint gives hope to, whoever asks.
    hopeless: BTreeSet<Hope>,
    claimants: BTreeSet<u64>,
    searches: u32,
    /// What may be found on each node, so that most need no closer look.
    hints: Vec<Hint>,
}

/// Whether anybody of whom a hint speaks may give way.
fn may_give_way(hint: &Hint, rank: &Rank) -> bool {
    let lower = hint.priority_min < rank.priority || hint.level_max > rank.level || hint.due_ms_max > rank.due_ms;
    hint.gpus > 0 && (rank.overdue || lower || (rank.own && hint.borrowed))
}

/// What decides whom a job may push aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    gpus: u32,
    shape: u32,
    sku: u16,
    priority: u8,
    level: u32,
    due_ms: u64,
    share: u32,
    overdue: bool,
    own: bool,
    /// Until when it would have its room, where some nodes want to be left; else 0.
    until_ms: u64,
}

/// What of a rank hints speak of: accelerators of one node, priority, level, when it is due, whether it is overdue, and whether
/// it stays within its own.
type Hope = (u32, u8, u32, u64, bool, bool);

/// What making room on a node costs: accelerators whose work is interrupted.
struct Plan {
    cost: u64,
    node: u32,
    victims: Vec<u64>,
}

impl Queue {
    /// Finds room for a waiting job among what is being freed and what may be stopped, and claims it. False: there is none,
    /// or it claimed some before in this pass.
    pub(super) fn make_room(&mut self, pass: &mut Pass, seq: u64) -> bool {
        let Some(searches_max) = self.config.policy.preemption.as_ref().map(|preemption| preemption.searches_max)
        else {
            return false;
        };
        let Some(record) = self.records.get(&seq).filter(|record| waits(record)) else { return false };
        let mut rank = self.rank(record);
        if self.kinds[pass.field].space.until_max().is_some() {
            // It starts once the others have saved their work.
            let policy = &self.config.policy;
            let saved_ms = self.now_ms.saturating_add(policy.preemption.as_ref().map_or(0, |paid| paid.checkpoint_ms));
            rank.until_ms = record.until_ms(saved_ms, policy);
        }
        let mut room = match pass.room.take() {
            Some(room) => room,
            None => self.room(pass.field),
        };
        let mut claimed = false;
        if room.searches < searches_max && !room.claimants.contains(&seq) && !room.failed.contains(&rank) {
            room.searches += 1;
            if let Some((nodes, victims)) = self.plan(pass.field, &mut room, rank) {
                self.claim(pass, &mut room, seq, &nodes, &victims);
                claimed = room.claimants.insert(seq);
            } else {
                room.failed.insert(rank);
            }
        }
        pass.room = Some(room);
        claimed
    }

    /// Gives back what was kept for claims.
    pub(super) fn claims_end(&mut self, pass: &mut Pass) {
        if let Some(room) = pass.room.take() {
            match &mut self.kinds[pass.field].space {
                Space::Pool(pool) => pool.give_back(&room.kept),
                Space::Field(field) => field.claims_end(),
            }
        }
    }

    fn rank(&self, record: &Record) -> Rank {
        let policy = &self.config.policy;
        let overdue = match (policy.overdue_after_ms, &record.stage) {
            (Some(after), Stage::Waiting { since_ms }) => self.now_ms.saturating_sub(*since_ms) >= after,
            _ => false,
        };
        Rank {
            gpus: record.ask.gpus,
            shape: record.ask.shape,
            sku: record.ask.sku,
            priority: record.ask.priority,
            level: record.level(self.now_ms, policy),
            due_ms: record.due_ms(policy),
            share: record.ask.share.0,
            overdue,
            own: self.quotas.within_own(record.ask.share, usize::from(record.ask.sku), record.ask.gpus),
            until_ms: 0,
        }
    }

    fn room(&mut self, field: usize) -> Room {
        let kind = &mut self.kinds[field];
        kind.movers.refresh(self.now_ms, (&self.records, &kind.on_node), &self.quotas, &self.config.policy);
        let kind = &self.kinds[field];
        let mut room = Room {
            pending: vec![0; kind.on_node.len()],
            quotas: self.quotas.clone(),
            kept: Vec::new(),
            failed: BTreeSet::new(),
            hopeless: BTreeSet::new(),
            claimants: BTreeSet::new(),
            searches: 0,
            hints: kind.movers.hints().to_vec(),
        };
        for record in kind.stopping.iter().filter_map(|seq| self.records.get(seq)) {
            for slot in record.slots() {
                let pending = &mut room.pending[slot.node as usize];
                *pending = pending.saturating_add(slot.gpus);
            }
            room.quotas.give_back(record.ask.share, usize::from(record.ask.sku), record.ask.gpus);
        }
        room
    }

    /// Nodes to claim on, how much on each, and whom to stop; cheapest first, then the node added first.
    fn plan(&self, field: usize, room: &mut Room, rank: Rank) -> Option<(Vec<Slot>, Vec<u64>)> {
        match &self.kinds[field].space {
            Space::Pool(pool) => self.plan_in_pool(field, pool, room, rank),
            Space::Field(mixed) => self.plan_in_field((field, mixed), room, rank),
        }
    }

    fn plan_in_pool(&self, field: usize, pool: &Pool, room: &mut Room, rank: Rank) -> Option<(Vec<Slot>, Vec<u64>)> {
        let size = pool.gpus_per_node();
        let part = rank.gpus.min(size);
        let nodes_needed = rank.gpus.div_ceil(size) as usize;
        let hope: Hope = (part, rank.priority, rank.level, rank.due_ms, rank.overdue, rank.own);
        if room.hopeless.contains(&hope) {
            return None;
        }
        let mut any = false;
        let mut plans: Vec<Plan> = Vec::new();
        for (node, pending) in (0_u32..).zip(room.pending.iter().copied()) {
            let (hint, have) = (&room.hints[node as usize], pool.free()[node as usize] + pending);
            let hopeless = have < part && (have + hint.gpus < part || !may_give_way(hint, &rank));
            if hopeless {
                continue;
            }
            any = true;
            let Some(plan) = self.plan_on(field, pool, rank, (node, part, pending)) else { continue };
            let free = plan.cost == 0;
            plans.push(plan);
            if (free && nodes_needed == 1) || plans.len() >= nodes_needed.saturating_add(PLANS_MAX) {
                break;
            }
        }
        if !any {
            room.hopeless.insert(hope);
        }
        plans.sort_by_key(|plan| (plan.cost, plan.node));
        if plans.len() < nodes_needed {
            return None;
        }
        let mut victims: BTreeSet<u64> = BTreeSet::new();
        let mut slots = Vec::new();
        let mut left = rank.gpus;
        // The cheapest of those found above cost nothing, so looking no further than the first of them loses nothing.
        let from = if nodes_needed == 1 { plans.iter().position(|plan| plan.cost == 0).unwrap_or(0) } else { 0 };
        for plan in plans.into_iter().skip(from).take(nodes_needed) {
            let gpus = left.min(size);
            left -= gpus;
            victims.extend(plan.victims);
            slots.push(Slot::whole(plan.node, gpus));
        }
        let victims = self.plan_quota(field, room, rank, victims);
        victims.map(|victims| (slots, victims.into_iter().collect()))
    }

    /// The cheapest way to so many accelerators on one node.
    fn plan_on(&self, field: usize, pool: &Pool, rank: Rank, (node, need, pending): (u32, u32, u32)) -> Option<Plan> {
        let mut have = pool.free()[node as usize] + pending;
        if have >= need {
            return Some(Plan { cost: 0, node, victims: Vec::new() });
        }
        let mut chosen: Vec<(&Record, u32)> = Vec::new();
        for record in self.candidates(field, node, rank) {
            if have >= need {
                break;
            }
            let here = record.slots().iter().find(|slot| slot.node == node).map_or(0, |slot| slot.gpus);
            have += here;
            chosen.push((record, here));
        }
        if have < need {
            return None;
        }
        // Whoever is not needed after all is left alone, the highest first.
        for index in (0..chosen.len()).rev() {
            let here = chosen[index].1;
            if have - here >= need {
                have -= here;
                chosen.remove(index);
            }
        }
        let cost = chosen.iter().map(|(record, _)| u64::from(record.ask.gpus)).sum();
        Some(Plan { cost, node, victims: chosen.iter().map(|(record, _)| record.seq).collect() })
    }

    /// Who may make room on a node: the lowest first, then whose work is interrupted least, then who came last.
    fn candidates(&self, field: usize, node: u32, rank: Rank) -> Vec<&Record> {
        let here = self.kinds[field].on_node[node as usize].iter().filter_map(|seq| self.records.get(seq));
        let mut candidates: Vec<&Record> = here.filter(|record| self.gives_way(record, rank)).collect();
        let level = |record: &Record| record.level(self.now_ms, &self.config.policy);
        let due = |record: &Record| record.due_ms(&self.config.policy);
        candidates.sort_by_key(|record| {
            let (level, due) = (u32::MAX - level(record), u64::MAX - due(record));
            (record.ask.priority, level, due, record.ask.gpus, u64::MAX - record.seq)
        });
        candidates
    }

    /// Adds whoever must stop so that the quota allows the job, and moves the quotas on. None: it will not.
    fn plan_quota(
        &self,
        field: usize,
        room: &mut Room,
        rank: Rank,
        mut victims: BTreeSet<u64>,
    ) -> Option<BTreeSet<u64>> {
        let (share, sku) = (ShareId(rank.share), usize::from(rank.sku));
        let column = |record: &Record| usize::from(record.ask.sku);
        let mut quotas = room.quotas.clone();
        for record in victims.iter().filter_map(|seq| self.records.get(seq)) {
            quotas.give_back(record.ask.share, column(record), record.ask.gpus);
        }
        if quotas.available(share, sku) < u64::from(rank.gpus) {
            for record in self.kinds[field].movers.movable().filter_map(|seq| self.records.get(&seq)) {
                if column(record) != sku || victims.contains(&record.seq) || !self.gives_way(record, rank) {
                    continue;
                }
                let before = quotas.available(share, sku);
                if before >= u64::from(rank.gpus) {
                    break;
                }
                // Only what another still borrows comes back to this one.
                if record.ask.share != share && !quotas.borrows_from(record.ask.share, share, sku) {
                    continue;
                }
                quotas.give_back(record.ask.share, sku, record.ask.gpus);
                if quotas.available(share, sku) > before {
                    victims.insert(record.seq);
                } else {
                    // It was just given back, but may stand beyond a limit that was lowered since it started.
                    quotas.take_anyway(record.ask.share, sku, record.ask.gpus);
                }
            }
        }
        if !quotas.take(share, sku, rank.gpus) {
            return None;
        }
        room.quotas = quotas;
        Some(victims)
    }

    /// Whether a running job makes room for one of this rank.
    fn gives_way(&self, record: &Record, rank: Rank) -> bool {
        let Stage::Running { since_ms, .. } = record.stage else { return false };
        let sku = usize::from(record.ask.sku);
        let policy = &self.config.policy;
        if !record.may_stop() || self.now_ms.saturating_sub(since_ms) < record.protected_ms(policy) {
            return false;
        }
        // A run whose limit ends it before its work is saved gives nothing, and saving might outlast what was promised of it.
        let saved_ms = self.now_ms.saturating_add(policy.preemption.as_ref().map_or(0, |paid| paid.checkpoint_ms));
        if record.ends_ms_max(policy).is_none_or(|ends_ms| ends_ms <= saved_ms) {
            return false;
        }
        let share = ShareId(rank.share);
        if record.ask.share != share {
            if rank.own && self.quotas.reclaims(share, record.ask.share, sku, rank.gpus) {
                return true;
            }
            if self.quotas.keeps(record.ask.share, share, sku) {
                return false;
            }
        }
        if record.ask.priority != rank.priority && !rank.overdue {
            return record.ask.priority < rank.priority;
        }
        if let Order::Due { .. } = policy.order {
            // Later by less than a protected run is not worth a stop.
            return rank.overdue || record.due_ms(policy) > rank.due_ms.saturating_add(record.protected_ms(policy));
        }
        rank.overdue || record.level(self.now_ms, policy) > rank.level
    }

    fn claim(&mut self, pass: &mut Pass, room: &mut Room, seq: u64, nodes: &[Slot], victims: &[u64]) {
        let Some(for_job) = self.records.get(&seq).map(|record| record.ask.job) else { return };
        for victim in victims {
            self.stop(pass, room, *victim, for_job);
        }
        for slot in nodes {
            let kind = &mut self.kinds[pass.field];
            let pool = match &mut kind.space {
                Space::Pool(pool) => pool,
                Space::Field(mixed) => {
                    if let Some(record) = self.records.get(&seq) {
                        mixed.claim(*slot, record.ask.shape);
                    }
                    continue;
                }
            };
            let pending = &mut room.pending[slot.node as usize];
            let from_pending = slot.gpus.min(*pending);
            *pending -= from_pending;
            let kept = Slot::whole(slot.node, slot.gpus - from_pending);
            if kept.gpus > 0 && pool.take(&[kept]) {
                room.kept.push(kept);
            }
        }
    }

    fn stop(&mut self, pass: &mut Pass, room: &mut Room, victim: u64, for_job: crate::id::JobId) {
        let policy = &self.config.policy;
        let kind = &mut self.kinds[pass.field];
        let Some(record) = self.records.get_mut(&victim) else { return };
        let Stage::Running { since_ms, slots } = &record.stage else { return };
        let stage = Stage::Stopping { since_ms: *since_ms, told_ms: self.now_ms, slots: slots.clone() };
        kind.move_out(record, policy);
        record.stage = stage;
        kind.settle_in(record, policy);
        for slot in record.slots() {
            let pending = &mut room.pending[slot.node as usize];
            *pending = pending.saturating_add(slot.gpus);
        }
        room.hopeless.clear();
        pass.decisions.push(Decision::Stop { job: record.ask.job, for_job });
    }
}
