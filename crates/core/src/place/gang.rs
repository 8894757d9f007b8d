//! Members that start together or not at all, near each other or far apart.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use serde::{Deserialize, Serialize};

use super::{
    cluster::{Cluster, Place, Placement},
    content::Content,
    demand::{Demand, GPU_MILLI, GpuAsk},
    placer::whole,
};

/// The most members a gang may have.
pub const MEMBERS_MAX: u32 = 100_000;

/// A level of the network, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// One node.
    Node,
    /// One domain whose GPUs are linked to each other directly.
    Nvlink,
    /// One rack.
    Rack,
    /// One leaf switch.
    Leaf,
}

/// Whether members go close together or far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrangement {
    /// On as few leaves, then racks, domains and nodes as can be, where they leave the least room over.
    #[default]
    Pack,
    /// Evenly over leaves, then racks, domains and nodes.
    Spread,
}

/// What a gang wishes of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Wish {
    /// All members must be within one group of this level. Nodes whose group is not known are left out.
    pub within: Option<Level>,
    /// How they are arranged there.
    pub arrangement: Arrangement,
}

/// Why a gang cannot be placed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fit} of {members} members fit")]
pub struct GangShort {
    /// How many members would fit at most, in one group of the level asked for; never more than [`MEMBERS_MAX`].
    pub fit: u64,
    /// How many there are.
    pub members: u32,
}

/// Says where the members of a gang would go: all of them, in the order of nodes, or none. Nothing is placed here.
pub fn place_gang(cluster: &Cluster, members: u32, demand: &Demand, wish: Wish) -> Result<Vec<Placement>, GangShort> {
    let counts = arranged(slots(cluster, demand), members, wish)?;
    Ok(counts.into_iter().flat_map(|(node, count)| on_node(cluster, node, count, demand)).collect())
}

/// Says how many members of a gang go to each of these nodes: all of them, or none.
pub(crate) fn arranged<C: Ord + Copy>(
    slots: Vec<Slot<C>>,
    members: u32,
    wish: Wish,
) -> Result<BTreeMap<u32, u64>, GangShort> {
    let mut counts = BTreeMap::new();
    if members == 0 {
        return Ok(counts);
    }
    let need = u64::from(members);
    let groups = match wish.within {
        None => vec![Group::new(slots, &NESTED)],
        Some(level) => {
            let known: Vec<Slot<C>> = slots.into_iter().filter(|slot| coordinate(slot, level).is_some()).collect();
            let below = NESTED.iter().position(|nested| *nested == level).map_or(NESTED.len(), |place| place + 1);
            groups(&known, level, &NESTED[below..])
        }
    };
    let fit = groups.iter().map(|group| group.room).max().unwrap_or(0).min(u64::from(MEMBERS_MAX));
    if members > MEMBERS_MAX {
        return Err(GangShort { fit, members });
    }
    // Packed, the group that is filled best; spread, the one with the most room. They are in order of room, most first.
    let fitting = groups.partition_point(|group| group.room >= need);
    let tightest = groups[..fitting].last().map(|last| groups.partition_point(|group| group.room > last.room));
    let chosen = match wish.arrangement {
        Arrangement::Pack => tightest,
        Arrangement::Spread => (fitting > 0).then_some(0),
    };
    let Some(chosen) = chosen else { return Err(GangShort { fit, members }) };
    arrange(groups.into_iter().nth(chosen), need, wish.arrangement, &mut counts);
    Ok(counts)
}

/// The levels within a site, the widest first.
const NESTED: [Level; 4] = [Level::Leaf, Level::Rack, Level::Nvlink, Level::Node];

/// A node with room for members.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<C> {
    /// Its index.
    pub(crate) node: u32,
    /// Where it stands.
    pub(crate) place: Place,
    /// What it is without its name: nodes of one content are interchangeable.
    pub(crate) content: C,
    /// How many members fit.
    pub(crate) room: u64,
}

/// Nodes of one group of a level, with the levels below it.
struct Group<'a, C> {
    slots: Vec<Slot<C>>,
    room: u64,
    below: &'a [Level],
}

/// What a group looks like without its names: equal ones are interchangeable.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Shape<C> {
    Node(C),
    Group(Vec<Shape<C>>),
}

impl<'a, C: Ord + Copy> Group<'a, C> {
    fn new(slots: Vec<Slot<C>>, below: &'a [Level]) -> Group<'a, C> {
        Group { room: slots.iter().map(|slot| slot.room).sum(), slots, below }
    }

    fn shape(slots: &[Slot<C>], below: &[Level]) -> Shape<C> {
        let mut shapes: Vec<Shape<C>> = match below {
            [] | [Level::Node] => slots.iter().map(|slot| Shape::Node(slot.content)).collect(),
            [level, below @ ..] => {
                by_coordinate(slots, *level).values().map(|slots| Group::shape(slots, below)).collect()
            }
        };
        shapes.sort_unstable();
        Shape::Group(shapes)
    }
}

/// The nodes where members fit, with how many.
fn slots(cluster: &Cluster, demand: &Demand) -> Vec<Slot<Content>> {
    let slot = |node| {
        let content = cluster.content(node)?;
        let room = copies(&content, demand);
        let place = cluster.spec(node)?.place;
        (room > 0).then_some(Slot { node, place, content, room })
    };
    (0..cluster.len() as u32).filter_map(slot).collect()
}

/// How many times a demand fits on a node with this content.
pub(crate) fn copies(content: &Content, demand: &Demand) -> u64 {
    if !demand.is_sound() || !content.fits(demand) {
        return 0;
    }
    let most = |free: u64, asked: u64| free.checked_div(asked).unwrap_or(u64::from(u32::MAX));
    let by_gpu = match demand.gpus {
        GpuAsk::None => u64::from(u32::MAX),
        GpuAsk::Fraction(milli) => content.gpus.levels().iter().map(|free| u64::from(free / milli)).sum(),
        GpuAsk::Whole(count) => content.gpus.whole() as u64 / u64::from(count),
    };
    most(content.cpu_milli, demand.cpu_milli).min(most(content.memory_mib, demand.memory_mib)).min(by_gpu)
}

fn coordinate<C>(slot: &Slot<C>, level: Level) -> Option<u32> {
    match level {
        Level::Node => Some(slot.node),
        Level::Nvlink => slot.place.nvlink,
        Level::Rack => slot.place.rack,
        Level::Leaf => slot.place.leaf,
    }
}

fn by_coordinate<C: Copy>(slots: &[Slot<C>], level: Level) -> BTreeMap<Option<u32>, Vec<Slot<C>>> {
    let mut groups: BTreeMap<Option<u32>, Vec<Slot<C>>> = BTreeMap::new();
    for slot in slots {
        groups.entry(coordinate(slot, level)).or_default().push(*slot);
    }
    groups
}

/// The groups of a level, those with the most room first. Equal ones are told apart by what they have, never by number.
fn groups<'a, C: Ord + Copy>(slots: &[Slot<C>], level: Level, below: &'a [Level]) -> Vec<Group<'a, C>> {
    let groups = by_coordinate(slots, level);
    let mut groups: Vec<Group<C>> = groups.into_values().map(|slots| Group::new(slots, below)).collect();
    groups.sort_by_cached_key(|group| (Reverse(group.room), Group::shape(&group.slots, group.below)));
    groups
}

/// Says how many members go on each node of a group that has room for all of them.
fn arrange<C: Ord + Copy>(
    group: Option<Group<C>>,
    need: u64,
    arrangement: Arrangement,
    counts: &mut BTreeMap<u32, u64>,
) {
    let Some(group) = group.filter(|_| need > 0) else { return };
    let [level, below @ ..] = group.below else {
        // No level is left: this is one node.
        return group.slots.iter().for_each(|slot| *counts.entry(slot.node).or_default() += need);
    };
    let groups = groups(&group.slots, *level, below);
    let shares = match arrangement {
        Arrangement::Pack => pack(&groups, need),
        Arrangement::Spread => spread(&groups, need),
    };
    for (group, share) in groups.into_iter().zip(shares) {
        arrange(Some(group), share, arrangement, counts);
    }
}

/// The fewest groups: the roomiest are filled until what is left fits into one, then the one it fills best.
fn pack<C>(groups: &[Group<C>], mut need: u64) -> Vec<u64> {
    let mut shares = vec![0; groups.len()];
    for (place, group) in groups.iter().enumerate() {
        if group.room < need {
            shares[place] = group.room;
            need -= group.room;
            continue;
        }
        let fitting = groups.partition_point(|group| group.room >= need);
        let tightest = groups.partition_point(|group| group.room > groups[fitting - 1].room);
        shares[tightest.max(place)] = need;
        break;
    }
    shares
}

/// One to each group in turn, the roomiest first.
fn spread<C>(groups: &[Group<C>], need: u64) -> Vec<u64> {
    let mut shares = vec![0; groups.len()];
    let mut turns: BinaryHeap<Reverse<(u64, usize)>> = (0..groups.len()).map(|place| Reverse((0, place))).collect();
    let mut left = need;
    while let Some(Reverse((share, place))) = turns.pop().filter(|_| left > 0) {
        if share < groups[place].room {
            shares[place] += 1;
            left -= 1;
            turns.push(Reverse((share + 1, place)));
        }
    }
    shares
}

/// So many members on one node that has room for them: parts on the GPUs they fill best.
fn on_node(cluster: &Cluster, node: u32, count: u64, demand: &Demand) -> Vec<Placement> {
    let mut free = cluster.gpus_free(node).unwrap_or_default().to_vec();
    let mut member = || {
        let gpus = match demand.gpus {
            GpuAsk::None => Vec::new(),
            GpuAsk::Whole(count) => whole(&free, count),
            GpuAsk::Fraction(milli) => {
                let fitting = (0_u8..).zip(&free).filter(|(_, free)| **free >= milli);
                fitting.min_by_key(|(_, free)| **free).map(|(gpu, _)| gpu).into_iter().collect()
            }
        };
        let part = if let GpuAsk::Fraction(milli) = demand.gpus { milli } else { GPU_MILLI };
        for gpu in &gpus {
            free[usize::from(*gpu)] -= part;
        }
        Placement { node, gpus }
    };
    (0..count).map(|_| member()).collect()
}
