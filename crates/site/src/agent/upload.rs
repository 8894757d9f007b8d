//! Hands usage over to control: the oldest records first, for ever, until control says that it has them.

use std::{sync::Arc, time::Duration};

use gregal_api::protocol::{USAGE_BATCH_MAX, UsageBatch, UsageReceipt};

use crate::{agent::Backoff, metrics::Metric, site::Shared};

/// How often a spool whose disk failed is tried again.
const RETRY_MS: u64 = 2_000;

/// Runs until the site stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    // Side by side, and neither is ever cut short: what is being settled would be lost with its future.
    tokio::join!(hand_over_all(&shared), settle_all(&shared));
    shared.ledger.settle_again().await;
    // A last try, so that a site that is stopped for long owes nothing it need not owe.
    let _ = tokio::time::timeout(Duration::from_secs(2), hand_over(&shared)).await;
}

async fn hand_over_all(shared: &Shared) {
    let mut backoff = Backoff::new(&shared.options.tuning);
    while !shared.stop_talking.is_cancelled() {
        match hand_over(shared).await {
            Ok(0) => {
                tokio::select! {
                    () = shared.stop_talking.cancelled() => {}
                    () = shared.spool.arrived() => {}
                    () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => {}
                }
            }
            Ok(_) => backoff.reset(),
            Err(why) => {
                tracing::debug!(%why, "usage could not be handed over yet");
                tokio::select! { () = shared.stop_talking.cancelled() => {}, () = backoff.wait() => {} }
            }
        }
    }
}

/// Makes durable what a failing disk refused, whether control can be reached or not: a site that cannot record usage
/// takes no work.
async fn settle_all(shared: &Shared) {
    while !shared.stop_talking.is_cancelled() {
        tokio::select! {
            () = shared.stop_talking.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => {}
        }
        shared.ledger.settle_again().await;
    }
}

/// Hands one batch over; answers how many records it had.
pub(crate) async fn hand_over(shared: &Shared) -> Result<usize, String> {
    let batch = shared.spool.batch(USAGE_BATCH_MAX).await.map_err(|error| error.to_string())?;
    if batch.records.is_empty() {
        return Ok(0);
    }
    let events = batch.records.iter().map(|record| record.event.clone()).collect();
    let call = shared.control.call("site_usage", &[]).body(&UsageBatch { events });
    let receipt: UsageReceipt = call.send().await.map_err(|error| error.to_string())?;
    let count = batch.records.len();
    let accounted = receipt.accepted as usize + receipt.duplicates as usize + receipt.refused.len();
    if accounted != count {
        return Err(format!("control accounts for {accounted} of {count} records"));
    }
    for refusal in &receipt.refused {
        tracing::error!(usage.id = refusal.id, reason = refusal.reason, "control put a usage record in quarantine");
    }
    shared.metrics.add(Metric::UsageHandedOver, count as u64);
    shared.metrics.add(Metric::UsageRefused, receipt.refused.len() as u64);
    shared.spool.hand_over(batch).await.map_err(|error| error.to_string())?;
    Ok(count)
}
