//! Replays loads through core's scheduling code: capacity planning and benchmarks. `replay` goes through the function that is
//! live; `openb`, `queue` and `topology` through the modules that placement and queueing over many nodes are made of.
//! Never here: a scheduler of its own, wall time, or anything that starts a real job.

mod absence;
mod jobs;
mod load;
mod nodes;
pub mod openb;
pub mod plot;
pub mod queue;
mod replay;
pub mod speed;
mod spread;
mod table;
pub mod topology;
mod watch;

pub use absence::{Absence, Why};
pub use jobs::{JobsError, OwnJob, read_jobs};
pub use load::{Request, load_of};
pub use nodes::{NodeKind, NodesError, read_nodes};
pub use replay::{Outcome, Pool, replay};
pub use spread::Spread;
pub use table::TableError;
pub use watch::Watch;
