//! Stories over the release executable: what a newcomer sees, what a crash may not take, what bad input is told.
//! `cargo xtask test --only tour` builds the executable and names it in `GREGAL_TEST_PROGRAM`.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on stops where it is")]

mod crash;
mod disk;
mod faults;
mod preempt;
mod program;
mod tour;
