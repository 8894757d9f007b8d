//! Members that start together: which nodes of which group they go to.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Field, Shape, Slot};
use crate::place::{Arrangement, Level, Place, Seat, Wish, arranged};

/// What a group of nodes is: a site, and where the group is asked to be narrower, its number there.
type Group = (u16, Option<u32>);

/// Where members may go on one node.
pub(in crate::queue) struct Seats {
    pub(in crate::queue) node: u32,
    /// As many as fit, none more than there are members.
    pub(in crate::queue) slots: Vec<Slot>,
}

impl Field {
    /// Nodes by the group that all members of a shape have to be in. Those whose group is not known are left out.
    pub(in crate::queue) fn groups(
        &self,
        shape: &Shape,
        nodes: impl IntoIterator<Item = u32>,
    ) -> BTreeMap<Group, Vec<u32>> {
        let mut groups: BTreeMap<Group, Vec<u32>> = BTreeMap::new();
        for at in nodes {
            let node = self.node(at);
            let number = match shape.within {
                None => None,
                Some(Level::Node) => Some(at),
                Some(Level::Nvlink) => node.domain,
                Some(Level::Rack) => node.rack,
                Some(Level::Leaf) => node.leaf,
            };
            // A site that has never said what it has may have any group.
            if shape.within.is_none() || number.is_some() || node.sight == super::Sight::Unknown {
                groups.entry((node.site, number)).or_default().push(at);
            }
        }
        groups
    }

    /// Where all members would go now, the best group first: on the fewest leaves, racks, domains and nodes where they pack,
    /// and then where they leave the least room; on the most nodes where they spread.
    pub(in crate::queue) fn gangs(&self, shape: &Shape, until_ms: u64, may: &dyn Fn(u32) -> bool) -> Vec<Vec<Slot>> {
        let groups = self.groups(shape, self.open_to(shape, until_ms).filter(|node| may(*node)));
        let mut found: Vec<(Rank, Vec<Slot>)> = Vec::new();
        for nodes in groups.values() {
            let seats: Vec<Seats> = nodes.iter().map(|at| Seats { node: *at, slots: self.seats(*at, shape) }).collect();
            found.extend(self.gang(shape, &seats));
        }
        // Equally good ones by the order of their nodes, which follows from what they are.
        found.sort();
        found.into_iter().map(|(_, slots)| slots).collect()
    }

    /// How many members would fit at most now, in one group of the site: less than there are, or all.
    pub(in crate::queue) fn gang_fit(&self, shape: &Shape, until_ms: u64, site: u16) -> u32 {
        let nodes = self.open_to(shape, until_ms).filter(|node| self.node(*node).site == site);
        let room = |node: &u32| super::count(&self.views(*node), shape, shape.members);
        let fit = |nodes: &Vec<u32>| nodes.iter().map(room).fold(0, u32::saturating_add);
        let groups = self.groups(shape, nodes);
        groups.values().map(fit).max().unwrap_or(0).min(shape.members)
    }

    /// Where all members would go within one group, if they fit.
    pub(in crate::queue) fn gang(&self, shape: &Shape, seats: &[Seats]) -> Option<(Rank, Vec<Slot>)> {
        let arrangement = if shape.spread { Arrangement::Spread } else { Arrangement::Pack };
        let wish = Wish { within: None, arrangement };
        let room: u64 = seats.iter().map(|seats| seats.slots.len() as u64).sum();
        let need = u64::from(shape.members);
        if room < need {
            return None;
        }
        // Spread, every node takes as many as all others do before any takes one more.
        let floor = if shape.spread { level(seats, need) } else { 0 };
        let on_all: u64 = seats.iter().map(|seats| (seats.slots.len() as u64).min(floor)).sum();
        let over = |seats: &Seats| {
            let above = (seats.slots.len() as u64).saturating_sub(floor);
            if shape.spread { above.min(1) } else { above }
        };
        let candidates = seats.iter().filter(|seats| over(seats) > 0);
        let candidates = candidates.map(|seats| self.seat(seats.node, over(seats))).collect();
        let rest = u32::try_from(need - on_all).ok()?;
        let mut counts = arranged(candidates, rest, wish).ok()?;
        for seats in seats {
            let base = (seats.slots.len() as u64).min(floor);
            if base > 0 {
                *counts.entry(seats.node).or_default() += base;
            }
        }
        let nodes: Vec<u32> = counts.iter().filter(|(_, count)| **count > 0).map(|(node, _)| *node).collect();
        let mut slots = Vec::with_capacity(shape.members as usize);
        for seats in seats {
            let count = usize::try_from(counts.get(&seats.node).copied().unwrap_or(0)).ok()?;
            slots.extend(seats.slots.get(..count)?);
        }
        let used = self.breadth(&nodes);
        let rank = if shape.spread { (Reverse(used.3), [0; 4], 0) } else { (Reverse(0), used.into(), room - need) };
        Some((rank, slots))
    }

    fn seat(&self, node: u32, room: u64) -> Seat<(u64, u64, u32)> {
        let at = self.node(node);
        let place = Place { nvlink: at.domain, rack: at.rack, leaf: at.leaf };
        // Alike nodes are told apart by their order, which follows from what they have and what runs there.
        Seat { node, place, content: (u64::from(at.cpus_milli), at.memory_bytes, node), room }
    }

    /// On how many leaves, racks, domains and nodes these are.
    fn breadth(&self, nodes: &[u32]) -> (usize, usize, usize, usize) {
        let distinct = |of: &dyn Fn(&super::Node) -> Option<u32>| {
            let mut numbers: Vec<Option<u32>> = nodes.iter().map(|node| of(self.node(*node))).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.len()
        };
        (distinct(&|node| node.leaf), distinct(&|node| node.rack), distinct(&|node| node.domain), nodes.len())
    }
}

/// What makes one arrangement better than another: lower is better.
pub(in crate::queue) type Rank = (Reverse<usize>, [usize; 4], u64);

/// How many members every node may take, as far as it has room, before there are too many.
fn level(seats: &[Seats], need: u64) -> u64 {
    let taken = |level: u64| seats.iter().map(|seats| (seats.slots.len() as u64).min(level)).sum::<u64>();
    (1..=need).take_while(|level| taken(*level) <= need).last().unwrap_or(0)
}
