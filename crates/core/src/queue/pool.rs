//! The accelerators of one kind: nodes of one size, what is free on each, and where a job fits best.
//!
//! Placement is consolidated: a job of at most one node's size goes to the node it fills best, a larger one takes whole
//! nodes and puts what is left over on the node it fills best. Among equals the node that was added first wins, so that
//! a name never decides.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Some accelerators of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// Which node, in the order nodes were added.
    pub node: u32,
    /// How many of its accelerators. On mixed ground the units of one member.
    pub gpus: u32,
    /// Which of the node's shared accelerators a part lies on; on mixed ground only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u8>,
}

impl Slot {
    /// So many accelerators of a node.
    pub const fn whole(node: u32, gpus: u32) -> Self {
        Self { node, gpus, part: None }
    }
}

/// The nodes of one kind. What is given out was free: `take` is the only way, and it checks.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    gpus_per_node: u32,
    free: Vec<u32>,
    /// Nodes by how many accelerators they have free.
    by_free: Vec<BTreeSet<u32>>,
}

impl Pool {
    pub(super) fn new(nodes: u32, gpus_per_node: u32) -> Self {
        let mut by_free = vec![BTreeSet::new(); gpus_per_node as usize + 1];
        by_free[gpus_per_node as usize] = (0..nodes).collect();
        Self { gpus_per_node, free: vec![gpus_per_node; nodes as usize], by_free }
    }

    pub(super) fn gpus_per_node(&self) -> u32 {
        self.gpus_per_node
    }

    pub(super) fn gpus_total(&self) -> u64 {
        self.free.len() as u64 * u64::from(self.gpus_per_node)
    }

    pub(super) fn gpus_free(&self) -> u64 {
        self.free.iter().map(|free| u64::from(*free)).sum()
    }

    pub(super) fn free(&self) -> &[u32] {
        &self.free
    }

    /// The most accelerators free on one node.
    pub(super) fn widest(&self) -> u32 {
        (0..=self.gpus_per_node).rev().find(|free| !self.by_free[*free as usize].is_empty()).unwrap_or(0)
    }

    /// Nodes with nothing on them.
    pub(super) fn nodes_empty(&self) -> usize {
        self.by_free[self.gpus_per_node as usize].len()
    }

    /// Where a job of this size fits best now, if anywhere.
    pub(super) fn best_fit(&self, gpus: u32) -> Option<Vec<Slot>> {
        let (whole, rest) = split(gpus, self.gpus_per_node);
        let empty = &self.by_free[self.gpus_per_node as usize];
        if empty.len() < whole {
            return None;
        }
        let mut slots: Vec<Slot> =
            empty.iter().take(whole).map(|node| Slot::whole(*node, self.gpus_per_node)).collect();
        if rest > 0 {
            let partial = (rest..self.gpus_per_node).find_map(|free| self.by_free[free as usize].first().copied());
            let node = partial.or_else(|| empty.iter().nth(whole).copied())?;
            slots.push(Slot::whole(node, rest));
        }
        Some(slots)
    }

    /// Nodes with at least this much free, those a job of this size fills best first.
    pub(super) fn nodes_by_fit(&self, gpus: u32) -> impl Iterator<Item = u32> + '_ {
        (gpus..=self.gpus_per_node).flat_map(|free| self.by_free[free as usize].iter().copied())
    }

    /// Gives the slots out, all or none. False: something of them was not free, and nothing changed.
    pub(super) fn take(&mut self, slots: &[Slot]) -> bool {
        for (done, slot) in slots.iter().enumerate() {
            let left = self.free.get(slot.node as usize).and_then(|free| free.checked_sub(slot.gpus));
            let Some(left) = left else {
                self.give_back(&slots[..done]);
                return false;
            };
            self.set_free(slot.node, left);
        }
        true
    }

    /// Takes the slots back. They were given out before, by `take`.
    pub(super) fn give_back(&mut self, slots: &[Slot]) {
        for slot in slots {
            let free = self.free[slot.node as usize] + slot.gpus;
            assert!(free <= self.gpus_per_node, "more came back than a node has");
            self.set_free(slot.node, free);
        }
    }

    fn set_free(&mut self, node: u32, free: u32) {
        let before = std::mem::replace(&mut self.free[node as usize], free);
        self.by_free[before as usize].remove(&node);
        self.by_free[free as usize].insert(node);
    }
}

/// Whole nodes, and what is left over for a part of one.
pub(super) fn split(gpus: u32, gpus_per_node: u32) -> (usize, u32) {
    ((gpus / gpus_per_node) as usize, gpus % gpus_per_node)
}

/// What will be free at some later time, seen by one job that was promised to start then: may another job stay on a node
/// past that time without delaying it?
#[derive(Debug, Clone)]
pub(super) struct Later {
    gpus_per_node: u32,
    need: u32,
    free: Vec<u32>,
    /// How many nodes will have this many free.
    count: Vec<u32>,
    /// Whether accelerators are only counted, not placed; and if so, how many will be free in all.
    counted: Option<u64>,
}

impl Later {
    pub(super) fn of(pool: &Pool, need: u32, counted: bool) -> Self {
        let mut count = vec![0; pool.gpus_per_node as usize + 1];
        for free in &pool.free {
            count[*free as usize] += 1;
        }
        Self {
            gpus_per_node: pool.gpus_per_node,
            need,
            free: pool.free.clone(),
            count,
            counted: counted.then(|| pool.gpus_free()),
        }
    }

    /// Whether the promised job will fit.
    pub(super) fn fits(&self) -> bool {
        let (whole, rest) = split(self.need, self.gpus_per_node);
        let empty = self.count[self.gpus_per_node as usize] as usize;
        let partial = || self.count[rest as usize..self.gpus_per_node as usize].iter().any(|count| *count > 0);
        empty >= whole && (rest == 0 || empty > whole || partial())
    }

    pub(super) fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.counted = self.counted.map(|sum| sum + u64::from(slot.gpus));
            self.set(slot.node, self.free[slot.node as usize] + slot.gpus);
        }
    }

    /// Occupies the slots if they will be free and the promised job still fits afterwards; else changes nothing.
    pub(super) fn occupy(&mut self, slots: &[Slot]) -> bool {
        if let Some(sum) = &mut self.counted {
            let gpus: u64 = slots.iter().map(|slot| u64::from(slot.gpus)).sum();
            let enough = *sum >= gpus + u64::from(self.need);
            *sum -= if enough { gpus } else { 0 };
            return enough;
        }
        let enough = slots.iter().all(|slot| self.free[slot.node as usize] >= slot.gpus);
        if !enough {
            return false;
        }
        for slot in slots {
            self.set(slot.node, self.free[slot.node as usize] - slot.gpus);
        }
        if self.fits() {
            return true;
        }
        self.release(slots);
        false
    }

    fn set(&mut self, node: u32, free: u32) {
        let before = std::mem::replace(&mut self.free[node as usize], free);
        self.count[before as usize] -= 1;
        self.count[free as usize] += 1;
    }
}
