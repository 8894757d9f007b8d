//! Replays of queueing: published traces and one's own jobs through `gregal_core::queue`.
//!
//! Time jumps from event to event. Where a policy may stop running jobs, it is also asked every `Options::tick_ms` while
//! somebody waits, because who may be stopped changes with time alone.

mod latency;
mod report;
mod run;
mod scenario;
mod trace;
mod witness;

pub use latency::{Latency, Load, latency};
pub use report::{Fairness, Report, Spread};
pub use run::{Limits, Options, ReplayError, replay};
pub use scenario::{Admission, Class, Scenario, ScenarioError};
pub use trace::{CSV_COLUMNS, Format, Trace, TraceError, TraceJob};

#[cfg(test)]
mod tests;
