//! What jobs run on: uniform pools, one a kind of accelerator, or mixed nodes at sites that jobs of all kinds share.

use serde::{Deserialize, Serialize};

use super::{job::Ask, quota::ShareId};
use crate::place::{GPU_MILLI, Level};

/// The most accelerators one node of a pool may have.
const GPUS_PER_NODE_MAX: u32 = 1024;
/// The most nodes of one pool.
const NODES_MAX: u32 = 1_000_000;

/// One kind of accelerator: nodes of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sku {
    /// How many nodes.
    pub nodes: u32,
    /// How many accelerators each has.
    pub gpus_per_node: u32,
}

/// What jobs run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// A pool of like nodes for every kind; a job larger than a node takes several. Quick at any size.
    Uniform(Vec<Sku>),
    /// Nodes of any make, shared by all kinds; each member of a job goes to one of them. A question looks at every node.
    Mixed(Mixed),
}

/// Nodes of any make, and the shapes jobs ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixed {
    /// How many kinds the quota tree counts: a shape is of one of them.
    pub skus: u16,
    /// How many sites there are.
    pub sites: u16,
    /// How many models of accelerators there are.
    pub models: u16,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The shapes, which asks name by their place.
    pub shapes: Vec<Shape>,
    /// What is reserved and has not begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
    /// What is usually asked for, each with how often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usual: Vec<(Shape, u32)>,
}

/// Room that is reserved from some time on: it is nobody's place in the queue, and is kept like a start that was promised for
/// just then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// At which site.
    pub site: u16,
    /// Its shape, with all its members, by its place.
    pub shape: u32,
    /// From when on nothing else may be there, in milliseconds.
    pub at_ms: u64,
    /// When its room is anybody's again, in milliseconds.
    pub free_ms: u64,
}

/// How much is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// It answers.
    Alive,
    /// It does not answer: nothing starts there, and what is bound stays bound, nobody knows until when.
    Silent,
    /// It never said what it has: nothing starts there, and nobody is refused for its sake.
    Unknown,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Which site it stands at.
    pub site: u16,
    /// How much is known of it.
    pub sight: Sight,
    /// Thousandths of CPU cores.
    pub cpus_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Its accelerators by model, each model once.
    pub gpus: Vec<Gpus>,
    /// The domain of directly linked accelerators it is in, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<u32>,
    /// Its rack, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<u32>,
    /// Its leaf switch, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<u32>,
    /// The share that alone may use it, with all below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_for: Option<ShareId>,
    /// Only what has ended by then may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// Accelerators of one model in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpus {
    /// Which model.
    pub model: u16,
    /// How many are fit for work.
    pub healthy: u32,
    /// How many there are in all: what a job may hope for.
    pub all: u32,
}

/// What jobs of one kind need, and where they may run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// Which kind the quota tree counts it as.
    pub sku: u16,
    /// Thousandths of CPU cores.
    pub cpus_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Whole accelerators.
    pub gpus: u32,
    /// Their model, if only one will do.
    pub model: Option<u16>,
    /// The sites it may run at, ascending.
    pub sites: Vec<u16>,
    /// What the quota tree counts for one member: accelerators, say, so that a guarantee means the same however large the
    /// jobs are that use it.
    pub units: u32,
    /// How many members take these amounts, all at one site at once.
    pub members: u32,
    /// All members are within one such group.
    pub within: Option<Level>,
    /// Whether members go to as many nodes as they can, rather than to as few.
    pub spread: bool,
    /// A part of one accelerator in thousandths, where it needs no whole one.
    pub gpu_milli: u16,
    /// What bears this number never shares a node with others that bear it.
    pub apart: Option<u32>,
    /// Whose it is: its share and those above it but the top. Nothing where that makes no difference.
    pub owners: Vec<ShareId>,
}

impl Shape {
    /// What the quota tree counts for all members.
    pub fn units_all(&self) -> u32 {
        self.units.saturating_mul(self.members)
    }
}

/// Why a ground makes no queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroundError {
    /// A kind has nothing, or more than a queue takes.
    #[error("kind {sku}: needs 1 to {NODES_MAX} nodes of 1 to {GPUS_PER_NODE_MAX} accelerators")]
    Sku {
        /// Which kind.
        sku: usize,
    },
    /// There are too many kinds.
    #[error("more than 65,535 kinds of accelerators, or none")]
    Skus,
    /// A node is at no site, has a model that is not there or twice, or more healthy accelerators than in all.
    #[error("node {node}: its site or a model is not there, or more accelerators are healthy than there are")]
    Node {
        /// Which node.
        node: usize,
    },
    /// A shape is of no kind, asks for a model that is not there, has no member or units, or a part of an accelerator that is
    /// none; or its sites do not ascend.
    #[error(
        "shape {shape}: its kind or model is not there, it has no member or no units, its part is none, or its sites do not ascend"
    )]
    Shape {
        /// Which shape.
        shape: usize,
    },
}

impl Ground {
    /// How many kinds the quota tree counts.
    pub fn skus(&self) -> usize {
        match self {
            Self::Uniform(skus) => skus.len(),
            Self::Mixed(mixed) => usize::from(mixed.skus),
        }
    }

    /// Where an ask's jobs are looked for: a pool, or the one mixed ground.
    pub(super) fn field(&self, ask: &Ask) -> usize {
        match self {
            Self::Uniform(_) => usize::from(ask.sku),
            Self::Mixed(_) => 0,
        }
    }

    pub(super) fn checked(&self) -> Result<(), GroundError> {
        if self.skus() == 0 || self.skus() > usize::from(u16::MAX) {
            return Err(GroundError::Skus);
        }
        match self {
            Self::Uniform(skus) => {
                let sound = |sku: &Sku| {
                    (1..=NODES_MAX).contains(&sku.nodes) && (1..=GPUS_PER_NODE_MAX).contains(&sku.gpus_per_node)
                };
                skus.iter().position(|sku| !sound(sku)).map_or(Ok(()), |sku| Err(GroundError::Sku { sku }))
            }
            Self::Mixed(mixed) => mixed.checked(),
        }
    }
}

impl Mixed {
    fn checked(&self) -> Result<(), GroundError> {
        let node_is_sound = |node: &Node| {
            let mut seen = vec![false; usize::from(self.models)];
            let once = |gpus: &Gpus| {
                seen.get_mut(usize::from(gpus.model)).is_some_and(|seen| !std::mem::replace(seen, true))
                    && gpus.healthy <= gpus.all
            };
            node.site < self.sites && node.gpus.iter().all(once)
        };
        let shape_is_sound = |shape: &Shape| {
            shape.sku < self.skus
                && shape.members > 0
                && shape.units > 0
                && shape.gpu_milli < GPU_MILLI
                && (shape.gpus == 0 || shape.gpu_milli == 0)
                && shape.model.is_none_or(|model| model < self.models)
                && shape.sites.is_sorted_by(|a, b| a < b)
                && shape.sites.last().is_none_or(|site| *site < self.sites)
        };
        if let Some(node) = self.nodes.iter().position(|node| !node_is_sound(node)) {
            return Err(GroundError::Node { node });
        }
        let is_there = |shape: &u32| (*shape as usize) < self.shapes.len();
        let block = self.blocks.iter().find(|block| block.site >= self.sites || !is_there(&block.shape));
        if let Some(block) = block {
            return Err(GroundError::Shape { shape: block.shape as usize });
        }
        let mut shapes = self.shapes.iter().chain(self.usual.iter().map(|(shape, _)| shape));
        let shape = shapes.position(|shape| !shape_is_sound(shape));
        shape.map_or(Ok(()), |shape| Err(GroundError::Shape { shape }))
    }
}
