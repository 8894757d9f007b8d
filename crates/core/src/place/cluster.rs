//! The nodes as the scheduler sees them, kept by what they have free: alike nodes stand together and are weighed once.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{
    content::{Content, GPUS_PER_NODE_MAX, GpusFree},
    demand::{Demand, GPU_MILLI, GpuAsk, ModelId},
};

/// The most CPU thousandths or MiB of one node.
const AMOUNT_MAX: u64 = 1 << 40;

/// Where a node stands in the network. Two nodes share a level when its number is the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Place {
    /// The domain whose GPUs are linked to each other directly.
    pub nvlink: Option<u32>,
    /// The rack.
    pub rack: Option<u32>,
    /// The leaf switch.
    pub leaf: Option<u32>,
}

/// A node when nothing runs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Thousandths of CPU cores.
    pub cpu_milli: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// How many GPUs.
    pub gpus: u8,
    /// Their model.
    pub model: Option<ModelId>,
    /// Where it stands.
    pub place: Place,
}

/// A chosen node, by its index, and the GPUs of it, by theirs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The node's index in the order in which the cluster was given its nodes.
    pub node: u32,
    /// The GPUs' indices on that node, rising.
    pub gpus: Vec<u8>,
}

/// Why a cluster cannot be built, or a placement not be made or undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// A node has more GPUs than a node may have.
    #[error("node {node} has {gpus} GPUs, and a node may have {GPUS_PER_NODE_MAX}")]
    TooManyGpus {
        /// Its index.
        node: usize,
        /// How many it has.
        gpus: u8,
    },
    /// A node has more CPU or memory than any machine, so that sums could run over.
    #[error("node {node} has absurdly much CPU or memory")]
    Absurd {
        /// Its index.
        node: usize,
    },
    /// There are more nodes than can be numbered.
    #[error("too many nodes")]
    TooManyNodes,
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(u32),
    /// The demand itself makes no sense.
    #[error("a fraction is 1 to 999 thousandths of a GPU, whole GPUs are 1 or more")]
    Unsound,
    /// The demand does not fit there, or not on those GPUs.
    #[error("the demand does not fit on node {0}")]
    NoRoom(u32),
    /// More would be given back than was ever taken.
    #[error("node {0} would have more free than it has")]
    NeverTaken(u32),
}

#[derive(Debug, Clone)]
struct Node {
    spec: NodeSpec,
    cpu_milli: u64,
    memory_mib: u64,
    gpus: Vec<u16>,
    class: u32,
}

/// Nodes with one content. Empty ones keep their slot for the next content; the generation tells them apart.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    pub(crate) content: Content,
    pub(crate) members: BTreeSet<u32>,
    pub(crate) generation: u32,
}

/// Whether nodes with the same content are one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// Yes: nothing can depend on which of them a node is.
    Content,
    /// No: each node keeps its rank, its index, for policies whose ties go to the first node.
    Rank,
}

/// The nodes, what is free on them, and which are alike.
#[derive(Debug, Clone)]
pub struct Cluster {
    nodes: Vec<Node>,
    identity: Identity,
    classes: Vec<Class>,
    by_content: HashMap<Content, u32>,
    vacant: Vec<u32>,
    /// Each class that came to be, in order: what a ranking must read to catch up.
    journal: Vec<(u32, u32)>,
    journal_start: u64,
}

impl Cluster {
    /// A cluster of empty nodes.
    pub fn new(specs: &[NodeSpec], identity: Identity) -> Result<Cluster, PlaceError> {
        if u32::try_from(specs.len()).is_err() {
            return Err(PlaceError::TooManyNodes);
        }
        let mut cluster = Cluster {
            nodes: Vec::with_capacity(specs.len()),
            identity,
            classes: Vec::new(),
            by_content: HashMap::new(),
            vacant: Vec::new(),
            journal: Vec::new(),
            journal_start: 0,
        };
        for (index, spec) in specs.iter().enumerate() {
            if usize::from(spec.gpus) > GPUS_PER_NODE_MAX {
                return Err(PlaceError::TooManyGpus { node: index, gpus: spec.gpus });
            }
            if spec.cpu_milli > AMOUNT_MAX || spec.memory_mib > AMOUNT_MAX {
                return Err(PlaceError::Absurd { node: index });
            }
            let gpus = vec![GPU_MILLI; usize::from(spec.gpus)];
            let (cpu_milli, memory_mib) = (spec.cpu_milli, spec.memory_mib);
            cluster.nodes.push(Node { spec: *spec, cpu_milli, memory_mib, gpus, class: 0 });
            cluster.enter(index as u32);
        }
        Ok(cluster)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What a node was when empty.
    pub fn spec(&self, node: u32) -> Option<&NodeSpec> {
        self.nodes.get(node as usize).map(|node| &node.spec)
    }

    /// Thousandths free of each GPU of a node, by index.
    pub fn gpus_free(&self, node: u32) -> Option<&[u16]> {
        self.nodes.get(node as usize).map(|node| node.gpus.as_slice())
    }

    /// What a node has free.
    pub fn content(&self, node: u32) -> Option<Content> {
        self.nodes.get(node as usize).map(|state| self.content_of(state, node))
    }

    /// The classes there are: each content with how many nodes have it, in the order of contents.
    pub fn census(&self) -> Vec<(Content, usize)> {
        let mut census: Vec<_> = self.live().map(|(_, class)| (class.content, class.members.len())).collect();
        census.sort_unstable();
        census
    }

    /// Takes what was chosen. Nothing changes when it does not fit.
    pub fn take(&mut self, demand: &Demand, placement: &Placement) -> Result<(), PlaceError> {
        let node = placement.node;
        let state = self.nodes.get(node as usize).ok_or(PlaceError::NoNode(node))?;
        let part = part(demand, placement)?;
        let sound =
            placement.gpus.iter().all(|gpu| state.gpus.get(usize::from(*gpu)).is_some_and(|free| *free >= part));
        let model = demand.gpus == GpuAsk::None || demand.models.allows(state.spec.model);
        if !sound || !model || demand.cpu_milli > state.cpu_milli || demand.memory_mib > state.memory_mib {
            return Err(PlaceError::NoRoom(node));
        }
        self.leave(node);
        let state = &mut self.nodes[node as usize];
        state.cpu_milli -= demand.cpu_milli;
        state.memory_mib -= demand.memory_mib;
        for gpu in &placement.gpus {
            state.gpus[usize::from(*gpu)] -= part;
        }
        self.enter(node);
        Ok(())
    }

    /// Gives back what [`Cluster::take`] took. Nothing changes when that cannot have been.
    pub fn give_back(&mut self, demand: &Demand, placement: &Placement) -> Result<(), PlaceError> {
        let node = placement.node;
        let state = self.nodes.get(node as usize).ok_or(PlaceError::NoNode(node))?;
        let part = part(demand, placement)?;
        let whole = |free: &u16| u32::from(*free) + u32::from(part) <= u32::from(GPU_MILLI);
        let sound = placement.gpus.iter().all(|gpu| state.gpus.get(usize::from(*gpu)).is_some_and(whole));
        let within = |free: u64, back: u64, all: u64| free.checked_add(back).is_some_and(|sum| sum <= all);
        if !sound
            || !within(state.cpu_milli, demand.cpu_milli, state.spec.cpu_milli)
            || !within(state.memory_mib, demand.memory_mib, state.spec.memory_mib)
        {
            return Err(PlaceError::NeverTaken(node));
        }
        self.leave(node);
        let state = &mut self.nodes[node as usize];
        state.cpu_milli += demand.cpu_milli;
        state.memory_mib += demand.memory_mib;
        for gpu in &placement.gpus {
            state.gpus[usize::from(*gpu)] += part;
        }
        self.enter(node);
        Ok(())
    }

    /// The classes that have members, with their numbers.
    pub(crate) fn live(&self) -> impl Iterator<Item = (u32, &Class)> {
        let numbered = self.classes.iter().enumerate().map(|(number, class)| (number as u32, class));
        numbered.filter(|(_, class)| !class.members.is_empty())
    }

    /// The class of this number, if it is still the one of this generation.
    pub(crate) fn class(&self, number: u32, generation: u32) -> Option<&Class> {
        let class = self.classes.get(number as usize)?;
        (class.generation == generation && !class.members.is_empty()).then_some(class)
    }

    /// How many classes have members.
    pub(crate) fn live_count(&self) -> usize {
        self.by_content.len()
    }

    /// Where the journal ends, counted from the beginning of the cluster.
    pub(crate) fn journal_end(&self) -> u64 {
        self.journal_start + self.journal.len() as u64
    }

    /// What was written since this count; `None` when that is no longer kept.
    pub(crate) fn journal_since(&self, count: u64) -> Option<&[(u32, u32)]> {
        let skip = count.checked_sub(self.journal_start)?;
        self.journal.get(usize::try_from(skip).ok()?..)
    }

    fn content_of(&self, state: &Node, node: u32) -> Content {
        let rank = if self.identity == Identity::Rank { node } else { 0 };
        let gpus = GpusFree::new(&state.gpus);
        Content { model: state.spec.model, gpus, cpu_milli: state.cpu_milli, memory_mib: state.memory_mib, rank }
    }

    fn leave(&mut self, node: u32) {
        let number = self.nodes[node as usize].class;
        let class = &mut self.classes[number as usize];
        class.members.remove(&node);
        if class.members.is_empty() {
            class.generation = class.generation.wrapping_add(1);
            self.by_content.remove(&class.content);
            self.vacant.push(number);
        }
    }

    fn enter(&mut self, node: u32) {
        let content = self.content_of(&self.nodes[node as usize], node);
        let number = match self.by_content.get(&content) {
            Some(number) => *number,
            None => self.open(content),
        };
        self.classes[number as usize].members.insert(node);
        self.nodes[node as usize].class = number;
    }

    /// Opens a class for a content that no node had.
    fn open(&mut self, content: Content) -> u32 {
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.classes.push(Class { content, members: BTreeSet::new(), generation: 0 });
            (self.classes.len() - 1) as u32
        });
        self.classes[number as usize].content = content;
        self.by_content.insert(content, number);
        // A reader further behind than there are classes had better read the classes.
        if self.journal.len() > 2 * self.classes.len() + 1024 {
            let half = self.journal.len() / 2;
            self.journal.drain(..half);
            self.journal_start += half as u64;
        }
        self.journal.push((number, self.classes[number as usize].generation));
        number
    }
}

/// The thousandths this demand takes of each GPU of the placement, whose GPUs must be as many as asked and all different.
fn part(demand: &Demand, placement: &Placement) -> Result<u16, PlaceError> {
    let (count, part) = match demand.gpus {
        GpuAsk::None => (0, 0),
        GpuAsk::Fraction(milli) => (1, milli),
        GpuAsk::Whole(count) => (usize::from(count), GPU_MILLI),
    };
    let rising = placement.gpus.windows(2).all(|pair| pair[0] < pair[1]);
    if !demand.is_sound() {
        Err(PlaceError::Unsound)
    } else if placement.gpus.len() != count || !rising {
        Err(PlaceError::NoRoom(placement.node))
    } else {
        Ok(part)
    }
}
