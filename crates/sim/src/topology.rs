//! Gangs on a real network: the hosts of Alibaba's Lingjun cluster (2023) behind their leaf switches, and gangs drawn from a
//! seed that come, stay a while and leave.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use gregal_core::place::{
    Arrangement, Chance, Cluster, Demand, GPU_MILLI, GpuAsk, Identity, NodeSpec, Place, PlaceError, Placement, Placer,
    Policy, Wish,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::openb::Hundredths;

/// GPUs of each host of the Lingjun cluster.
const GPUS_PER_HOST: u8 = 8;
/// The most hosts a file may have.
const HOSTS_MAX: usize = 1_000_000;
/// How many GPUs a gang may ask for.
const GANG_GPUS: [u32; 7] = [8, 16, 32, 64, 128, 256, 512];

/// Why a topology cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// The header is another.
    #[error("line 1: expected the header `ip,DSW,PSW,ASW`")]
    Header,
    /// A line has another number of fields, or an empty one.
    #[error("line {line}: expected 4 fields, none of them empty")]
    Fields {
        /// Which line, from 1.
        line: usize,
    },
    /// The same host stands on two lines.
    #[error("line {line}: the host was named before")]
    Twice {
        /// Which line, from 1.
        line: usize,
    },
    /// There is no host, or there are too many.
    #[error("expected 1 to {HOSTS_MAX} hosts")]
    Size,
}

/// Reads the hosts of a three-layer network: each line names a host and its core, aggregation and leaf switch. A leaf is
/// the three together, as leaves of different aggregation switches may bear one name.
pub fn read_topology(text: &str) -> Result<Vec<NodeSpec>, TopologyError> {
    let mut lines = (1..).zip(text.lines());
    if lines.next().map(|(_, line)| line.trim()) != Some("ip,DSW,PSW,ASW") {
        return Err(TopologyError::Header);
    }
    let mut hosts = BTreeSet::new();
    let mut leaves: BTreeMap<[&str; 3], u32> = BTreeMap::new();
    let mut nodes = Vec::new();
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let [host, core, aggregation, leaf] = fields[..] else { return Err(TopologyError::Fields { line }) };
        if fields.iter().any(|field| field.is_empty()) {
            return Err(TopologyError::Fields { line });
        }
        if !hosts.insert(host) {
            return Err(TopologyError::Twice { line });
        }
        let next = leaves.len() as u32;
        let leaf = *leaves.entry([core, aggregation, leaf]).or_insert(next);
        let place = Place { leaf: Some(leaf), ..Place::default() };
        nodes.push(NodeSpec { gpus: GPUS_PER_HOST, place, ..NodeSpec::default() });
        if nodes.len() > HOSTS_MAX {
            return Err(TopologyError::Size);
        }
    }
    if nodes.is_empty() { Err(TopologyError::Size) } else { Ok(nodes) }
}

/// What a replay of gangs came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GangOutcome {
    /// What every draw follows from.
    pub seed: u64,
    /// Hosts.
    pub hosts: usize,
    /// Leaves.
    pub leaves: usize,
    /// How many GPUs the gangs would take on average if none had to wait, in percent of all.
    pub load_percent: u64,
    /// Gangs that came, all of which ran.
    pub gangs: usize,
    /// Gangs that had to wait for others to leave.
    pub waited: usize,
    /// Gangs of which some members ran and others did not: there must be none.
    pub partial_gangs: usize,
    /// Leaves a gang touched, on average, in hundredths.
    pub leaves_mean: Hundredths,
    /// The same if each gang had the empty cluster for itself.
    pub leaves_mean_min: Hundredths,
    /// The one over the other.
    pub leaves_ratio: Hundredths,
    /// The fewest leaves that a gang could have touched with the hosts free at its start, on average.
    pub leaves_mean_min_free: Hundredths,
    /// Percent of all GPUs taken, averaged over the gangs' starts.
    pub allocated_percent: Hundredths,
    /// SHA-256 of every placement in order, hex.
    pub digest: String,
}

/// Replays so many gangs of 8 to 512 GPUs, whole hosts each, first come first served: one comes a tick, and stays from its
/// start for a number of ticks drawn evenly, so that the load is met; one that does not fit makes all wait.
pub fn gangs(nodes: &[NodeSpec], count: usize, load_percent: u64, seed: u64) -> Result<GangOutcome, PlaceError> {
    let mut placer = Placer::new(Cluster::new(nodes, Identity::Content)?, &Policy::BestFit);
    let demand = Demand { gpus: GpuAsk::Whole(GPUS_PER_HOST), ..Demand::default() };
    let wish = Wish { within: None, arrangement: Arrangement::Pack };
    let mut sizes: BTreeMap<Option<u32>, u32> = BTreeMap::new();
    for node in nodes {
        *sizes.entry(node.place.leaf).or_default() += 1;
    }
    let sizes = roomiest(sizes);

    // The mean stay is what makes the hosts of one gang a tick add up to the load; it is drawn from 1 to twice that.
    let gpus: u64 = GANG_GPUS.iter().map(|gpus| u64::from(*gpus)).sum();
    let stay_max =
        2 * load_percent * nodes.len() as u64 * GANG_GPUS.len() as u64 * u64::from(GPUS_PER_HOST) / (100 * gpus);
    let mut chance = Chance::new(seed);
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut history: Vec<Vec<Placement>> = Vec::new();
    let mut digest = Sha256::new();
    let mut sum = Sums::default();
    let mut now = 0;
    for gang in 0..count {
        now = now.max(gang as u64);
        let drawn = chance.below(GANG_GPUS.len() as u64).unwrap_or(0);
        let wanted = GANG_GPUS[drawn as usize] / u32::from(GPUS_PER_HOST);
        let members = wanted.min(nodes.len() as u32);
        let stay = 1 + chance.below(stay_max).unwrap_or(0);
        let mut delayed = false;
        let mut free_leaves;
        let placements = loop {
            while let Some(Reverse((end, other))) = running.peek().copied().filter(|Reverse((end, _))| *end <= now) {
                let _ = (running.pop(), end);
                history[other].drain(..).try_for_each(|placement| placer.release(&demand, &placement))?;
            }
            let before = hosts_free(&placer);
            free_leaves = leaves_free(&placer, nodes);
            match placer.place_gang(members, &demand, wish) {
                Ok(placements) => break placements,
                Err(_) => sum.partial += usize::from(hosts_free(&placer) != before),
            }
            delayed = true;
            // Members are no more than hosts, so someone runs whose end makes room.
            now = running.peek().map(|Reverse((end, _))| *end).ok_or(PlaceError::NoRoom(0))?;
        };
        sum.waited += usize::from(delayed);
        sum.partial += usize::from(placements.len() != members as usize);
        sum.add(&placements, nodes, &sizes, &free_leaves);
        sum.taken += (nodes.len() - hosts_free(&placer)) as u64;
        for placement in &placements {
            digest.update(placement.node.to_be_bytes());
        }
        digest.update(now.to_be_bytes());
        running.push(Reverse((now + stay, gang)));
        history.push(placements);
    }
    let mean = |sum: u64, over: u64| Hundredths((sum * 100).checked_div(over).unwrap_or(0));
    Ok(GangOutcome {
        seed,
        hosts: nodes.len(),
        leaves: sizes.len(),
        gangs: count,
        waited: sum.waited,
        partial_gangs: sum.partial,
        leaves_mean: mean(sum.leaves, count as u64),
        leaves_mean_min: mean(sum.leaves_min, count as u64),
        leaves_mean_min_free: mean(sum.leaves_min_free, count as u64),
        load_percent,
        leaves_ratio: Hundredths((sum.leaves * 100).div_ceil(sum.leaves_min.max(1))),
        allocated_percent: mean(sum.taken * 100, count as u64 * nodes.len() as u64),
        digest: hex::encode(digest.finalize()),
    })
}

#[derive(Default)]
struct Sums {
    waited: usize,
    partial: usize,
    leaves: u64,
    leaves_min: u64,
    leaves_min_free: u64,
    taken: u64,
}

impl Sums {
    fn add(&mut self, placements: &[Placement], nodes: &[NodeSpec], sizes: &[u32], free: &[u32]) {
        let leaf = |placement: &Placement| nodes.get(placement.node as usize).and_then(|node| node.place.leaf);
        self.leaves += placements.iter().map(leaf).collect::<BTreeSet<_>>().len() as u64;
        self.leaves_min += fewest(sizes, placements.len());
        self.leaves_min_free += fewest(free, placements.len());
    }
}

/// How many leaves it takes at least to hold so many hosts, of leaves with this room, the roomiest first.
fn fewest(rooms: &[u32], hosts: usize) -> u64 {
    let mut left = hosts as u64;
    let mut leaves = 0;
    for room in rooms {
        leaves += u64::from(left > 0);
        left = left.saturating_sub(u64::from(*room));
    }
    leaves
}

/// How many hosts are free at each leaf, the roomiest first.
fn leaves_free(placer: &Placer, nodes: &[NodeSpec]) -> Vec<u32> {
    let mut free: BTreeMap<Option<u32>, u32> = BTreeMap::new();
    for (index, node) in (0..).zip(nodes) {
        let idle =
            placer.cluster().content(index).is_some_and(|content| content.gpus.whole() == usize::from(GPUS_PER_HOST));
        *free.entry(node.place.leaf).or_default() += u32::from(idle);
    }
    roomiest(free)
}

fn roomiest(rooms: BTreeMap<Option<u32>, u32>) -> Vec<u32> {
    let mut rooms: Vec<u32> = rooms.into_values().collect();
    rooms.sort_unstable_by_key(|room| Reverse(*room));
    rooms
}

/// Hosts that nobody uses, each having GPUs that are all free.
fn hosts_free(placer: &Placer) -> usize {
    let idle = usize::from(GPUS_PER_HOST);
    let census = placer.cluster().census().into_iter();
    census.filter(|(content, _)| content.gpus.levels() == vec![GPU_MILLI; idle]).map(|(_, nodes)| nodes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many leaves of four hosts, the names of leaves being the same behind both aggregation switches.
    fn text(leaves: usize) -> String {
        let line = |host: usize| format!("h{host},G,P{},S{}\n", host / 4 % 2, host / 8);
        format!("ip,DSW,PSW,ASW\n{}", (0..leaves * 4).map(line).collect::<String>())
    }

    #[test]
    fn a_leaf_is_known_by_all_three_switches() {
        let nodes = read_topology(&text(6)).unwrap();
        assert_eq!(nodes.len(), 24);
        let leaves: BTreeSet<_> = nodes.iter().map(|node| node.place.leaf).collect();
        assert_eq!(leaves.len(), 6);
    }

    #[test]
    fn bad_lines_are_named() {
        assert_eq!(read_topology("a,b\n"), Err(TopologyError::Header));
        assert_eq!(read_topology("ip,DSW,PSW,ASW\n"), Err(TopologyError::Size));
        assert_eq!(read_topology("ip,DSW,PSW,ASW\nh,G,P,S\nh2,G,P\n"), Err(TopologyError::Fields { line: 3 }));
        assert_eq!(read_topology("ip,DSW,PSW,ASW\nh,,P,S\n"), Err(TopologyError::Fields { line: 2 }));
        assert_eq!(read_topology("ip,DSW,PSW,ASW\nh,G,P,S\nh,G,P,S\n"), Err(TopologyError::Twice { line: 3 }));
    }

    #[test]
    fn no_gang_is_partial_and_each_touches_as_few_leaves_as_free_hosts_allow() {
        let nodes = read_topology(&text(40)).unwrap();
        for load in [20, 70, 120] {
            let outcome = gangs(&nodes, 200, load, 9).unwrap();
            assert_eq!((outcome.gangs, outcome.partial_gangs), (200, 0));
            assert_eq!(outcome.leaves_mean, outcome.leaves_mean_min_free, "at a load of {load} %");
            assert!(outcome.leaves_mean >= outcome.leaves_mean_min);
            assert_eq!(gangs(&nodes, 200, load, 9).unwrap(), outcome);
            assert_ne!(gangs(&nodes, 200, load, 10).unwrap().digest, outcome.digest);
        }
    }
}
