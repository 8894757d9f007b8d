//! Mixed nodes: what is taken of each, what fits where, and what will be free later.
//!
//! Which accelerators a job of any model gets is the site's choice, so each model counts them all as gone: too careful by a
//! little where a node mixes models, never over what is there.

use super::{
    ground::{Mixed, Node, Shape, Sight},
    job::{Ask, End, Record},
    pool::Slot,
};

/// Amounts of what a node has.
#[derive(Debug, Clone, Default)]
struct Amount {
    cpus_milli: u64,
    memory_bytes: u64,
    /// Accelerators by model, as jobs asked for them.
    gpus: Vec<u32>,
    /// Accelerators of any model.
    any: u32,
}

impl Amount {
    fn none(models: u16) -> Self {
        Self { gpus: vec![0; usize::from(models)], ..Self::default() }
    }

    fn add(&mut self, shape: &Shape) {
        self.cpus_milli += u64::from(shape.cpus_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(shape.memory_bytes);
        *self.gpus_mut(shape) += shape.gpus;
    }

    /// The shape was added before.
    fn sub(&mut self, shape: &Shape) {
        self.cpus_milli = self.cpus_milli.checked_sub(u64::from(shape.cpus_milli)).expect("cores were taken");
        self.memory_bytes = self.memory_bytes.checked_sub(shape.memory_bytes).expect("memory was taken");
        let gpus = self.gpus_mut(shape);
        *gpus = gpus.checked_sub(shape.gpus).expect("accelerators were taken");
    }

    fn gpus_mut(&mut self, shape: &Shape) -> &mut u32 {
        match shape.model {
            Some(model) => &mut self.gpus[usize::from(model)],
            None => &mut self.any,
        }
    }
}

/// What of a node is free for one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    /// Thousandths of CPU cores.
    pub(crate) cpus_milli: u64,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// Accelerators of the model it asks for, or of any.
    pub(crate) gpus: u32,
}

impl Free {
    pub(super) fn fits(&self, shape: &Shape) -> bool {
        u64::from(shape.cpus_milli) <= self.cpus_milli
            && shape.memory_bytes <= self.memory_bytes
            && shape.gpus <= self.gpus
    }

    fn least(self, other: Self) -> Self {
        Self {
            cpus_milli: self.cpus_milli.min(other.cpus_milli),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            gpus: self.gpus.min(other.gpus),
        }
    }
}

/// What is left of a node for a shape when so much is taken; some may be on its way back.
fn left(node: &Node, taken: &[(&Amount, bool)], model: Option<u16>) -> Free {
    let sum = |of: &dyn Fn(&Amount) -> u64| {
        let (mut plus, mut minus) = (0_u64, 0_u64);
        for (amount, takes) in taken {
            let side = if *takes { &mut plus } else { &mut minus };
            *side = side.saturating_add(of(amount));
        }
        plus.saturating_sub(minus)
    };
    let any = sum(&|amount| u64::from(amount.any));
    let mut gpus = 0_u64;
    for here in node.gpus.iter().filter(|here| model.is_none_or(|model| model == here.model)) {
        let taken = sum(&|amount| u64::from(amount.gpus[usize::from(here.model)]));
        gpus += u64::from(here.healthy).saturating_sub(taken);
    }
    Free {
        cpus_milli: u64::from(node.cpus_milli).saturating_sub(sum(&|amount| amount.cpus_milli)),
        memory_bytes: node.memory_bytes.saturating_sub(sum(&|amount| amount.memory_bytes)),
        gpus: u32::try_from(gpus.saturating_sub(any)).unwrap_or(u32::MAX),
    }
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
    claims: Vec<(u32, u32)>,
}

impl Field {
    pub(super) fn new(mixed: &Mixed) -> Self {
        let none = || Amount::none(mixed.models);
        let taken = Taken { used: none(), coming: none(), claimed: none(), blind: 0 };
        Self { taken: vec![taken; mixed.nodes.len()], mixed: mixed.clone(), claims: Vec::new() }
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
        shape.is_some_and(|shape| shape.sku == ask.sku && shape.units() == ask.gpus)
    }

    fn lawful(&self, shape: &Shape) -> impl Iterator<Item = u32> {
        let sites = shape.sites.clone();
        (0..).zip(&self.mixed.nodes).filter(move |(_, node)| sites.binary_search(&node.site).is_ok()).map(|(at, _)| at)
    }

    /// Whether a shape could run on a node with nothing else there, as far as anybody knows.
    pub(super) fn could(&self, node: u32, shape: &Shape) -> bool {
        let node = self.node(node);
        node.sight == Sight::Unknown || all_for(node, shape).fits(shape)
    }

    /// Whether a shape could run anywhere.
    pub(super) fn could_anywhere(&self, shape: &Shape) -> bool {
        self.lawful(shape).any(|node| self.could(node, shape))
    }

    /// What of a node is free now for a shape, claims respected.
    pub(super) fn free(&self, node: u32, shape: &Shape) -> Free {
        let (at, taken) = (self.node(node), &self.taken[node as usize]);
        let now = left(at, &[(&taken.used, true)], shape.model);
        now.least(self.free_soon(node, shape, &[]))
    }

    /// What will be free once what is being freed and these have gone, and every claim has started.
    pub(super) fn free_soon(&self, node: u32, shape: &Shape, gone: &[u32]) -> Free {
        let taken = &self.taken[node as usize];
        let mut leaving = Amount::none(self.mixed.models);
        for victim in gone {
            leaving.add(self.shape(*victim));
        }
        let sides = [(&taken.used, true), (&taken.claimed, true), (&taken.coming, false), (&leaving, false)];
        left(self.node(node), &sides, shape.model)
    }

    /// Nodes where a shape fits now, the one it fills best first: the least accelerators left, then cores, then memory, so that
    /// work without accelerators stays away from free ones. Among equals the node that was added first wins.
    pub(super) fn by_fit(&self, shape: &Shape) -> Vec<u32> {
        let mut fits: Vec<((u32, u64, u64), u32)> = Vec::new();
        for node in self.lawful(shape).filter(|node| self.node(*node).sight == Sight::Alive) {
            let free = self.free(node, shape);
            if free.fits(shape) {
                let any = Shape { model: None, ..shape.clone() };
                let gpus = self.free(node, &any).gpus.saturating_sub(shape.gpus);
                let cpus = free.cpus_milli - u64::from(shape.cpus_milli);
                fits.push(((gpus, cpus, free.memory_bytes - shape.memory_bytes), node));
            }
        }
        fits.sort_unstable();
        fits.into_iter().map(|(_, node)| node).collect()
    }

    /// Where making room for a shape may be looked for.
    pub(super) fn alive_for(&self, shape: &Shape) -> Vec<u32> {
        let alive = |node: &u32| self.node(*node).sight == Sight::Alive && self.could(*node, shape);
        self.lawful(shape).filter(alive).collect()
    }

    /// Takes a shape's room on a node. What is bound already may be more than the node has left.
    pub(super) fn take(&mut self, node: u32, shape: u32) {
        self.taken[node as usize].used.add(&self.mixed.shapes[shape as usize]);
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, node: u32, shape: u32) {
        self.taken[node as usize].used.sub(&self.mixed.shapes[shape as usize]);
    }

    /// Notes that a job here is being freed, or is no more.
    pub(super) fn coming(&mut self, node: u32, shape: u32, comes: bool) {
        let (coming, shape) = (&mut self.taken[node as usize].coming, &self.mixed.shapes[shape as usize]);
        if comes { coming.add(shape) } else { coming.sub(shape) }
    }

    /// Notes that a job with an unknown end came, or went.
    pub(super) fn blind(&mut self, node: u32, came: bool) {
        let blind = &mut self.taken[node as usize].blind;
        *blind = if came { *blind + 1 } else { blind.saturating_sub(1) };
    }

    /// Keeps room for a claim until the pass ends.
    pub(super) fn claim(&mut self, node: u32, shape: u32) {
        self.taken[node as usize].claimed.add(&self.mixed.shapes[shape as usize]);
        self.claims.push((node, shape));
    }

    pub(super) fn claims_end(&mut self) {
        for (node, shape) in std::mem::take(&mut self.claims) {
            self.taken[node as usize].claimed.sub(&self.mixed.shapes[shape as usize]);
        }
    }

    /// Whether it is known when a job gives its room back.
    pub(super) fn ends_known(&self, record: &Record) -> bool {
        let unknown = matches!(record.end, End::Unknown | End::Never);
        !unknown && record.slots().iter().all(|slot| self.node(slot.node).sight == Sight::Alive)
    }

    /// Units of a kind that an empty ground holds: shapes of one kind differ by their sites alone.
    pub(super) fn units_total(&self, sku: u16) -> u64 {
        let Some(shape) = self.mixed.shapes.iter().find(|shape| shape.sku == sku) else { return 1 };
        let on = |node: &Node| {
            let all = all_for(node, shape);
            let by = |have: u64, need: u64| have.checked_div(need).unwrap_or(u64::MAX);
            let cpus = by(all.cpus_milli, u64::from(shape.cpus_milli));
            let memory = by(all.memory_bytes, shape.memory_bytes);
            cpus.min(memory).min(by(u64::from(all.gpus), u64::from(shape.gpus)))
        };
        let jobs: u64 = self.mixed.nodes.iter().map(on).fold(0, u64::saturating_add);
        jobs.saturating_mul(u64::from(shape.units())).max(1)
    }

    /// What will be free at a site, seen by a job that is to be promised a start there.
    pub(super) fn later(&self, site: usize, shape: u32) -> FieldLater {
        let need = self.shape(shape).clone();
        let mut later = FieldLater { nodes: Vec::new(), unknown: false, fits: 0, need };
        for node in self.lawful(&later.need.clone()).filter(|node| usize::from(self.node(*node).site) == site) {
            let (at, taken) = (self.node(node), &self.taken[node as usize]);
            if !self.could(node, &later.need) {
                continue;
            }
            if at.sight != Sight::Alive || taken.blind > 0 {
                later.unknown = true;
                continue;
            }
            let seen = Seen { node: at.clone(), at: node, used: taken.used.clone() };
            later.fits += u32::from(seen.fits(&later.need));
            later.nodes.push(seen);
        }
        later
    }
}

/// What a node has for a shape with nothing else there, broken accelerators included: they may be mended.
pub(super) fn all_for(node: &Node, shape: &Shape) -> Free {
    let of_model = node.gpus.iter().filter(|here| shape.model.is_none_or(|model| model == here.model));
    Free {
        cpus_milli: u64::from(node.cpus_milli),
        memory_bytes: node.memory_bytes,
        gpus: of_model.map(|here| here.all).fold(0, u32::saturating_add),
    }
}

#[derive(Debug, Clone)]
struct Seen {
    node: Node,
    at: u32,
    used: Amount,
}

impl Seen {
    fn fits(&self, shape: &Shape) -> bool {
        left(&self.node, &[(&self.used, true)], shape.model).fits(shape)
    }
}

/// The nodes of one site as they will be, for one job: those where what runs has a known end.
#[derive(Debug, Clone)]
pub(super) struct FieldLater {
    nodes: Vec<Seen>,
    /// Whether the job could run on others, of which nobody knows when.
    pub(super) unknown: bool,
    /// On how many of the nodes it will fit.
    fits: u32,
    need: Shape,
}

impl FieldLater {
    pub(super) fn fits(&self) -> bool {
        self.fits > 0
    }

    /// Whether any node can be counted on at all.
    pub(super) fn any(&self) -> bool {
        !self.nodes.is_empty()
    }

    fn change(&mut self, slots: &[Slot], change: impl Fn(&mut Amount)) {
        for slot in slots {
            let Ok(found) = self.nodes.binary_search_by_key(&slot.node, |seen| seen.at) else { continue };
            let seen = &mut self.nodes[found];
            let before = seen.fits(&self.need);
            change(&mut seen.used);
            let after = seen.fits(&self.need);
            self.fits = self.fits + u32::from(after) - u32::from(before);
        }
    }

    pub(super) fn release(&mut self, slots: &[Slot], shape: &Shape) {
        self.change(slots, |used| used.sub(shape));
    }

    /// Occupies the slots if they will be free and the promised job still fits afterwards; else changes nothing.
    pub(super) fn occupy(&mut self, slots: &[Slot], shape: &Shape) -> bool {
        let free = |slot: &Slot| {
            let found = self.nodes.binary_search_by_key(&slot.node, |seen| seen.at);
            found.is_ok_and(|at| self.nodes[at].fits(shape))
        };
        let here = slots.iter().any(|slot| self.nodes.binary_search_by_key(&slot.node, |seen| seen.at).is_ok());
        if !here {
            // Elsewhere, or on a node nobody counts on.
            return true;
        }
        if !slots.iter().all(free) {
            return false;
        }
        self.change(slots, |used| used.add(shape));
        if self.fits() {
            return true;
        }
        self.release(slots, shape);
        false
    }
}
