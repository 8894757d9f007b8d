//! Queueing: which waiting job starts now, which running one makes room, and what a waiting one is promised.
//!
//! Pure and replayable: a state that events move (`submit`, `finish`, `stopped`, `cancel`) and a `pass` that decides, all in
//! whole milliseconds and whole accelerators. The same events give the same decisions everywhere, and a queue built from
//! a snapshot decides like the one the snapshot was taken of. Ties are settled by the order of submission, never by names.
//!
//! What holds, whatever comes in:
//! - no accelerator is given out twice, and no share of the quota tree uses more than its limits allow;
//! - a promised start is not delayed by others: who passes ends before it, or leaves the room it needs. It counts on the
//!   limits of what runs, so it holds as long as runs end at their limits;
//! - who waits longer than `overdue_after_ms` is looked at before all who do not, and the first of them is promised a start;
//! - a run is left alone for its protected time, which doubles with every stop.
//!
//! A pass looks at the lanes of like jobs (same share, kind, size, priority and level) rather than at every job: in a lane
//! only the head can be next.

mod field;
mod ground;
mod history;
mod job;
mod lane;
mod movers;
mod pass;
mod policy;
mod pool;
mod preempt;
mod promise;
mod quota;
mod reason;
mod sight;
mod space;
mod state;

pub(crate) use field::{Free, Kept};
pub use ground::{Block, Gpus, Ground, GroundError, Mixed, Node, Shape, Sight, Sku};
pub use history::{Class, Usage};
pub use job::{Ask, End, Record, Stage};
pub use policy::{Order, Policy, Preemption};
pub use pool::Slot;
pub(crate) use promise::Guard;
pub use quota::{Quota, Share, ShareError, ShareId};
pub use reason::Reason;
pub use state::{Config, ConfigError, Decision, Queue, Refusal, Snapshot};

#[cfg(test)]
mod tests;
