//! Which node, and which of its GPUs, a demand goes to. Pure: nodes and demands in, placements out, in whole numbers.
//! Never here: whose turn it is, or which site may serve at all.

mod chance;
mod cluster;
mod content;
mod demand;
mod experience;
mod gang;
mod placer;
mod policy;
mod ranking;
mod workload;

pub use chance::Chance;
pub use cluster::{Cluster, Identity, NodeSpec, Place, PlaceError, Placement};
pub use content::{Content, GPUS_PER_NODE_MAX, GpusFree};
pub use demand::{Demand, GPU_MILLI, GpuAsk, MODELS_MAX, ModelId, ModelSet, Models};
pub use experience::Experience;
pub use gang::{Arrangement, GangShort, Level, MEMBERS_MAX, Wish, place_gang};
pub(crate) use gang::{Slot as Seat, arranged};
pub use placer::Placer;
pub use policy::Policy;
pub use workload::Workload;

/// An amount as a signed number. Amounts are bounded far below where this would matter.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
