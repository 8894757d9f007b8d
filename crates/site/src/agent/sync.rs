//! Dials control: says what is seen, learns what is wanted. Everything is said whole each time, so that nothing that gets
//! lost on the way is lost.

use std::{sync::Arc, time::Duration};

use gregal_api::protocol::{SyncAnswer, SyncRequest};

use crate::{agent::Backoff, metrics::Metric, site::Shared};

/// Runs until the site stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(&shared.options.tuning);
    let mut told_away = false;
    // The first talk does not wait for news: it brings them.
    let mut wait_ms = 0;
    while !shared.stop_talking.is_cancelled() {
        let talk = tokio::select! {
            () = shared.stop_talking.cancelled() => break,
            // Something happened here that control should hear at once. Everything is said again with the next talk.
            () = shared.news.notified(), if wait_ms > 0 => { wait_ms = 0; continue }
            talk = talk(&shared, wait_ms) => talk,
        };
        match talk {
            Ok(()) => {
                if told_away {
                    tracing::info!("control answers again");
                }
                told_away = false;
                backoff.reset();
                let tuning = &shared.options.tuning;
                wait_ms = if shared.jobs.is_busy() { tuning.sync_busy_ms } else { tuning.sync_idle_ms };
            }
            Err(why) => {
                shared.metrics.add(Metric::SyncsFailed, 1);
                if !told_away {
                    tracing::warn!(why, "control cannot be reached; the site goes on by what it knows");
                }
                told_away = true;
                tokio::select! { () = shared.stop_talking.cancelled() => {}, () = backoff.wait() => {} }
            }
        }
    }
    // What ended with the site is said at once, if control is there.
    let _ = tokio::time::timeout(Duration::from_secs(2), talk(&shared, 0)).await;
}

/// One exchange.
async fn talk(shared: &Arc<Shared>, wait_ms: u32) -> Result<(), String> {
    let standing = shared.desk.current();
    let request = SyncRequest {
        incarnation: shared.incarnation.clone(),
        url: shared.options.url.clone(),
        code_version: shared.options.code_version.clone(),
        capacity: shared.options.capacity.clone(),
        intent_revision: standing.revision(),
        intent_again: standing.is_uncounted,
        wait_ms,
        attempts: shared.jobs.observed(),
        replicas: shared.replicas.observed(),
        datasets: shared.datasets.observed(),
        datasets_gone: super::datasets::gone(shared, &standing),
        allowances: shared.ledger.observed(),
        keys_used: shared.key_uses.waiting(),
    };
    let answer: SyncAnswer =
        shared.control.call("site_sync", &[]).body(&request).send().await.map_err(|error| words(&error))?;
    // Belief first: nothing an unbelieved answer says may have an effect.
    if let Err(why) = shared.desk.take(&answer) {
        tracing::error!(%why, "control's answer is not believed; the site goes on by what it had");
        return Err(why.to_string());
    }
    shared.key_uses.heard(&request.keys_used);
    shared.jobs.told(&request.attempts);
    shared.datasets.acknowledge(&answer.datasets_stored);
    super::jobs::acknowledged(shared, &answer.attempts_ended).await;
    shared.metrics.add(Metric::Syncs, 1);
    shared.synced();
    Ok(())
}

fn words(error: &gregal_api::client::Error) -> String {
    match error.problem() {
        Some(problem) => format!("{}: {}", problem.code.as_str(), problem.detail),
        None => error.to_string(),
    }
}
