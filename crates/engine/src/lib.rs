//! What really runs things at a site: the engine contract, the kit that proves an adapter keeps it, the adapters
//! `local` and `sim`, and the machine's inventory.
//! Never here: who may run, where, for how much, and what for. An engine is told, obeys, and reports the truth.
//!
//! # The contract in one page
//!
//! An [`Engine`] takes a [`Workload`] under an id that names one *attempt* (`job_x.3`), never a job. That makes every
//! verb safe to repeat: a second [`Engine::start`] of a known id is the same act, so a caller that crashed between
//! "started" and "wrote it down" simply says it again. What ended stays ended: an exited observation never changes,
//! and survives a restart of the engine's process. What the engine cannot know is called [`Reason::Lost`], never
//! guessed; what it cannot *ask* is [`EngineError::Unavailable`], which is not the same (unreachable is not failed).
//!
//! Adapters for clusters fit the same door: `start` submits with the id as the job's name and looks first whether that
//! name exists; `observe` and `list` read the cluster; the id is the fence. [`contract::check`] proves any of them.

mod capability;
mod cgroup;
pub mod contract;
mod energy;
mod engine;
pub mod inventory;
pub mod local;
mod observation;
pub mod sandbox;
pub mod sim;
mod workload;

pub use capability::{Availability, Capabilities, Capacity, LimitsBy, Protection};
pub use energy::{CpuPower, Energy, EnergyBasis, EnergyPart};
pub use engine::{Engine, EngineError};
pub use observation::{Exit, Observation, Reason, State, Usage};
pub use workload::{Mount, Network, Resources, Trust, Workload, WorkloadId};
