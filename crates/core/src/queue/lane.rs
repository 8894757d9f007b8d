//! Waiting jobs by lanes of like ones, and the order in which lanes are looked at.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    history::Class,
    job::{Record, Stage},
    policy::Policy,
};

/// What jobs of one lane have in common. Only their limits and their places differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) class: Class,
    pub(super) shape: u32,
    pub(super) priority: u8,
    pub(super) level: u32,
}

impl LaneKey {
    /// The lane of a waiting job. Its level stays as long as it waits: it does no work.
    pub(super) fn of(record: &Record, policy: &Policy) -> Self {
        Self {
            class: record.class(),
            shape: record.ask.shape,
            priority: record.ask.priority,
            level: record.level(0, policy),
        }
    }
}

/// Lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// First of all: were priority first, one that borrows would take again what was just freed for its owner.
    pub(super) beyond_own: bool,
    pub(super) priority: Reverse<u8>,
    pub(super) level: u32,
    /// The work expected, or when it is due.
    pub(super) work: u64,
    /// When it is due, where that orders.
    pub(super) due_ms: u64,
    pub(super) seq: u64,
}

/// The waiting jobs for one kind of accelerator.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<LaneKey, BTreeSet<(u64, u64)>>,
    /// Everybody by how long they wait.
    since: BTreeSet<(u64, u64)>,
}

impl Lanes {
    pub(super) fn insert(&mut self, record: &Record, policy: &Policy) {
        if let Stage::Waiting { since_ms } = record.stage {
            self.lanes.entry(LaneKey::of(record, policy)).or_default().insert((record.due_ms(policy), record.seq));
            self.since.insert((since_ms, record.seq));
        }
    }

    /// Takes out a job that still stands as waiting.
    pub(super) fn remove(&mut self, record: &Record, policy: &Policy) {
        let Stage::Waiting { since_ms } = record.stage else { return };
        let key = LaneKey::of(record, policy);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.remove(&(record.due_ms(policy), record.seq));
            if lane.is_empty() {
                self.lanes.remove(&key);
            }
        }
        self.since.remove(&(since_ms, record.seq));
    }

    /// All lanes, each with when its first is due and that one's number.
    pub(super) fn heads(&self) -> impl Iterator<Item = (LaneKey, (u64, u64))> + '_ {
        self.lanes.iter().filter_map(|(key, lane)| Some((*key, *lane.first()?)))
    }

    /// Whether anybody waits since then or longer.
    pub(super) fn any_since(&self, since_ms: u64) -> bool {
        self.since.first().is_some_and(|(first, _)| *first <= since_ms)
    }

    /// The first of a lane at or after this place: when it is due, and its number.
    pub(super) fn next(&self, key: &LaneKey, from: (u64, u64)) -> Option<(u64, u64)> {
        self.lanes.get(key)?.range(from..).next().copied()
    }

    /// Who waits since then or longer, the longest first, at most so many.
    pub(super) fn waiting_since(&self, since_ms: u64, most: usize) -> Vec<u64> {
        self.since.range(..=(since_ms, u64::MAX)).take(most).map(|(_, seq)| *seq).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.since.len()
    }
}
