//! Nodes that leave a queue for a while and come back.
//!
//! The queue is rebuilt from an edited snapshot at both ends: what ran on the nodes waits again, and in its place stands a
//! run of nobody's that takes whole nodes, cannot be stopped, and ends when the nodes come back.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use gregal_core::{
    id::JobId,
    queue::{Ask, Config, ConfigError, End, Ground, Queue, Record, ShareId, Sku, Slot, Snapshot, Stage},
};

use super::run::Replay;
use crate::{Absence, Why};

/// The absences of a replay and how far they are.
pub(super) struct Absences {
    all: Vec<Absence>,
    /// When something happens, in order: (time, is a return, which absence). Nodes come back before others leave.
    edges: BTreeSet<(u64, Reverse<bool>, usize)>,
    /// The nodes that are away, as (kind, node).
    away: BTreeSet<(u16, u32)>,
    /// What stands in place of each absence that has begun.
    stands: Vec<Vec<Record>>,
    /// Accelerators that are away.
    pub(super) gpus: u64,
}

impl Absences {
    pub(super) fn new(all: &[Absence]) -> Self {
        let edges = all.iter().enumerate().flat_map(|(place, absence)| {
            [(absence.from, Reverse(false), place), (absence.until, Reverse(true), place)]
        });
        let stands = vec![Vec::new(); all.len()];
        Self { edges: edges.collect(), all: all.to_vec(), away: BTreeSet::new(), stands, gpus: 0 }
    }

    /// When nodes leave or come back next.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.edges.first().map(|(at_ms, ..)| *at_ms)
    }
}

/// The kinds of nodes of a replay.
fn kinds(config: &Config) -> Vec<Sku> {
    match &config.ground {
        Ground::Uniform(skus) => skus.clone(),
        // No replay has one.
        Ground::Mixed(_) => Vec::new(),
    }
}

impl Replay<'_> {
    /// Lets nodes leave and come back that do so by now.
    pub(super) fn nodes_leave_and_return(&mut self, now_ms: u64) -> Result<(), ConfigError> {
        while self.absences.next_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            let Some((_, Reverse(returns), place)) = self.absences.edges.pop_first() else { break };
            let mut snapshot = self.queue.snapshot();
            if returns {
                self.come_back(&mut snapshot, place);
            } else {
                self.leave(&mut snapshot, place, now_ms);
            }
            self.queue = Queue::of_snapshot(snapshot)?;
        }
        Ok(())
    }

    fn leave(&mut self, snapshot: &mut Snapshot, place: usize, now_ms: u64) {
        let absence = self.absences.all[place];
        let nodes = self.leavers(snapshot, absence);
        let on = |record: &Record| record.slots().iter().any(|slot| nodes.contains(&(record.ask.sku, slot.node)));
        for record in snapshot.records.iter_mut().filter(|record| on(record)) {
            self.interrupt(record, absence.why, now_ms);
        }
        for (sku, kind) in (0..).zip(kinds(&snapshot.config)) {
            let slots = nodes.iter().filter(|(of, _)| *of == sku);
            let slots: Vec<Slot> = slots.map(|(_, node)| Slot::whole(*node, kind.gpus_per_node)).collect();
            if slots.is_empty() {
                continue;
            }
            let gpus: u32 = slots.iter().map(|slot| slot.gpus).sum();
            let seq = snapshot.next_seq;
            snapshot.next_seq += 1;
            let limit_ms = match absence.why {
                Why::Down => None,
                Why::Reserved => Some(absence.until.saturating_sub(now_ms)),
            };
            let job = JobId::from_u128(u128::MAX - u128::from(seq));
            let ask =
                Ask { job, share: ShareId(0), sku, gpus, shape: 0, limit_ms, priority: u8::MAX, preemptible: false };
            let stage = Stage::Running { since_ms: now_ms, slots };
            let (submitted_ms, end) = (now_ms, End::Limit);
            let stands = Record { ask, seq, submitted_ms, worked_ms: 0, stops: 0, promised_ms: None, end, stage };
            self.witness.takes(ask.share, sku, stands.slots(), gpus);
            self.absences.gpus += u64::from(gpus);
            self.absences.stands[place].push(stands.clone());
            snapshot.records.push(stands);
        }
        self.note(b"leave", place, now_ms);
        self.absences.away.extend(nodes);
    }

    fn come_back(&mut self, snapshot: &mut Snapshot, place: usize) {
        for stands in std::mem::take(&mut self.absences.stands[place]) {
            let (sku, gpus) = (stands.ask.sku, u64::from(stands.ask.gpus));
            snapshot.records.retain(|record| record.ask.job != stands.ask.job);
            self.witness.gives_back(stands.ask.share, sku, stands.slots());
            self.absences.gpus = self.absences.gpus.saturating_sub(gpus);
            for slot in stands.slots() {
                self.absences.away.remove(&(sku, slot.node));
            }
        }
    }

    /// Which nodes leave, of those that are not away already.
    fn leavers(&self, snapshot: &Snapshot, absence: Absence) -> BTreeSet<(u16, u32)> {
        let kinds = (0..).zip(kinds(&snapshot.config));
        let all = kinds.flat_map(|(sku, kind)| (0..kind.nodes).map(move |node| (sku, node)));
        let mut there: Vec<(u16, u32)> = all.filter(|node| !self.absences.away.contains(node)).collect();
        there.reverse();
        if absence.why == Why::Reserved {
            let mut used: BTreeMap<(u16, u32), u32> = BTreeMap::new();
            for record in &snapshot.records {
                for slot in record.slots() {
                    *used.entry((record.ask.sku, slot.node)).or_default() += slot.gpus;
                }
            }
            there.sort_by_key(|node| used.get(node).copied().unwrap_or(0));
        }
        there.into_iter().take(absence.nodes as usize).collect()
    }

    /// A run ends because its nodes leave, and its job waits again.
    fn interrupt(&mut self, record: &mut Record, why: Why, now_ms: u64) {
        let (sku, gpus) = (record.ask.sku, u64::from(record.ask.gpus));
        self.witness.gives_back(record.ask.share, sku, record.slots());
        self.taken = self.taken.saturating_sub(gpus);
        self.interruptions += 1;
        let Some(index) = self.places.get(&record.ask.job).copied() else { return };
        let fate = &mut self.fates[index];
        let saving = matches!(record.stage, Stage::Stopping { .. });
        let worked_ms = if saving { 0 } else { (now_ms - fate.since_ms).saturating_sub(fate.restart_ms) };
        match why {
            Why::Down => {
                // What it was saving is lost too.
                let lost_ms = worked_ms + fate.worked_ms.saturating_sub(record.worked_ms);
                self.lost_gpu_ms += lost_ms * gpus;
                fate.worked_ms = record.worked_ms;
            }
            Why::Reserved => {
                // The last of the time went into saving.
                let saving_ms = self.checkpoint_ms.min(worked_ms);
                self.overhead_gpu_ms += saving_ms * gpus;
                fate.worked_ms += worked_ms - saving_ms;
            }
        }
        fate.run += 1;
        fate.waiting_since_ms = now_ms;
        record.worked_ms = fate.worked_ms;
        record.promised_ms = None;
        record.stage = Stage::Waiting { since_ms: now_ms };
    }
}
