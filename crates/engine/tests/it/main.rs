//! The engines, through their public doors.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod contract;
mod gpu_grants;
mod gpu_inventory;
mod lifeline;
mod limits;
mod stand_in;
mod support;
mod walls;
