//! Worlds for tests: clocks, seeds, an engine with a stage on it, a wire that loses and doubles what it carries, and a whole
//! cloud in one process whose planes can be crashed one by one.
//! Never here: anything that ships, a rule of the product, or an assertion that belongs to one room's own tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod chance;
mod cloud;
mod plane;
pub mod replica;
mod stage;
mod wait;
mod wire;
mod world;

pub use chance::Chance;
pub use cloud::{Cloud, Tenant, quick_tuning, site_started, staged_site};
pub use plane::Plane;
pub use stage::{Play, Stage};
pub use wait::until;
pub use wire::{Faults, Wire, http};
pub use world::SteppedWorld;
