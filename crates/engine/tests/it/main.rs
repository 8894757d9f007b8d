//! The engines, through their public doors.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod contract;
mod lifeline;
mod limits;
mod support;
mod walls;
