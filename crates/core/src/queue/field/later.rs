//! The nodes of one site as they will be, for one job that is to be promised a start there.

use crate::place::MEMBERS_MAX;

use super::{Amount, Block, Field, Left, Node, Shape, Sight, Slot, count};

#[derive(Debug, Clone)]
struct Seen {
    node: Node,
    at: u32,
    used: Amount,
    /// Which group of the level that all members have to be in.
    group: usize,
    /// How many members will fit.
    room: u32,
    /// Whether the job would still be there when the node has to be left.
    closed: bool,
}

impl Seen {
    fn left(&self) -> Left {
        Left::of(&self.node, &[(&self.used, true)])
    }

    fn count(&self, need: &Shape) -> u32 {
        if self.closed {
            return 0;
        }
        count(&[self.left()], need, need.members)
    }
}

/// The nodes of one site as they will be, for one job: those where what runs has a known end.
#[derive(Debug, Clone)]
pub(in crate::queue) struct FieldLater {
    nodes: Vec<Seen>,
    /// Whether the job could run on others, of which nobody knows when.
    pub(in crate::queue) unknown: bool,
    /// Whether the site has enough for it, with nothing else there.
    enough: bool,
    /// How many members will fit in each group.
    rooms: Vec<u64>,
    need: Shape,
    /// How long it has its room at most; None without an end.
    hold_ms: Option<u64>,
}

impl Field {
    /// What will be free at a site, seen by a job that is to be promised a start there and has its room for so long at most.
    pub(in crate::queue) fn later(&self, site: usize, shape: u32, hold_ms: Option<u64>) -> FieldLater {
        self.later_with(site, shape, hold_ms, false)
    }

    /// As `later`, for a block that is reserved there: what has an end nobody knows is taken to stay, so that nobody passes
    /// on the strength of what is not known.
    pub(in crate::queue) fn later_of_block(&self, block: &Block) -> FieldLater {
        self.later_with(usize::from(block.site), block.shape, None, true)
    }

    fn later_with(&self, site: usize, shape: u32, hold_ms: Option<u64>, blind_stays: bool) -> FieldLater {
        let need = self.shape(shape);
        let here = |node: &u32| {
            let at = self.node(*node);
            usize::from(at.site) == site && at.is_for(need) && (hold_ms.is_some() || at.until_ms.is_none())
        };
        let groups = self.groups(need, self.lawful(need).filter(here));
        let mut later = FieldLater {
            nodes: Vec::new(),
            unknown: false,
            enough: groups.values().any(|nodes| self.could_in(nodes, need)),
            rooms: vec![0; groups.len()],
            need: need.clone(),
            hold_ms,
        };
        for (group, node) in
            groups.values().enumerate().flat_map(|(group, nodes)| nodes.iter().map(move |at| (group, *at)))
        {
            let (at, taken) = (self.node(node), &self.taken[node as usize]);
            if !self.could(node, need) {
                continue;
            }
            if at.sight != Sight::Alive || (taken.blind > 0 && !blind_stays) {
                later.unknown = true;
                continue;
            }
            let mut seen = Seen { node: at.clone(), at: node, used: taken.used.clone(), group, room: 0, closed: false };
            seen.room = seen.count(need);
            later.rooms[group] += u64::from(seen.room);
            later.nodes.push(seen);
        }
        later.nodes.sort_unstable_by_key(|seen| seen.at);
        later
    }
}

impl FieldLater {
    /// Whether all members will fit.
    pub(in crate::queue) fn fits(&self) -> bool {
        self.rooms.iter().any(|room| *room >= u64::from(self.need.members))
    }

    /// Whether the job could run here at all.
    pub(in crate::queue) fn any(&self) -> bool {
        self.enough
    }

    /// Whether the promised job counts on a node.
    pub(in crate::queue) fn counts_on(&self, node: u32) -> bool {
        self.place(node).is_some_and(|at| self.nodes[at].room > 0)
    }

    fn place(&self, node: u32) -> Option<usize> {
        self.nodes.binary_search_by_key(&node, |seen| seen.at).ok()
    }

    /// A start no earlier than this is looked for: nodes that have to be left before the job would have ended are out.
    pub(in crate::queue) fn advance(&mut self, at_ms: u64) {
        let Some(ends_ms) = self.hold_ms.map(|hold_ms| at_ms.saturating_add(hold_ms)) else { return };
        for seen in self.nodes.iter_mut().filter(|seen| !seen.closed) {
            if seen.node.until_ms.is_some_and(|until_ms| ends_ms > until_ms) {
                self.rooms[seen.group] -= u64::from(seen.room);
                (seen.closed, seen.room) = (true, 0);
            }
        }
    }

    fn change(&mut self, slots: &[Slot], change: impl Fn(&mut Amount, Slot)) {
        let mut touched: Vec<usize> = Vec::with_capacity(slots.len().min(self.nodes.len()));
        for slot in slots {
            let Some(found) = self.place(slot.node) else { continue };
            change(&mut self.nodes[found].used, *slot);
            if touched.last() != Some(&found) {
                touched.push(found);
            }
        }
        for found in touched {
            let seen = &mut self.nodes[found];
            let room = seen.count(&self.need);
            self.rooms[seen.group] = self.rooms[seen.group] + u64::from(room) - u64::from(seen.room);
            seen.room = room;
        }
    }

    pub(in crate::queue) fn release(&mut self, slots: &[Slot], shape: &Shape) {
        self.change(slots, |used, slot| used.sub(shape, slot));
    }

    /// Puts all members of a shape there, or takes them away, whatever else is there: on the node with most room for it of those
    /// that have enough, with nothing else there.
    pub(in crate::queue) fn seat(&mut self, shape: &Shape, comes: bool) {
        let members = |seen: &Seen| count(&[Left::all(&seen.node)], shape, shape.members);
        let best = self.nodes.iter().max_by_key(|seen| (members(seen), std::cmp::Reverse(seen.at)));
        let Some((at, room)) = best.map(|seen| (seen.at, members(seen))) else { return };
        // One more than there is ever room for fills it as surely as any number more.
        let count = shape.members.min(room.saturating_add(1)).min(MEMBERS_MAX);
        let slots = vec![Slot::whole(at, shape.units); count as usize];
        self.change(&slots, |used, slot| if comes { used.add(shape, slot) } else { used.sub(shape, slot) });
    }

    /// Occupies the slots if they will be free and the promised job still fits afterwards; else changes nothing.
    pub(in crate::queue) fn occupy(&mut self, slots: &[Slot], shape: &Shape) -> bool {
        // Elsewhere, or on a node nobody counts on, is nobody's harm.
        let here: Vec<Slot> = slots.iter().filter(|slot| self.place(slot.node).is_some()).copied().collect();
        for (done, slot) in here.iter().enumerate() {
            let free = self.place(slot.node).is_some_and(|at| self.nodes[at].left().holds(shape, *slot));
            if !free {
                self.release(&here[..done], shape);
                return false;
            }
            self.change(&here[done..=done], |used, slot| used.add(shape, slot));
        }
        if here.is_empty() || self.fits() {
            return true;
        }
        self.release(&here, shape);
        false
    }
}
