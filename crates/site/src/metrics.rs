//! What the site counts about itself. Names from one list, no labels: nothing here can grow, and nothing names a tenant.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

macro_rules! metrics {
    ($($name:ident $text:literal $help:literal;)*) => {
        /// Everything that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Metric { $($name,)* }

        const NAMES: &[(&str, &str)] = &[$(($text, $help),)*];
    };
}

metrics! {
    RequestsAnswered "gregal_site_requests_answered_total" "Inference requests answered in full.";
    RequestsRefused "gregal_site_requests_refused_total" "Inference requests refused before the engine was asked.";
    RequestsFailed "gregal_site_requests_failed_total" "Inference requests that the engine failed.";
    RequestsHungUp "gregal_site_requests_hung_up_total" "Inference requests whose client went before the end.";
    TokensIn "gregal_site_tokens_in_total" "Tokens read by served models.";
    TokensOut "gregal_site_tokens_out_total" "Tokens written by served models.";
    Syncs "gregal_site_syncs_total" "Syncs with the control plane that succeeded.";
    SyncsFailed "gregal_site_syncs_failed_total" "Syncs with the control plane that failed.";
    UsageHandedOver "gregal_site_usage_handed_over_total" "Usage records handed over to the control plane.";
    UsageRefused "gregal_site_usage_refused_total" "Usage records the control plane put in quarantine.";
    RunsStarted "gregal_site_runs_started_total" "Runs of jobs started.";
    ReplicasStarted "gregal_site_replicas_started_total" "Replicas of served models started.";
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics([AtomicU64; NAMES.len()]);

impl Metrics {
    pub(crate) fn add(&self, metric: Metric, count: u64) {
        self.0[metric as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// The counters, and some gauges, in Prometheus' text format.
    pub(crate) fn text(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut text = String::new();
        for ((name, help), value) in NAMES.iter().zip(&self.0) {
            let value = value.load(Ordering::Relaxed);
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n");
        }
        for (name, help, value) in gauges {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        }
        text
    }
}
