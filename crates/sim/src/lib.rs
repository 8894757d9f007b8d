//! Replays loads through core's scheduling code: capacity planning and benchmarks. `replay` goes through the function that is
//! live; `openb`, `queue` and `topology` through the modules that placement and queueing over many nodes are made of.
//! Never here: a scheduler of its own, wall time, or anything that starts a real job.

mod load;
pub mod openb;
pub mod queue;
mod replay;
pub mod speed;
pub mod topology;

pub use load::{LoadError, Request, read_csv};
pub use replay::{Outcome, Pool, replay};
