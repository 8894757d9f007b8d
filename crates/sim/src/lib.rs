//! Replays loads through the very scheduler that the live control plane uses: capacity planning and benchmarks.
//! Never here: a scheduler of its own, wall time, or anything that starts a real job.

mod load;
mod replay;

pub use load::{LoadError, Request, read_csv};
pub use replay::{Outcome, Pool, replay};
