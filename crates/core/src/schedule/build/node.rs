//! A site's machines as the queue sees them, in an order that follows from what they are.

use std::collections::BTreeMap;

use super::{Tables, count, ms};
use crate::{
    id::{OrganisationId, ProjectId},
    queue::{Gpus, Node, Sight},
    schedule::{self, Room},
    time::Time,
};

/// What a node is apart from its name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Look<'a> {
    cpus_milli: u32,
    memory_bytes: u64,
    /// Those fit for work, and those that are not.
    models: (Vec<&'a str>, Vec<&'a str>),
    owner: Option<(OrganisationId, Option<ProjectId>)>,
    until: Option<Time>,
    /// What is bound to it, by its place in the list.
    bound: Vec<(usize, &'a [u8])>,
}

/// What a group of nodes is, apart from names.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kin {
    Node(usize),
    /// Whether its place is known, and what is in it.
    Group(bool, Vec<Kin>),
}

/// A site of which nothing is known: one node, of any size.
pub(super) fn unknown(site: u16) -> Node {
    Node {
        site,
        sight: Sight::Unknown,
        cpus_milli: 0,
        memory_bytes: 0,
        gpus: Vec::new(),
        domain: None,
        rack: None,
        leaf: None,
        only_for: None,
        until_ms: None,
    }
}

/// A site's nodes with their places there. Ties in the queue go to the first node, so their order must not depend on how
/// they are numbered, nor on how racks are: it follows from what they have, from what is bound to them, and from what else
/// is in their groups. Nodes that are alike in all of this are interchangeable.
pub(super) fn nodes(room: &Room, site: u16, tables: &Tables) -> Vec<(u32, Node)> {
    if !room.is_known() {
        return Vec::new();
    }
    let sight = if room.alive { Sight::Alive } else { Sight::Silent };
    let made = |at: usize| (count(at), node(&room.nodes[at], (site, sight), tables));
    ordered(room).into_iter().map(made).collect()
}

fn node(node: &schedule::Node, (site, sight): (u16, Sight), tables: &Tables) -> Node {
    let mut gpus: BTreeMap<u16, Gpus> = BTreeMap::new();
    let models = node.gpus.iter().map(|model| (model, 1)).chain(node.gpus_broken.iter().map(|model| (model, 0)));
    for (model, healthy) in models.filter_map(|(model, healthy)| Some((*tables.models.get(model)?, healthy))) {
        let here = gpus.entry(model).or_insert(Gpus { model, healthy: 0, all: 0 });
        (here.healthy, here.all) = (here.healthy + healthy, here.all + 1);
    }
    Node {
        site,
        sight,
        cpus_milli: node.cpus_milli,
        memory_bytes: node.memory_bytes,
        gpus: gpus.into_values().collect(),
        domain: node.domain,
        rack: node.rack,
        leaf: node.leaf,
        only_for: node.only_for.map(|owner| tables.owner(owner)),
        until_ms: node.until.map(ms),
    }
}

/// The places of a site's nodes in that order.
fn ordered(room: &Room) -> Vec<usize> {
    let all: Vec<usize> = (0..room.nodes.len()).collect();
    if all.len() < 2 {
        return all;
    }
    let looks = looks(room);
    let mut kinds: Vec<&Look> = looks.iter().collect();
    kinds.sort_unstable();
    kinds.dedup();
    let kinds: Vec<usize> = looks.iter().map(|look| kinds.binary_search(&look).unwrap_or(0)).collect();
    grouped(room, &kinds, all, &[|node| node.leaf, |node| node.rack, |node| node.domain]).1
}

fn looks<'a>(room: &'a Room) -> Vec<Look<'a>> {
    let mut here: Vec<Vec<(usize, &'a [u8])>> = vec![Vec::new(); room.nodes.len()];
    for (at, bound) in room.bound.iter().enumerate() {
        for place in &bound.places {
            if let Some(here) = here.get_mut(usize::try_from(place.node).unwrap_or(usize::MAX)) {
                here.push((at, &place.gpus));
            }
        }
    }
    let look = |(node, mut bound): (&'a schedule::Node, Vec<(usize, &'a [u8])>)| {
        bound.sort_unstable();
        let models = (sorted(&node.gpus), sorted(&node.gpus_broken));
        Look {
            cpus_milli: node.cpus_milli,
            memory_bytes: node.memory_bytes,
            models,
            owner: node.only_for,
            until: node.until,
            bound,
        }
    };
    room.nodes.iter().zip(here).map(look).collect()
}

fn sorted(models: &[String]) -> Vec<&str> {
    let mut sorted: Vec<&str> = models.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted
}

/// Nodes within a group, level by level, and what the group is.
fn grouped(
    room: &Room,
    kinds: &[usize],
    nodes: Vec<usize>,
    levels: &[fn(&schedule::Node) -> Option<u32>],
) -> (Vec<Kin>, Vec<usize>) {
    let [level, below @ ..] = levels else {
        let mut nodes = nodes;
        nodes.sort_unstable_by_key(|at| (kinds[*at], *at));
        return (nodes.iter().map(|at| Kin::Node(kinds[*at])).collect(), nodes);
    };
    let mut groups: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
    for at in nodes {
        groups.entry(level(&room.nodes[at])).or_default().push(at);
    }
    let look = |(number, nodes): (Option<u32>, Vec<usize>)| {
        let first = nodes.iter().min().copied();
        let (look, nodes) = grouped(room, kinds, nodes, below);
        (Kin::Group(number.is_some(), look), first, nodes)
    };
    let mut groups: Vec<(Kin, Option<usize>, Vec<usize>)> = groups.into_iter().map(look).collect();
    groups.sort_unstable();
    let mut order = Vec::new();
    let mut look = Vec::new();
    for (group, _, nodes) in groups {
        look.push(group);
        order.extend(nodes);
    }
    (look, order)
}
