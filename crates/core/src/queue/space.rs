//! What a pass asks of a ground, whichever it is.

use super::{
    field::{Field, FieldLater},
    ground::{Mixed, Sku},
    job::{Ask, End, Record, Stage},
    pool::{Later as PoolLater, Pool, Slot, split},
};

/// What is taken and free: a pool of like nodes, or mixed ones.
#[derive(Debug, Clone)]
pub(super) enum Space {
    /// Like nodes.
    Pool(Pool),
    /// Mixed ones.
    Field(Field),
}

impl Space {
    pub(super) fn pool(sku: Sku) -> Self {
        Self::Pool(Pool::new(sku.nodes, sku.gpus_per_node))
    }

    pub(super) fn field(mixed: &Mixed) -> Self {
        Self::Field(Field::new(mixed))
    }

    pub(super) fn nodes(&self) -> usize {
        match self {
            Self::Pool(pool) => pool.free().len(),
            Self::Field(field) => field.nodes(),
        }
    }

    /// Where a job that ends by then fits best now, if anywhere.
    pub(super) fn best_fit(&self, ask: &Ask, until_ms: u64) -> Option<Vec<Slot>> {
        match self {
            Self::Pool(pool) => pool.best_fit(ask.gpus),
            Self::Field(field) => {
                let shape = field.shape(ask.shape);
                if shape.members > 1 {
                    return field.gangs(shape, until_ms, &|_| true).into_iter().next();
                }
                field.by_fit(shape, until_ms).first().map(|slot| vec![*slot])
            }
        }
    }

    /// Where else it fits now, best first: on one node, or, all members of it, in one group. What `avoid` names is tried
    /// without as well.
    pub(super) fn fits<'a>(
        &'a self,
        ask: &Ask,
        until_ms: u64,
        avoid: &dyn Fn(u32) -> bool,
    ) -> Box<dyn Iterator<Item = Vec<Slot>> + 'a> {
        let gpus = ask.gpus;
        match self {
            Self::Pool(pool) if split(gpus, pool.gpus_per_node()).0 > 0 => Box::new(std::iter::empty()),
            Self::Pool(pool) => Box::new(pool.nodes_by_fit(gpus).map(move |node| vec![Slot::whole(node, gpus)])),
            Self::Field(field) => {
                let shape = field.shape(ask.shape);
                if shape.members > 1 {
                    let mut gangs = field.gangs(shape, until_ms, &|node| !avoid(node));
                    gangs.extend(field.gangs(shape, until_ms, &|_| true));
                    return Box::new(gangs.into_iter());
                }
                Box::new(field.by_fit(shape, until_ms).into_iter().map(|slot| vec![slot]))
            }
        }
    }

    /// The latest time by which some node wants to be left, if any does.
    pub(super) fn until_max(&self) -> Option<u64> {
        match self {
            Self::Pool(_) => None,
            Self::Field(field) => field.until_max(),
        }
    }

    /// Gives room out that was free.
    pub(super) fn take(&mut self, slots: &[Slot], ask: &Ask) -> bool {
        match self {
            Self::Pool(pool) => pool.take(slots),
            Self::Field(field) => field.take_free(slots, ask.shape),
        }
    }

    /// Notes what holds its room already. On mixed ground that may be more than there is left: what is bound stays bound,
    /// whatever a site lost since.
    pub(super) fn put_back(&mut self, slots: &[Slot], ask: &Ask) -> bool {
        match self {
            Self::Pool(pool) => pool.take(slots),
            Self::Field(field) => {
                let there = slots.iter().all(|slot| (slot.node as usize) < field.nodes());
                if there {
                    for slot in slots {
                        field.take(*slot, ask.shape);
                    }
                }
                there
            }
        }
    }

    pub(super) fn give_back(&mut self, slots: &[Slot], ask: &Ask) {
        match self {
            Self::Pool(pool) => pool.give_back(slots),
            Self::Field(field) => {
                for slot in slots {
                    field.give_back(*slot, ask.shape);
                }
            }
        }
    }

    /// Notes how the end of a job that holds room is seen.
    pub(super) fn settle_in(&mut self, record: &Record, came: bool) {
        let Self::Field(field) = self else { return };
        for slot in record.slots() {
            match record.stage {
                Stage::Stopping { .. } => field.coming(*slot, record.ask.shape, came),
                _ if record.end == End::Unknown => field.blind(slot.node, came),
                _ => {}
            }
        }
    }

    /// Whether it is known when a job gives its room back.
    pub(super) fn ends_known(&self, record: &Record) -> bool {
        match self {
            Self::Pool(_) => true,
            Self::Field(field) => field.ends_known(record),
        }
    }

    /// Units of a kind, with nothing running.
    pub(super) fn units_total(&self, sku: u16) -> u64 {
        match self {
            Self::Pool(pool) => pool.gpus_total(),
            Self::Field(field) => field.units_total(sku),
        }
    }

    /// The place a promise at a node is kept at: one a pool, one a site.
    pub(super) fn place_of(&self, node: u32) -> usize {
        match self {
            Self::Pool(_) => 0,
            Self::Field(field) => usize::from(field.node(node).site),
        }
    }

    /// The places where a job that cannot start now may be promised a start.
    pub(super) fn places(&self, ask: &Ask) -> Vec<usize> {
        match self {
            Self::Pool(_) => vec![0],
            Self::Field(field) => field.shape(ask.shape).sites.iter().map(|site| usize::from(*site)).collect(),
        }
    }

    /// What will be free at a place, seen by a job that is to be promised a start there and has its room for so long at most.
    pub(super) fn later(&self, place: usize, ask: &Ask, counted: bool, hold_ms: Option<u64>) -> Later {
        match self {
            Self::Pool(pool) => Later::Pool(PoolLater::of(pool, ask.gpus, counted)),
            Self::Field(field) => Later::Field(field.later(place, ask.shape, hold_ms)),
        }
    }
}

/// What will be free at some later time.
#[derive(Debug, Clone)]
pub(super) enum Later {
    Pool(PoolLater),
    Field(FieldLater),
}

impl Later {
    /// Whether the promised job will fit.
    pub(super) fn fits(&self) -> bool {
        match self {
            Self::Pool(later) => later.fits(),
            Self::Field(later) => later.fits(),
        }
    }

    /// Whether the job could run where nobody knows when.
    pub(super) fn unknown(&self) -> bool {
        match self {
            Self::Pool(_) => false,
            Self::Field(later) => later.unknown,
        }
    }

    /// Whether the job could run here at all, ever.
    pub(super) fn hope(&self) -> bool {
        match self {
            Self::Pool(_) => true,
            Self::Field(later) => later.any(),
        }
    }

    /// A start no earlier than this is looked for.
    pub(super) fn advance(&mut self, at_ms: u64) {
        if let Self::Field(later) = self {
            later.advance(at_ms);
        }
    }

    /// Whether the promised job counts on a node.
    pub(super) fn counts_on(&self, node: u32) -> bool {
        match self {
            Self::Pool(_) => false,
            Self::Field(later) => later.counts_on(node),
        }
    }

    pub(super) fn release(&mut self, slots: &[Slot], ask: &Ask, space: &Space) {
        match (self, space) {
            (Self::Pool(later), _) => later.release(slots),
            (Self::Field(later), Space::Field(field)) => later.release(slots, field.shape(ask.shape)),
            (Self::Field(_), Space::Pool(_)) => {}
        }
    }

    /// Occupies the slots if they will be free and the promised job still fits afterwards; else changes nothing.
    pub(super) fn occupy(&mut self, slots: &[Slot], ask: &Ask, space: &Space) -> bool {
        match (self, space) {
            (Self::Pool(later), _) => later.occupy(slots),
            (Self::Field(later), Space::Field(field)) => later.occupy(slots, field.shape(ask.shape)),
            (Self::Field(_), Space::Pool(_)) => false,
        }
    }
}
