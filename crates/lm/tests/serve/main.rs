//! The server's doors, knocked at over a real socket with a tiny random model.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod answers;
mod client;
mod files;
mod limits;
mod numbers;
mod tiny;
