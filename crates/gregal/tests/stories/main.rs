//! Stories over the release executable: what a newcomer sees, what a crash may not take, what bad input is told.
//! `cargo xtask test --only tour` builds the executable and names it in `GREGAL_TEST_PROGRAM`.

mod crash;
mod faults;
mod program;
mod tour;
