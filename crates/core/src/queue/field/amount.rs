//! What is taken of a node, and what that leaves.
//!
//! Which accelerators a job of any model gets is the site's choice, so each model counts them all as gone: too careful by a
//! little where a node mixes models, never over what is there. Accelerators that parts lie on are numbered, and each counts
//! as one of the model that its parts ask for.

use super::super::{
    ground::{Gpus, Node, Shape},
    pool::Slot,
    quota::ShareId,
};
use crate::place::GPU_MILLI;

/// A part of an accelerator that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    device: u8,
    milli: u16,
    model: Option<u16>,
    /// Parts of different organisations never lie on one accelerator.
    owner: Option<ShareId>,
}

/// Amounts of what a node has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Amount {
    cpus_milli: u64,
    /// Wide enough that no sum of what is bound, however absurd, ever stops short: it must come out again.
    memory_bytes: u128,
    /// Whole accelerators by model, as jobs asked for them.
    gpus: Vec<u64>,
    /// Whole accelerators of any model.
    any: u64,
    parts: Vec<Part>,
    /// What bears which number that keeps things apart.
    apart: Vec<u32>,
}

impl Amount {
    pub(super) fn none(models: u16) -> Self {
        Self { gpus: vec![0; usize::from(models)], ..Self::default() }
    }

    /// Adds one member, a part on the accelerator it names.
    pub(super) fn add(&mut self, shape: &Shape, slot: Slot) {
        self.cpus_milli += u64::from(shape.cpus_milli);
        self.memory_bytes += u128::from(shape.memory_bytes);
        match part(shape, slot) {
            Some(part) => self.parts.push(part),
            None => *self.gpus_mut(shape) += u64::from(whole(shape)),
        }
        self.apart.extend(shape.apart);
    }

    /// The member was added before.
    pub(super) fn sub(&mut self, shape: &Shape, slot: Slot) {
        self.cpus_milli = self.cpus_milli.checked_sub(u64::from(shape.cpus_milli)).expect("cores were taken");
        self.memory_bytes = self.memory_bytes.checked_sub(u128::from(shape.memory_bytes)).expect("memory was taken");
        if let Some(part) = part(shape, slot) {
            let at = self.parts.iter().position(|other| *other == part);
            self.parts.swap_remove(at.expect("the part was taken"));
        } else {
            let gpus = self.gpus_mut(shape);
            *gpus = gpus.checked_sub(u64::from(whole(shape))).expect("accelerators were taken");
        }
        if let Some(name) = shape.apart {
            let at = self.apart.iter().position(|other| *other == name);
            self.apart.swap_remove(at.expect("it was there"));
        }
    }

    fn gpus_mut(&mut self, shape: &Shape) -> &mut u64 {
        match shape.model {
            Some(model) => &mut self.gpus[usize::from(model)],
            None => &mut self.any,
        }
    }
}

/// The part a member takes, if it says of which accelerator.
fn part(shape: &Shape, slot: Slot) -> Option<Part> {
    let device = slot.part.filter(|_| shape.gpu_milli > 0)?;
    Some(Part { device, milli: shape.gpu_milli, model: shape.model, owner: shape.owners.last().copied() })
}

/// The whole accelerators a member takes: one for a part of which nobody knows where it lies.
fn whole(shape: &Shape) -> u32 {
    if shape.gpu_milli > 0 { 1 } else { shape.gpus }
}

/// What of a node is free for one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    /// Thousandths of CPU cores.
    pub(crate) cpus_milli: u64,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// Whole accelerators of the model it asks for, or of any.
    pub(crate) gpus: u32,
    /// The largest part of one such accelerator, in thousandths.
    pub(crate) milli: u16,
    /// Whether nothing is there that it keeps apart from.
    pub(crate) alone: bool,
}

impl Free {
    /// Whether one member fits.
    pub(crate) fn fits(&self, shape: &Shape) -> bool {
        self.alone && self.holds(shape)
    }

    /// Whether the amounts do.
    fn holds(&self, shape: &Shape) -> bool {
        u64::from(shape.cpus_milli) <= self.cpus_milli
            && shape.memory_bytes <= self.memory_bytes
            && shape.gpus <= self.gpus
            && shape.gpu_milli <= self.milli
    }

    pub(super) fn least(self, other: Self) -> Self {
        Self {
            cpus_milli: self.cpus_milli.min(other.cpus_milli),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            gpus: self.gpus.min(other.gpus),
            milli: self.milli.min(other.milli),
            alone: self.alone && other.alone,
        }
    }
}

/// An accelerator that parts lie on.
#[derive(Debug, Clone, Copy)]
struct Device {
    number: u8,
    left: u16,
    model: Option<u16>,
    owner: Option<ShareId>,
    /// Whether parts of several owners lie on it, which cannot be; nobody joins them.
    crowded: bool,
    /// Whether it may be one that is not fit for work: which ones are not, the site alone knows.
    doubtful: bool,
}

/// What is left of a node once some is taken; some of that may be on its way back.
#[derive(Debug, Clone)]
pub(super) struct Left {
    cpus_milli: u64,
    memory_bytes: u64,
    /// Whole accelerators of each model that jobs which name one have left; fewer than none where a site lost some.
    models: Vec<(u16, i64)>,
    /// How many of these others have: it may be any of them.
    any: i64,
    devices: Vec<Device>,
    /// Models of which some are not fit for work.
    broken: Vec<u16>,
    apart: Vec<u32>,
}

impl Left {
    /// What is fit for work, less what is taken (true) or given back (false).
    pub(super) fn of(node: &Node, sides: &[(&Amount, bool)]) -> Self {
        let net = |of: &dyn Fn(&Amount) -> u64| {
            let (mut plus, mut minus) = (0_u64, 0_u64);
            for (amount, takes) in sides {
                let side = if *takes { &mut plus } else { &mut minus };
                *side = side.saturating_add(of(amount));
            }
            plus.saturating_sub(minus)
        };
        let mut left = Self::counted(node, |gpus| gpus.healthy);
        left.cpus_milli = left.cpus_milli.saturating_sub(net(&|amount| amount.cpus_milli));
        left.memory_bytes =
            left.memory_bytes.saturating_sub(net(&|amount| u64::try_from(amount.memory_bytes).unwrap_or(u64::MAX)));
        for (model, free) in &mut left.models {
            *free -= i64::from(clamped(net(&|amount| amount.gpus[usize::from(*model)])));
        }
        left.any = i64::from(clamped(net(&|amount| amount.any)));
        for (amount, _) in sides.iter().filter(|(_, takes)| *takes) {
            left.apart.extend(&amount.apart);
        }
        for name in sides.iter().filter(|(_, takes)| !takes).flat_map(|(amount, _)| &amount.apart) {
            if let Some(at) = left.apart.iter().position(|other| other == name) {
                left.apart.swap_remove(at);
            }
        }
        left.shared(sides);
        left
    }

    /// All a node has with nothing there, what is not fit for work included: it may be mended.
    pub(super) fn all(node: &Node) -> Self {
        Self::counted(node, |gpus| gpus.all)
    }

    fn counted(node: &Node, count: fn(&Gpus) -> u32) -> Self {
        Self {
            cpus_milli: u64::from(node.cpus_milli),
            memory_bytes: node.memory_bytes,
            models: node.gpus.iter().map(|gpus| (gpus.model, i64::from(count(gpus)))).collect(),
            any: 0,
            devices: Vec::new(),
            broken: node.gpus.iter().filter(|gpus| gpus.healthy < gpus.all).map(|gpus| gpus.model).collect(),
            apart: Vec::new(),
        }
    }

    /// Notes the accelerators that parts lie on.
    fn shared(&mut self, sides: &[(&Amount, bool)]) {
        if sides.iter().all(|(amount, _)| amount.parts.is_empty()) {
            return;
        }
        let taken = sides.iter().filter(|(_, takes)| *takes);
        let mut parts: Vec<Part> = taken.flat_map(|(amount, _)| amount.parts.iter().copied()).collect();
        for part in sides.iter().filter(|(_, takes)| !takes).flat_map(|(amount, _)| &amount.parts) {
            if let Some(at) = parts.iter().position(|other| other == part) {
                parts.swap_remove(at);
            }
        }
        parts.sort_unstable_by_key(|part| (part.device, part.model, part.owner, part.milli));
        for part in parts {
            if let Some(device) = self.devices.last_mut().filter(|device| device.number == part.device) {
                device.left = device.left.saturating_sub(part.milli);
                device.crowded |= device.owner != part.owner;
                continue;
            }
            self.open(part);
        }
    }

    /// A part lies on an accelerator that had none.
    fn open(&mut self, part: Part) {
        let Part { device, milli, model, owner } = part;
        let left = GPU_MILLI.saturating_sub(milli);
        let doubtful = self.broken.iter().any(|broken| model.is_none_or(|model| model == *broken));
        self.devices.push(Device { number: device, left, model, owner, crowded: false, doubtful });
        match self.models.iter_mut().find(|(here, _)| Some(*here) == model) {
            Some((_, free)) => *free -= 1,
            None => self.any += 1,
        }
    }

    /// Whole accelerators that are free of a model, or of any.
    pub(super) fn whole(&self, model: Option<u16>) -> u32 {
        u32::try_from(self.surely(model)).unwrap_or(0)
    }

    /// How many of a model are free whichever ones others have: less than none, where too few might be.
    fn surely(&self, model: Option<u16>) -> i64 {
        let of_model = self.models.iter().filter(|(here, _)| model.is_none_or(|model| model == *here));
        of_model.map(|(_, free)| *free).sum::<i64>() - self.any
    }

    /// Whether a shape's part may join what lies on an accelerator.
    fn joins(&self, device: &Device, shape: &Shape) -> bool {
        // In a node of several models, one that takes any counts otherwise than one that names its own once that has gone.
        let only = matches!(self.models[..], [(only, _)] if shape.model.is_none_or(|model| model == only));
        let alike = shape.model == device.model || only;
        // And what would not be free for sure with the accelerator empty is not counted on while it is not.
        let stays = self.surely(shape.model) >= 0;
        shape.gpu_milli > 0
            && alike
            && stays
            && !device.doubtful
            && !device.crowded
            && device.owner == shape.owners.last().copied()
    }

    /// What is free for a shape.
    pub(super) fn free(&self, shape: &Shape) -> Free {
        let gpus = self.whole(shape.model);
        let shared = self.devices.iter().filter(|device| self.joins(device, shape)).map(|device| device.left).max();
        Free {
            cpus_milli: self.cpus_milli,
            memory_bytes: self.memory_bytes,
            gpus,
            milli: if gpus > 0 { GPU_MILLI } else { shared.unwrap_or(0) },
            alone: shape.apart.is_none_or(|name| !self.apart.contains(&name)),
        }
    }

    /// Thousandths of accelerators that are free.
    pub(super) fn milli(&self) -> u64 {
        let shared: u64 = self.devices.iter().map(|device| u64::from(device.left)).sum();
        u64::from(self.whole(None)) * u64::from(GPU_MILLI) + shared
    }

    /// Of these, what a shape could use, if it fits at all.
    pub(super) fn milli_for(&self, shape: &Shape) -> u64 {
        if !self.free(shape).holds(shape) {
            return 0;
        }
        let whole = u64::from(self.whole(shape.model)) * u64::from(GPU_MILLI);
        if shape.gpu_milli == 0 {
            return whole;
        }
        let enough = |device: &&Device| self.joins(device, shape) && device.left >= shape.gpu_milli;
        whole + self.devices.iter().filter(enough).map(|device| u64::from(device.left)).sum::<u64>()
    }

    /// How many parts of a shape's size are free.
    fn parts(&self, shape: &Shape) -> u64 {
        let of = |milli: u16| u64::from(milli.checked_div(shape.gpu_milli).unwrap_or(0));
        let shared = self.devices.iter().filter(|device| self.joins(device, shape)).map(|device| of(device.left));
        shared.sum::<u64>() + u64::from(self.whole(shape.model)) * of(GPU_MILLI)
    }

    /// Thousandths that are free on the accelerator of this number.
    pub(super) fn left_on(&self, number: Option<u8>) -> u16 {
        let device = self.devices.iter().find(|device| Some(device.number) == number);
        device.map_or(GPU_MILLI, |device| device.left)
    }

    /// Whether a part may lie on the accelerator of this number: one it may share, or a whole one that is free.
    fn allows(&self, number: u8, shape: &Shape) -> bool {
        match self.devices.iter().find(|device| device.number == number) {
            Some(device) => self.joins(device, shape) && device.left >= shape.gpu_milli,
            None => self.whole(shape.model) > 0,
        }
    }

    /// Whether one member fits as placed, whatever it keeps apart from.
    pub(super) fn holds(&self, shape: &Shape, slot: Slot) -> bool {
        self.free(shape).holds(shape) && slot.part.is_none_or(|number| self.allows(number, shape))
    }

    /// Takes one member.
    pub(super) fn take(&mut self, shape: &Shape, slot: Slot) {
        self.cpus_milli = self.cpus_milli.saturating_sub(u64::from(shape.cpus_milli));
        self.memory_bytes = self.memory_bytes.saturating_sub(shape.memory_bytes);
        let Some(part) = part(shape, slot) else {
            let gpus = whole(shape);
            match self.models.iter_mut().find(|(here, _)| Some(*here) == shape.model) {
                Some((_, free)) => *free -= i64::from(gpus),
                None => self.any += i64::from(gpus),
            }
            return;
        };
        match self.devices.iter_mut().find(|device| device.number == part.device) {
            Some(device) => device.left = device.left.saturating_sub(part.milli),
            None => self.open(part),
        }
    }
}

/// How many members of a shape would fit on a node, at most so many, that has this left in every one of these views of it.
pub(super) fn count(views: &[Left], shape: &Shape, most: u32) -> u32 {
    if shape.gpu_milli == 0 {
        return clamped(room(views, shape)).min(most);
    }
    u32::try_from(seats(views, 0, shape, most).len()).unwrap_or(u32::MAX)
}

/// For how many members there is room; parts may find less, as they lie where they have to.
pub(super) fn room(views: &[Left], shape: &Shape) -> u64 {
    let free = views.iter().map(|view| view.free(shape)).reduce(Free::least).filter(|free| free.fits(shape));
    let Some(free) = free else { return 0 };
    let by = |have: u64, need: u64| have.checked_div(need).unwrap_or(u64::MAX);
    let cpus = by(free.cpus_milli, u64::from(shape.cpus_milli));
    let memory = by(free.memory_bytes, shape.memory_bytes);
    let parts = |view: &Left| view.parts(shape);
    let gpus = match shape.gpu_milli {
        0 => by(u64::from(free.gpus), u64::from(shape.gpus)),
        _ => views.iter().map(parts).min().unwrap_or(0),
    };
    cpus.min(memory).min(gpus)
}

/// Where members of a shape would go on a node, at most so many, that has this left in every one of these views of it.
pub(super) fn seats(views: &[Left], node: u32, shape: &Shape, most: u32) -> Vec<Slot> {
    let most = clamped(room(views, shape)).min(most);
    let slot = Slot::whole(node, shape.units);
    if shape.gpu_milli == 0 {
        return vec![slot; most as usize];
    }
    let (mut views, mut slots) = (views.to_vec(), Vec::new());
    while slots.len() < most as usize {
        let Some(number) = device(&views, shape) else { break };
        let slot = Slot { part: Some(number), ..slot };
        for view in &mut views {
            view.take(shape, slot);
        }
        slots.push(slot);
    }
    slots
}

/// The accelerator that a part fills best, of those that allow it in every view; else the first number that is nobody's.
fn device(views: &[Left], shape: &Shape) -> Option<u8> {
    let known = || views.iter().flat_map(|view| &view.devices).map(|device| device.number);
    let shared = known().filter(|number| views.iter().all(|view| view.allows(*number, shape)));
    let left = |number: u8| views.iter().map(|view| view.left_on(Some(number))).min();
    shared.min_by_key(|number| (left(*number), *number)).or_else(|| {
        let new = (0..=u8::MAX).find(|number| known().all(|other| other != *number))?;
        views.iter().all(|view| view.whole(shape.model) > 0).then_some(new)
    })
}

fn clamped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
