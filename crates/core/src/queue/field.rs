//! Mixed nodes: what is taken of each, what fits where, and what will be free later.

mod amount;
mod choice;
mod gang;
mod later;

pub(crate) use amount::Free;
pub(super) use gang::Seats;
pub(super) use later::FieldLater;

use super::{
    ground::{Block, Mixed, Node, Shape, Sight},
    job::{Ask, End, Record},
    pool::Slot,
};
use amount::{Amount, Left, count, room, seats};

/// Whom a node is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kept {
    /// For what has ended by then, in milliseconds.
    Until(u64),
    /// For others.
    Others,
}

/// What is taken of a node.
#[derive(Debug, Clone)]
struct Taken {
    used: Amount,
    /// The part of it that is being freed.
    coming: Amount,
    /// Kept for the length of a pass for who was promised what is being freed.
    claimed: Amount,
    /// How many jobs here have an end nobody knows.
    blind: u32,
}

/// The nodes of a mixed ground and what is taken of them.
#[derive(Debug, Clone)]
pub(super) struct Field {
    mixed: Mixed,
    taken: Vec<Taken>,
    claims: Vec<(Slot, u32)>,
    /// The latest time by which some node wants to be left.
    until_max: Option<u64>,
}

impl Field {
    pub(super) fn new(mixed: &Mixed) -> Self {
        let none = || Amount::none(mixed.models);
        let taken = Taken { used: none(), coming: none(), claimed: none(), blind: 0 };
        Self {
            taken: vec![taken; mixed.nodes.len()],
            claims: Vec::new(),
            until_max: (mixed.nodes.iter().filter_map(|node| node.until_ms))
                .chain(mixed.blocks.iter().map(|block| block.at_ms))
                .max(),
            mixed: mixed.clone(),
        }
    }

    pub(super) fn nodes(&self) -> usize {
        self.mixed.nodes.len()
    }

    pub(super) fn node(&self, node: u32) -> &Node {
        &self.mixed.nodes[node as usize]
    }

    pub(super) fn shape(&self, shape: u32) -> &Shape {
        &self.mixed.shapes[shape as usize]
    }

    pub(super) fn has(&self, ask: &Ask) -> bool {
        let shape = self.mixed.shapes.get(ask.shape as usize);
        shape.is_some_and(|shape| shape.sku == ask.sku && shape.units_all() == ask.gpus)
    }

    /// The blocks that are reserved at a site, by their place.
    pub(super) fn blocks(&self, site: usize) -> impl Iterator<Item = &Block> {
        self.mixed.blocks.iter().filter(move |block| usize::from(block.site) == site)
    }

    /// Whether what has its room until then would run into a block that is reserved at a node's site.
    fn is_reserved(&self, node: u32, until_ms: u64) -> bool {
        self.blocks(usize::from(self.node(node).site)).any(|block| until_ms > block.at_ms)
    }

    /// The latest time by which some node, or a site where something is reserved, wants to be left: before it, how long a job is matters for where it may go.
    pub(super) fn until_max(&self) -> Option<u64> {
        self.until_max
    }

    fn lawful(&self, shape: &Shape) -> impl Iterator<Item = u32> {
        let sites = shape.sites.clone();
        (0..).zip(&self.mixed.nodes).filter(move |(_, node)| sites.binary_search(&node.site).is_ok()).map(|(at, _)| at)
    }

    /// Whether a member of a shape could run on a node with nothing else there, as far as anybody knows.
    pub(super) fn could(&self, node: u32, shape: &Shape) -> bool {
        let node = self.node(node);
        node.sight == Sight::Unknown || Left::all(node).free(shape).fits(shape)
    }

    /// Whom a node is kept for, if not for what has this shape and ends by then.
    pub(super) fn kept(&self, node: u32, shape: &Shape, until_ms: u64) -> Option<Kept> {
        let node = self.node(node);
        if !node.is_for(shape) {
            return Some(Kept::Others);
        }
        node.until_ms.filter(|last_ms| until_ms > *last_ms).map(Kept::Until)
    }

    /// Whether a shape could run anywhere, all of its members.
    pub(super) fn could_anywhere(&self, shape: &Shape) -> bool {
        let groups = self.groups(shape, self.lawful(shape));
        groups.values().any(|nodes| self.could_in(nodes, shape))
    }

    /// Whether all members could run within a group of nodes.
    fn could_in(&self, nodes: &[u32], shape: &Shape) -> bool {
        let room = |node: &u32| match self.node(*node).sight {
            Sight::Unknown => u64::from(shape.members),
            _ => u64::from(count(&[Left::all(self.node(*node))], shape, shape.members)),
        };
        nodes.iter().map(room).sum::<u64>() >= u64::from(shape.members)
    }

    /// What of a node is free now for a shape, claims respected.
    pub(super) fn free(&self, node: u32, shape: &Shape) -> Free {
        let [now, soon] = self.views(node);
        now.free(shape).least(soon.free(shape))
    }

    /// A node as it is, and as it will be once what is being freed has gone and every claim has started.
    fn views(&self, node: u32) -> [Left; 2] {
        [Left::of(self.node(node), &[(&self.taken[node as usize].used, true)]), self.soon(node, &[])]
    }

    /// A node once what is being freed and these have gone, and every claim has started.
    fn soon(&self, node: u32, gone: &[&Record]) -> Left {
        let taken = &self.taken[node as usize];
        let sides = [(&taken.used, true), (&taken.claimed, true), (&taken.coming, false)];
        if gone.is_empty() {
            return Left::of(self.node(node), &sides);
        }
        let mut leaving = Amount::none(self.mixed.models);
        for record in gone {
            for slot in record.slots().iter().filter(|slot| slot.node == node) {
                leaving.add(self.shape(record.ask.shape), *slot);
            }
        }
        let [used, claimed, coming] = sides;
        Left::of(self.node(node), &[used, claimed, coming, (&leaving, false)])
    }

    /// Where members of a shape would go on a node now.
    fn seats(&self, node: u32, shape: &Shape) -> Vec<Slot> {
        seats(&self.views(node), node, shape, shape.members)
    }

    /// How many members of a shape would fit on a node once what is being freed and these have gone.
    pub(super) fn count_soon(&self, node: u32, shape: &Shape, gone: &[&Record]) -> u32 {
        count(&[self.soon(node, gone)], shape, shape.members)
    }

    /// Where members of a shape would go on a node once what is being freed and these have gone.
    pub(super) fn seats_soon(&self, node: u32, shape: &Shape, gone: &[&Record]) -> Vec<Slot> {
        seats(&[self.soon(node, gone)], node, shape, shape.members)
    }

    /// Nodes where what has this shape may start now if it ends by then.
    fn open_to(&self, shape: &Shape, until_ms: u64) -> impl Iterator<Item = u32> {
        let open =
            move |node: &u32| self.node(*node).sight == Sight::Alive && self.kept(*node, shape, until_ms).is_none();
        self.lawful(shape).filter(open)
    }

    /// Where making room for a shape may be looked for.
    pub(super) fn alive_for(&self, shape: &Shape, until_ms: u64) -> Vec<u32> {
        // Nobody is stopped for what might not start after all because of what is reserved.
        let useful = |node: &u32| self.could(*node, shape) && !self.is_reserved(*node, until_ms);
        self.open_to(shape, until_ms).filter(useful).collect()
    }

    /// Gives room out that was free. False: something of it was not, and nothing changed.
    pub(super) fn take_free(&mut self, slots: &[Slot], shape: u32) -> bool {
        for (done, slot) in slots.iter().enumerate() {
            let need = self.shape(shape);
            let first_here = slots[..done].iter().all(|other| other.node != slot.node);
            let fits = |view: &Left| view.holds(need, *slot) && (!first_here || view.free(need).alone);
            if !self.views(slot.node).iter().all(fits) {
                for slot in &slots[..done] {
                    self.give_back(*slot, shape);
                }
                return false;
            }
            self.take(*slot, shape);
        }
        true
    }

    /// Takes a member's room. What is bound already may be more than the node has left.
    pub(super) fn take(&mut self, slot: Slot, shape: u32) {
        self.taken[slot.node as usize].used.add(&self.mixed.shapes[shape as usize], slot);
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, slot: Slot, shape: u32) {
        self.taken[slot.node as usize].used.sub(&self.mixed.shapes[shape as usize], slot);
    }

    /// Notes that a member here is being freed, or is no more.
    pub(super) fn coming(&mut self, slot: Slot, shape: u32, comes: bool) {
        let (coming, shape) = (&mut self.taken[slot.node as usize].coming, &self.mixed.shapes[shape as usize]);
        if comes { coming.add(shape, slot) } else { coming.sub(shape, slot) }
    }

    /// Notes that a job with an unknown end came, or went.
    pub(super) fn blind(&mut self, node: u32, came: bool) {
        let blind = &mut self.taken[node as usize].blind;
        *blind = if came { *blind + 1 } else { blind.saturating_sub(1) };
    }

    /// Keeps room for a claim until the pass ends.
    pub(super) fn claim(&mut self, slot: Slot, shape: u32) {
        self.taken[slot.node as usize].claimed.add(&self.mixed.shapes[shape as usize], slot);
        self.claims.push((slot, shape));
    }

    pub(super) fn claims_end(&mut self) {
        for (slot, shape) in std::mem::take(&mut self.claims) {
            self.taken[slot.node as usize].claimed.sub(&self.mixed.shapes[shape as usize], slot);
        }
    }

    /// Whether it is known when a job gives its room back.
    pub(super) fn ends_known(&self, record: &Record) -> bool {
        let unknown = matches!(record.end, End::Unknown | End::Never);
        !unknown && record.slots().iter().all(|slot| self.node(slot.node).sight == Sight::Alive)
    }

    /// Units of a kind that an empty ground holds: of its shapes, those that are there, by the one it holds the most units of.
    /// So it does not go by which of them came first.
    pub(super) fn units_total(&self, sku: u16) -> u64 {
        let held = |shape: &Shape| {
            let on = |node: &Node| room(&[Left::all(node)], shape);
            let members: u64 = self.mixed.nodes.iter().map(on).fold(0, u64::saturating_add);
            members.saturating_mul(u64::from(shape.units))
        };
        let shapes = self.mixed.shapes.iter().filter(|shape| shape.sku == sku);
        shapes.map(held).max().unwrap_or(0).max(1)
    }
}

impl Node {
    /// Whether it is for whoever this shape belongs to.
    fn is_for(&self, shape: &Shape) -> bool {
        self.only_for.is_none_or(|only| shape.owners.contains(&only))
    }
}

/// What a node has for a shape with nothing else there, broken accelerators included: they may be mended.
pub(super) fn all_for(node: &Node, shape: &Shape) -> Free {
    Left::all(node).free(shape)
}
