//! The site as tenants and control see it: real HTTP on loopback, a control plane and an engine made for tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::needless_pass_by_value, reason = "helpers take what reads best at the call")]

mod content;
mod control;
mod external;
mod gateway;
mod jobs;
mod objects;
mod policy;
mod replica_time;
mod restart;
mod spool;
mod world;
