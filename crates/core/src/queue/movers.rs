//! Which running jobs may be stopped for others, kept from pass to pass: a pass that looked at everything that runs would cost
//! the same however little had changed.
//!
//! What is known of a run changes by time too: its protected time ends, and it sinks by the work it does. So every run stands
//! in a list by when that happens next, and only those whose turn has come are looked at.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::{
    job::{Record, Stage},
    policy::Policy,
    quota::{Quotas, ShareId},
};

/// The best that a search may find on a node: necessary, not sufficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) gpus: u32,
    pub(super) level_max: u32,
    pub(super) due_ms_max: u64,
    pub(super) priority_min: u8,
    pub(super) borrowed: bool,
}

impl Hint {
    pub(super) const NOTHING: Self =
        Self { gpus: 0, level_max: 0, due_ms_max: 0, priority_min: u8::MAX, borrowed: false };
}

/// Whose a run is, and of which kind.
type Owner = (ShareId, u16);

/// The runs that may be stopped, now or later.
#[derive(Debug, Clone)]
pub(super) struct Movers {
    /// When what is known of a run changes next.
    turns: BTreeSet<(u64, u64)>,
    /// The same by run. Looked up, never walked: its order is nobody's.
    turn_of: HashMap<u64, u64>,
    /// Those whose protected time is over: the lowest first, then whose work is interrupted least, then who came last.
    movable: BTreeSet<(u8, u32, Reverse<u64>)>,
    by_owner: BTreeMap<Owner, BTreeSet<u64>>,
    /// Owners of movable runs that used more than their own when last looked at.
    borrowing: BTreeSet<Owner>,
    hints: Vec<Hint>,
    /// Nodes whose hint may be out of date.
    stale: BTreeSet<u32>,
}

fn least(record: &Record) -> (u8, u32, Reverse<u64>) {
    (record.ask.priority, record.ask.gpus, Reverse(record.seq))
}

fn owner(record: &Record) -> Owner {
    (record.ask.share, record.ask.sku)
}

impl Movers {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            turns: BTreeSet::new(),
            turn_of: HashMap::new(),
            movable: BTreeSet::new(),
            by_owner: BTreeMap::new(),
            borrowing: BTreeSet::new(),
            hints: vec![Hint::NOTHING; nodes],
            stale: BTreeSet::new(),
        }
    }

    /// Notes a run whose end is known.
    pub(super) fn came(&mut self, record: &Record, policy: &Policy) {
        let Stage::Running { since_ms, .. } = record.stage else { return };
        if policy.preemption.is_some() && record.may_stop() {
            self.turn(record.seq, since_ms.saturating_add(record.protected_ms(policy)));
        }
    }

    /// Forgets a run, or one that is being stopped.
    pub(super) fn went(&mut self, record: &Record) {
        if let Some(turn_ms) = self.turn_of.remove(&record.seq) {
            self.turns.remove(&(turn_ms, record.seq));
        }
        if self.movable.remove(&least(record)) {
            self.stale.extend(record.slots().iter().map(|slot| slot.node));
            if let Some(runs) = self.by_owner.get_mut(&owner(record)) {
                runs.remove(&record.seq);
                if runs.is_empty() {
                    self.by_owner.remove(&owner(record));
                }
            }
        }
    }

    fn turn(&mut self, seq: u64, turn_ms: u64) {
        self.turns.insert((turn_ms, seq));
        self.turn_of.insert(seq, turn_ms);
    }

    /// Brings what is known up to a time.
    pub(super) fn refresh(
        &mut self,
        now_ms: u64,
        (records, on_node): (&BTreeMap<u64, Record>, &[Vec<u64>]),
        quotas: &Quotas,
        policy: &Policy,
    ) {
        while let Some((turn_ms, seq)) = self.turns.first().copied().filter(|(turn_ms, _)| *turn_ms <= now_ms) {
            self.turns.remove(&(turn_ms, seq));
            self.turn_of.remove(&seq);
            let Some(record) = records.get(&seq) else { continue };
            self.movable.insert(least(record));
            self.by_owner.entry(owner(record)).or_default().insert(seq);
            self.stale.extend(record.slots().iter().map(|slot| slot.node));
            if let Some(next_ms) = record.sinks_ms(now_ms, policy) {
                self.turn(seq, next_ms);
            }
        }
        let borrows = |(share, sku): &&Owner| quotas.borrows(*share, usize::from(*sku));
        let borrowing: BTreeSet<Owner> = self.by_owner.keys().filter(borrows).copied().collect();
        for changed in borrowing.symmetric_difference(&self.borrowing) {
            let runs = self.by_owner.get(changed).into_iter().flatten();
            self.stale.extend(runs.filter_map(|seq| records.get(seq)).flat_map(Record::slots).map(|slot| slot.node));
        }
        self.borrowing = borrowing;
        for node in std::mem::take(&mut self.stale) {
            let here = on_node[node as usize].iter().filter_map(|seq| records.get(seq));
            self.hints[node as usize] = self.hint(node, here, now_ms, policy);
        }
    }

    fn hint<'a>(&self, node: u32, here: impl Iterator<Item = &'a Record>, now_ms: u64, policy: &Policy) -> Hint {
        let mut hint = Hint::NOTHING;
        for record in here.filter(|record| self.movable.contains(&least(record))) {
            let slots = record.slots().iter().filter(|slot| slot.node == node);
            hint.gpus = slots.fold(hint.gpus, |sum, slot| sum.saturating_add(slot.gpus));
            hint.level_max = hint.level_max.max(record.level(now_ms, policy));
            hint.due_ms_max = hint.due_ms_max.max(record.due_ms(policy));
            hint.priority_min = hint.priority_min.min(record.ask.priority);
            hint.borrowed |= self.borrowing.contains(&owner(record));
        }
        hint
    }

    /// What may be found on each node.
    pub(super) fn hints(&self) -> &[Hint] {
        &self.hints
    }

    /// Those whose protected time was over when last looked at, the least first.
    pub(super) fn movable(&self) -> impl Iterator<Item = u64> + '_ {
        self.movable.iter().map(|(_, _, Reverse(seq))| *seq)
    }
}
