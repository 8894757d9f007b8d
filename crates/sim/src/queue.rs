//! Replays of queueing: published traces and one's own jobs through `gregal_core::queue`.
//!
//! Time jumps from event to event. Where a policy may stop running jobs, it is also asked every `Options::tick_ms` while
//! somebody waits, because who may be stopped changes with time alone.

mod absence;
mod course;
mod latency;
mod plots;
mod report;
mod run;
mod scenario;
mod trace;
mod witness;

pub use course::{Course, Moment};
pub use latency::{Latency, Load, latency};
pub use plots::plots;
pub use report::{Fairness, Report};
pub use run::{Limits, Options, ReplayError, Replayed, replay};
pub use scenario::{Admission, Class, Scenario, ScenarioError};
pub use trace::{Format, Trace, TraceJob};

#[cfg(test)]
mod tests;
