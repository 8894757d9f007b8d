//! The agent: dials out, and makes what is so what is wanted, one bounded step after another.

pub(crate) mod datasets;
pub(crate) mod intent;
pub(crate) mod jobs;
pub(crate) mod meter;
pub(crate) mod replicas;
pub(crate) mod sync;
pub(crate) mod upload;

use std::{sync::Arc, time::Duration};

use crate::site::{Shared, Tuning};

/// How often the intent is looked at again without news: what failed lately is tried again.
const LOOK_AGAIN_MS: u64 = 1_000;

/// Applies every intent, and the same one again now and then, until the site stops.
pub(crate) async fn supervise(shared: Arc<Shared>) {
    let mut intents = shared.desk.subscribe();
    while !shared.stop.is_cancelled() {
        let standing = shared.desk.current();
        if let Some(intent) = &standing.intent {
            if !standing.is_uncounted {
                shared.ledger.granted(&intent.allowances).await;
            }
            jobs::apply(&shared, intent);
            replicas::apply(&shared, intent);
            datasets::apply(&shared, intent).await;
        }
        tokio::select! {
            () = shared.stop.cancelled() => {}
            changed = intents.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)) => {}
        }
    }
}

/// Removes what an earlier process of this site left in the engine and nobody carries on: replicas, and runs whose
/// attempt is not known any more.
pub(crate) async fn reap(shared: &Shared, carried_on: &[jobs::state::AttemptState]) {
    let left = match shared.options.engine.list().await {
        Ok(left) => left,
        Err(error) => return tracing::warn!(%error, "the engine cannot be asked what an earlier process left"),
    };
    for observation in left {
        let id = &observation.id;
        let known = carried_on.iter().any(|state| id.as_str().starts_with(&format!("{}.", state.wanted.job)));
        let ours = id.as_str().starts_with("ep_") || id.as_str().starts_with("job_");
        if ours
            && !known
            && let Err(error) = shared.options.engine.remove(id).await
        {
            tracing::warn!(%error, workload.id = %id, "what an earlier process left could not be removed");
        }
    }
}

/// Waits between tries: twice as long each time, up to a bound, and back to the beginning after a success.
#[derive(Debug)]
pub(crate) struct Backoff {
    first_ms: u64,
    now_ms: u64,
    ms_max: u64,
}

impl Backoff {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        let first_ms = tuning.retry_ms.max(1);
        Self { first_ms, now_ms: first_ms, ms_max: tuning.retry_ms_max.max(first_ms) }
    }

    pub(crate) fn reset(&mut self) {
        self.now_ms = self.first_ms;
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.now_ms)).await;
        self.now_ms = (self.now_ms * 2).min(self.ms_max);
    }
}
