//! What a cluster is usually asked for: the shapes of demands, with how often each comes.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    chance::Chance,
    content::Content,
    demand::{Demand, GPU_MILLI, GpuAsk, ModelSet},
};

/// Shapes of demands with how often each came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload(Vec<(Demand, u64)>);

impl Workload {
    /// The most frequent shapes of a history, until they make up `percent` of it. Memory is not part of a shape.
    pub fn typical(history: impl IntoIterator<Item = Demand>, percent: u64) -> Workload {
        let mut counts: BTreeMap<Demand, u64> = BTreeMap::new();
        for demand in history {
            *counts.entry(Demand { memory_mib: 0, ..demand }).or_default() += 1;
        }
        let total: u64 = counts.values().sum();
        let mut shapes: Vec<(Demand, u64)> = counts.into_iter().collect();
        shapes.sort_unstable_by_key(|(demand, count)| Reverse((*count, *demand)));
        let mut sum = 0;
        let wanted = u128::from(total) * u128::from(percent.min(100));
        let enough = shapes.iter().take_while(|(_, count)| {
            let short = u128::from(sum) * 100 < wanted;
            sum += count;
            short
        });
        let enough = enough.count();
        shapes.truncate(enough);
        Workload(shapes)
    }

    /// The shapes, the most frequent first.
    pub fn shapes(&self) -> &[(Demand, u64)] {
        &self.0
    }

    /// A shape, each as likely as it is frequent; `None` of an empty workload.
    pub(crate) fn draw(&self, chance: &mut Chance) -> Option<Demand> {
        let mut drawn = chance.below(self.weight())?;
        for (demand, count) in &self.0 {
            match drawn.checked_sub(*count) {
                Some(rest) => drawn = rest,
                None => return Some(*demand),
            }
        }
        None
    }

    /// The sum of all counts.
    pub fn weight(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// The shapes that differ in CPU alone.
#[derive(Debug, Clone)]
struct Group {
    gpus: GpuAsk,
    models: ModelSet,
    /// CPU asked for, rising, with the weight of all shapes up to it.
    cpus: Vec<(u64, u64)>,
}

/// The fragmentation of a node under a workload, as FGD defines it (Weng et al., USENIX ATC 2023, section 4): what of its
/// free GPUs a shape drawn from the workload cannot use, in thousandths of a GPU times the workload's weight.
#[derive(Debug, Clone)]
pub(crate) struct Fragmentation {
    groups: Vec<Group>,
    weight: u64,
}

impl Fragmentation {
    pub(crate) fn new(workload: &Workload) -> Fragmentation {
        let mut groups: BTreeMap<(GpuAsk, ModelSet), BTreeMap<u64, u64>> = BTreeMap::new();
        for (demand, count) in workload.shapes() {
            *groups.entry((demand.gpus, demand.models)).or_default().entry(demand.cpu_milli).or_default() += count;
        }
        let group = |((gpus, models), cpus): ((GpuAsk, ModelSet), BTreeMap<u64, u64>)| {
            let mut sum = 0;
            let running = |(cpu, count)| {
                sum += count;
                (cpu, sum)
            };
            Group { gpus, models, cpus: cpus.into_iter().map(running).collect() }
        };
        Fragmentation { groups: groups.into_iter().map(group).collect(), weight: workload.weight() }
    }

    /// The workload's weight: what divides [`Fragmentation::of`] to give thousandths of a GPU.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// The fragmentation of what a node has free.
    pub(crate) fn of(&self, content: &Content) -> u64 {
        let free = content.gpus.milli();
        if free == 0 {
            return 0;
        }
        let mut usable = 0;
        for group in &self.groups {
            let milli = match group.gpus {
                GpuAsk::None => continue,
                GpuAsk::Fraction(milli) => milli,
                GpuAsk::Whole(_) => GPU_MILLI,
            };
            if !group.models.allows(content.model) || !content.gpus.fits(group.gpus) {
                continue;
            }
            let below = group.cpus.partition_point(|(cpu, _)| *cpu <= content.cpu_milli);
            let Some((_, weight)) = below.checked_sub(1).map(|last| group.cpus[last]) else { continue };
            let levels = content.gpus.levels();
            let small = levels.partition_point(|free| *free < milli);
            usable += weight * levels[small..].iter().map(|free| u64::from(*free)).sum::<u64>();
        }
        self.weight * free - usable
    }
}
