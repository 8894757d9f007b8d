//! What a node has free, in a form in which two nodes that are alike are equal.

use super::demand::{Demand, GPU_MILLI, GpuAsk, ModelId};

/// The most GPUs one node may have.
pub const GPUS_PER_NODE_MAX: usize = 16;

/// What is free on the GPUs of a node: thousandths of each, the least free first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GpusFree {
    count: u8,
    free: [u16; GPUS_PER_NODE_MAX],
}

impl GpusFree {
    /// Of GPUs in any order. Of more than [`GPUS_PER_NODE_MAX`], the first ones.
    pub fn new(gpus: &[u16]) -> GpusFree {
        let count = gpus.len().min(GPUS_PER_NODE_MAX);
        let mut free = [0; GPUS_PER_NODE_MAX];
        free[..count].copy_from_slice(&gpus[..count]);
        free[..count].sort_unstable();
        GpusFree { count: count as u8, free }
    }

    /// Thousandths free of each GPU, the least free first.
    pub fn levels(&self) -> &[u16] {
        &self.free[..usize::from(self.count)]
    }

    /// Thousandths free in all.
    pub fn milli(&self) -> u64 {
        self.levels().iter().map(|free| u64::from(*free)).sum()
    }

    /// GPUs that nobody uses.
    pub fn whole(&self) -> usize {
        self.levels().iter().rev().take_while(|free| **free == GPU_MILLI).count()
    }

    /// Whether this ask fits.
    pub fn fits(&self, ask: GpuAsk) -> bool {
        match ask {
            GpuAsk::None => true,
            GpuAsk::Fraction(milli) => self.levels().last().is_some_and(|free| *free >= milli),
            GpuAsk::Whole(count) => self.whole() >= usize::from(count),
        }
    }

    /// What is left once a part is taken of the GPU at this place of [`GpusFree::levels`].
    fn less_part(mut self, place: usize, milli: u16) -> GpusFree {
        let left = self.free[place] - milli;
        let to = self.free[..place].partition_point(|free| *free < left);
        self.free.copy_within(to..place, to + 1);
        self.free[to] = left;
        self
    }

    /// What is left once so many whole GPUs are taken.
    fn less_whole(mut self, whole: usize) -> GpusFree {
        let count = usize::from(self.count);
        self.free.copy_within(0..count - whole, whole);
        self.free[..whole].fill(0);
        self
    }
}

/// What a node offers right now. Nodes with equal content are interchangeable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content {
    /// The node's rank where a policy orders nodes by name, else 0.
    pub rank: u32,
    /// The model of its GPUs, if it has any.
    pub model: Option<ModelId>,
    /// What its GPUs have free.
    pub gpus: GpusFree,
    /// Thousandths of CPU cores free.
    pub cpu_milli: u64,
    /// Memory free, in MiB.
    pub memory_mib: u64,
}

impl Content {
    /// Whether this demand fits now.
    pub fn fits(&self, demand: &Demand) -> bool {
        demand.cpu_milli <= self.cpu_milli
            && demand.memory_mib <= self.memory_mib
            && (demand.gpus == GpuAsk::None || demand.models.allows(self.model))
            && self.gpus.fits(demand.gpus)
    }

    /// What is left once this demand, which fits, is placed; a part is taken of the GPU at `place`.
    pub(crate) fn less(&self, demand: &Demand, place: usize) -> Content {
        let gpus = match demand.gpus {
            GpuAsk::None => self.gpus,
            GpuAsk::Fraction(milli) => self.gpus.less_part(place, milli),
            GpuAsk::Whole(count) => self.gpus.less_whole(usize::from(count)),
        };
        let cpu_milli = self.cpu_milli - demand.cpu_milli;
        Content { gpus, cpu_milli, memory_mib: self.memory_mib - demand.memory_mib, ..*self }
    }
}
