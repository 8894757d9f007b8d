//! Places demands one by one by a policy, and takes them away again.

use std::{collections::HashMap, sync::Arc};

use super::{
    chance::Chance,
    cluster::{Cluster, PlaceError, Placement},
    content::Content,
    demand::{Demand, GPU_MILLI, GpuAsk},
    experience::Experience,
    gang::{GangShort, Wish, place_gang},
    policy::{Judge, Policy},
    ranking::Ranking,
    workload::Fragmentation,
};

/// The most shapes whose rankings are kept.
const SHAPES_MAX: usize = 256;

/// A cluster with the policy that fills it. The same calls give the same answers on every machine.
#[derive(Debug, Clone)]
pub struct Placer {
    cluster: Cluster,
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    Chance(Chance),
    Judge { judge: Judge, rankings: HashMap<Demand, Ranking> },
}

impl Placer {
    /// Fills this cluster by this policy.
    pub fn new(cluster: Cluster, policy: &Policy) -> Placer {
        let judge = match policy {
            Policy::Random { seed } => return Placer { cluster, by: By::Chance(Chance::new(*seed)) },
            Policy::BestFit => Judge::BestFit,
            Policy::Fgd(workload) => Judge::Fgd(Fragmentation::new(workload)),
            Policy::Default(experience) => Judge::Default(Arc::clone(experience)),
        };
        Placer { cluster, by: By::Judge { judge, rankings: HashMap::new() } }
    }

    pub(crate) fn by_experience(cluster: Cluster, experience: Experience) -> Placer {
        Placer::new(cluster, &Policy::Default(Arc::new(experience)))
    }

    /// The cluster as it stands.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Places a demand and says where, or `None` when it fits nowhere or makes no sense.
    pub fn place(&mut self, demand: &Demand) -> Option<Placement> {
        let placement = self.choose(demand)?;
        self.cluster.take(demand, &placement).ok()?;
        Some(placement)
    }

    /// Takes away what [`Placer::place`] placed.
    pub fn release(&mut self, demand: &Demand, placement: &Placement) -> Result<(), PlaceError> {
        self.cluster.give_back(demand, placement)
    }

    /// Places all members of a gang or none, and says where.
    pub fn place_gang(&mut self, members: u32, demand: &Demand, wish: Wish) -> Result<Vec<Placement>, GangShort> {
        let placements = place_gang(&self.cluster, members, demand, wish)?;
        for (placed, placement) in placements.iter().enumerate() {
            if self.cluster.take(demand, placement).is_err() {
                // Cannot be, as each was found to fit; still, never a part of a gang.
                for placement in &placements[..placed] {
                    let _ = self.cluster.give_back(demand, placement);
                }
                return Err(GangShort { fit: placed as u64, members });
            }
        }
        Ok(placements)
    }

    /// Says where a demand would go, without placing it.
    pub fn choose(&mut self, demand: &Demand) -> Option<Placement> {
        if !demand.is_sound() {
            return None;
        }
        match &mut self.by {
            By::Chance(chance) => by_chance(&self.cluster, chance, demand),
            By::Judge { judge, rankings } => {
                if rankings.len() >= SHAPES_MAX && !rankings.contains_key(demand) {
                    rankings.clear();
                }
                let class = rankings.entry(*demand).or_default().best(&self.cluster, judge, demand)?;
                let node = *class.members.first()?;
                let gpus = gpus(self.cluster.gpus_free(node)?, judge, &class.content, demand);
                Some(Placement { node, gpus })
            }
        }
    }
}

/// The GPUs to take of a node with these free, by index: for a part, the best one, the first of equally good ones.
fn gpus(free: &[u16], judge: &Judge, content: &Content, demand: &Demand) -> Vec<u8> {
    match demand.gpus {
        GpuAsk::None => Vec::new(),
        GpuAsk::Whole(count) => whole(free, count),
        GpuAsk::Fraction(milli) => {
            let before = judge.before(content);
            let levels = content.gpus.levels();
            let mut best = None;
            for (gpu, level) in free.iter().enumerate().filter(|(_, level)| **level >= milli) {
                let place = levels.partition_point(|other| other < level);
                let key = judge.key(content, before, demand, place);
                if best.is_none_or(|(other, _)| key > other) {
                    best = Some((key, gpu));
                }
            }
            best.map(|(_, gpu)| gpu as u8).into_iter().collect()
        }
    }
}

/// The first so many GPUs that nobody uses.
pub(crate) fn whole(free: &[u16], count: u8) -> Vec<u8> {
    let idle = (0..).zip(free).filter(|(_, free)| **free == GPU_MILLI).map(|(gpu, _)| gpu);
    idle.take(usize::from(count)).collect()
}

fn by_chance(cluster: &Cluster, chance: &mut Chance, demand: &Demand) -> Option<Placement> {
    let fits = |node: &u32| cluster.content(*node).is_some_and(|content| content.fits(demand));
    let nodes: Vec<u32> = (0..cluster.len() as u32).filter(fits).collect();
    let node = *nodes.get(chance.below(nodes.len() as u64)? as usize)?;
    let free = cluster.gpus_free(node)?;
    let gpus = match demand.gpus {
        GpuAsk::None => Vec::new(),
        GpuAsk::Whole(count) => whole(free, count),
        GpuAsk::Fraction(milli) => {
            let fit: Vec<u8> = (0..).zip(free).filter(|(_, free)| **free >= milli).map(|(gpu, _)| gpu).collect();
            vec![*fit.get(chance.below(fit.len() as u64)? as usize)?]
        }
    };
    Some(Placement { node, gpus })
}
