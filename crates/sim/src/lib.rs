//! Replays loads through the very scheduler that the live control plane uses: capacity planning and benchmarks.
//! Never here: a scheduler of its own, wall time, or anything that starts a real job.

mod load;
pub mod openb;
pub mod queue;
mod replay;
pub mod speed;
pub mod topology;

pub use load::{LoadError, Request, read_csv};
pub use replay::{Outcome, Pool, replay};
