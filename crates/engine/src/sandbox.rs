//! The inside of `local`: two small stages of our own executable between the engine and a tenant's program.
//!
//! ```text
//! engine ── pipe ──> stage 1 `enter`  outside, trusted: limits, deadlines, the record of the end
//!                       └─ pipe ──> stage 2 `init`  first process inside: file tree, privileges dropped, reaps
//!                                      └─ the workload
//! ```
//!
//! Each pipe is also a lifeline: when its other end closes, by whatever death, the stage ends everything below it. The
//! kernel ends what stage 2 leaves, for stage 2 is the first process of its process namespace.
//!
//! There is no `unsafe` here, so there is no fork without exec: each stage is a fresh start of the executable, and the
//! executable must call [`run_if_asked`] first thing in `main`, before any thread exists.

mod enter;
mod filter;
mod init;
mod process;
mod rules;
mod tree;
pub(crate) mod wire;

use std::process::ExitCode;

/// The first argument that makes our executable a sandbox stage instead of itself.
pub const VERB: &str = "sandbox";

/// Becomes a stage of a sandbox if the command line asks for it, and says with which status to end the process.
///
/// Call it first in `main`, before any thread exists and before the command line is looked at by anything else:
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = gregal_engine::sandbox::run_if_asked() {
///         return code;
///     }
///     // … the program itself
///     std::process::ExitCode::SUCCESS
/// }
/// ```
pub fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()?.to_str()? != VERB {
        return None;
    }
    match args.next()?.to_str()? {
        "enter" => Some(enter::enter()),
        "init" => Some(init::init()),
        _ => None,
    }
}
