//! What is asked of a node, and which models of accelerator may serve it.

use serde::{Deserialize, Serialize};

/// Thousandths of one GPU: a whole one.
pub const GPU_MILLI: u16 = 1000;
/// The most models one cluster may know, so that a set of them is one word.
pub const MODELS_MAX: usize = 64;

/// A model of accelerator, as its cluster numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelId(u8);

impl ModelId {
    pub(crate) fn number(self) -> u8 {
        self.0
    }
}

/// Which models of accelerator a demand accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum ModelSet {
    /// Any model.
    #[default]
    Any,
    /// Only those whose bit is set. No bit at all: none will do.
    Only(u64),
}

impl ModelSet {
    /// Whether this is one of the few models asked for by name.
    pub(crate) fn names(self, model: usize) -> bool {
        matches!(self, ModelSet::Only(bits) if model < MODELS_MAX && bits >> model & 1 == 1)
    }

    /// Whether a node of this model may serve.
    pub fn allows(self, model: Option<ModelId>) -> bool {
        match (self, model) {
            (ModelSet::Any, _) => true,
            (ModelSet::Only(bits), Some(model)) => {
                bits.checked_shr(u32::from(model.0)).is_some_and(|bits| bits & 1 == 1)
            }
            (ModelSet::Only(_), None) => false,
        }
    }
}

/// The names of a cluster's models. Numbers follow the names' order, never the order in which nodes were read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Models(Vec<String>);

impl Models {
    /// Numbers these names; the same name twice is one model. `None` when there are more than [`MODELS_MAX`].
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Models> {
        let names: std::collections::BTreeSet<&str> = names.into_iter().collect();
        (names.len() <= MODELS_MAX).then(|| Models(names.into_iter().map(Into::into).collect()))
    }

    /// The number of a name.
    pub fn id(&self, name: &str) -> Option<ModelId> {
        let place = self.0.binary_search_by(|known| known.as_str().cmp(name)).ok()?;
        u8::try_from(place).ok().map(ModelId)
    }

    /// The name of a number this set gave out.
    pub fn name(&self, id: ModelId) -> Option<&str> {
        self.0.get(usize::from(id.0)).map(String::as_str)
    }

    /// The set of these names, any model when there is none. A name that no node has allows nothing by itself.
    pub fn set<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> ModelSet {
        let mut bits = 0;
        let mut empty = true;
        for name in names {
            empty = false;
            bits |= self.id(name).and_then(|id| 1_u64.checked_shl(u32::from(id.0))).unwrap_or(0);
        }
        if empty { ModelSet::Any } else { ModelSet::Only(bits) }
    }
}

/// How much of accelerators is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum GpuAsk {
    /// None.
    #[default]
    None,
    /// A part of one GPU, in thousandths from 1 to 999. It is never split over two.
    Fraction(u16),
    /// So many whole GPUs of one node, from 1.
    Whole(u8),
}

impl GpuAsk {
    /// The sum asked for, in thousandths of a GPU.
    pub fn milli(self) -> u64 {
        match self {
            GpuAsk::None => 0,
            GpuAsk::Fraction(milli) => u64::from(milli),
            GpuAsk::Whole(count) => u64::from(count) * u64::from(GPU_MILLI),
        }
    }
}

/// What one member of a job asks of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Demand {
    /// Thousandths of a CPU core.
    pub cpu_milli: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Accelerators.
    pub gpus: GpuAsk,
    /// The models that will do.
    pub models: ModelSet,
}

impl Demand {
    /// Whether the numbers make sense: a fraction of 1 to 999 thousandths, whole GPUs from 1.
    pub fn is_sound(&self) -> bool {
        match self.gpus {
            GpuAsk::None => true,
            GpuAsk::Fraction(milli) => (1..GPU_MILLI).contains(&milli),
            GpuAsk::Whole(count) => count > 0,
        }
    }
}
