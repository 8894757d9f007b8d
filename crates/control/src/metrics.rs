//! What is counted about this process, by names from one enum, in Prometheus' text format. No label names a tenant.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

macro_rules! metrics {
    ($($name:ident $text:literal $help:literal;)*) => {
        /// Everything that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Metric { $($name,)* }

        impl Metric {
            /// Every counter there is.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name on the wire, without the room's prefix.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            const fn help(self) -> &'static str {
                match self { $(Self::$name => $help),* }
            }
        }
    };
}

metrics! {
    RequestsDone "requests_done_total" "Requests answered as asked.";
    RequestsRefused "requests_refused_total" "Requests refused: the caller's doing.";
    RequestsFailed "requests_failed_total" "Requests that failed: our doing.";
    RequestsReplayed "requests_replayed_total" "Creates answered again by their idempotency key.";
    HandlerPanics "handler_panics_total" "Requests whose handler panicked.";
    Denials "denials_total" "Denials by policy, written down or not.";
    SyncsDone "site_syncs_total" "Syncs of sites.";
    UsageAccepted "usage_accepted_total" "Usage records counted.";
    UsageDuplicates "usage_duplicates_total" "Usage records that were counted before.";
    UsageRefused "usage_refused_total" "Usage records put into quarantine.";
    JobsBound "jobs_bound_total" "Jobs given to a site.";
    JobsPreempted "jobs_preempted_total" "Jobs told to make room.";
    JobsEnded "jobs_ended_total" "Jobs that ended.";
    TaskPasses "task_passes_total" "Passes of tasks.";
    TaskErrors "task_errors_total" "Passes of tasks that met an error.";
    TaskPanics "task_panics_total" "Passes of tasks that panicked.";
}

/// The counters of one control plane.
#[derive(Debug)]
pub(crate) struct Metrics(Vec<AtomicU64>);

impl Metrics {
    pub(crate) fn new() -> Self {
        Self(Metric::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts one.
    pub(crate) fn count(&self, metric: Metric) {
        self.add(metric, 1);
    }

    /// Counts some.
    pub(crate) fn add(&self, metric: Metric, by: u64) {
        if let Some(counter) = self.0.get(metric as usize) {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// All of them, in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (metric, counter) in Metric::ALL.iter().zip(&self.0) {
            let (name, help, value) = (metric.name(), metric.help(), counter.load(Ordering::Relaxed));
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP gregal_control_{name} {help}\n# TYPE gregal_control_{name} counter\ngregal_control_{name} {value}\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_name_that_ends_in_total_and_its_own_place() {
        let names: std::collections::BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        assert!(names.iter().all(|name| name.ends_with("_total")));
        let metrics = Metrics::new();
        for metric in Metric::ALL {
            metrics.add(*metric, *metric as u64 + 1);
        }
        let text = metrics.text();
        for metric in Metric::ALL {
            assert!(text.contains(&format!("\ngregal_control_{} {}\n", metric.name(), *metric as u64 + 1)));
        }
    }
}
