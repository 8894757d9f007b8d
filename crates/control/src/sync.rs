//! What sites say and what they are told. Sites dial out; nothing here ever calls one.
//!
//! A sync is two halves: what the site observed is written down in one transaction ([`Control::site_observed`]), then the
//! site is told what is wanted, at once if that changed, else when it does or the wait is over.

mod attempt;
mod intent;
mod replica;
mod usage;

use std::time::Duration;

use gregal_api::protocol::{AttemptRef, PROGRESS_POINTS_MAX, SyncAnswer, SyncRequest};
use gregal_core::{
    access::Action,
    audit::AuditEntry,
    id::{DatasetId, SiteId},
    site::Site,
    time::Time,
};
use gregal_policy::Resource;
use gregal_store::Tx;
use tokio::time::Instant;

use crate::{
    Control, Cx, Error, Result,
    context::{Actor, Facts as _},
    metrics::Metric,
    wakes::Wake,
};

/// How long a site counts as alive after it dialled in, in seconds.
const LEASE_SECONDS: i64 = 15;
/// The longest a sync waits for news, in milliseconds.
const WAIT_MS_MAX: u32 = 10_000;
/// The most things of one kind that one sync may report.
const OBSERVED_MAX: usize = 10_000;

/// What became of what a site reported.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) entries: Vec<AuditEntry>,
    pub(crate) attempts_ended: Vec<AttemptRef>,
    pub(crate) datasets_stored: Vec<DatasetId>,
    /// Whether something changed that the scheduler or a site's intent depends on.
    pub(crate) moved: bool,
}

impl Control {
    /// One sync of a site.
    pub(crate) async fn site_sync(&self, cx: &Cx, asked: SyncRequest) -> Result<SyncAnswer> {
        let site = self.site_itself(cx).await?;
        checked(&asked)?;
        let deadline = Instant::now() + Duration::from_millis(u64::from(asked.wait_ms.min(WAIT_MS_MAX)));
        // Subscribed before anything is read: what changes from here on is not missed.
        let mut news = self.wakes().subscribe();
        let (observed, lease_until) = self.site_observed(cx, site, &asked).await?;
        self.metrics().count(Metric::SyncsDone);
        let mut answer = SyncAnswer {
            site,
            control_key: self.signer().public_hex(),
            intent: None,
            lease_until,
            attempts_ended: observed.attempts_ended,
            datasets_stored: observed.datasets_stored,
        };
        let has_news = !answer.attempts_ended.is_empty() || !answer.datasets_stored.is_empty();
        loop {
            news.borrow_and_update();
            answer.intent = self.intent_newer(site, asked.intent_revision, asked.intent_again).await?;
            let is_over = Instant::now() >= deadline || self.wakes().is_draining();
            if answer.intent.is_some() || has_news || is_over {
                return Ok(answer);
            }
            // Either way the loop looks again; a sender that is gone would mean that this control plane is.
            let _ = tokio::time::timeout_at(deadline, news.changed()).await;
        }
    }

    /// The site that asks, if it may.
    pub(crate) async fn site_itself(&self, cx: &Cx) -> Result<SiteId> {
        let Actor::Site(site) = &cx.actor else {
            return Err(Error::Broken("a site's route was reached by somebody else".into()));
        };
        self.authorize(cx, Action::SiteSync, &Resource::site(site.id)).await?;
        Ok(site.id)
    }

    /// Writes down what a site observed, all of it in one transaction, and renews its lease.
    async fn site_observed(&self, cx: &Cx, id: SiteId, asked: &SyncRequest) -> Result<(Observed, Time)> {
        let tx = self.store().begin_upkeep().await?;
        let before = self.site_of(&tx, id).await?;
        let knows_newest = self.intent_is_known(&tx, id, asked.intent_revision).await?;
        let mut observed = Observed::default();
        let lease_until = cx.now.plus_seconds(LEASE_SECONDS);
        self.site_renewed(cx, &tx, &before, asked, &mut observed).await?;
        for seen in &asked.datasets {
            self.dataset_observed(cx, &tx, id, seen, &mut observed).await?;
        }
        for gone in &asked.datasets_gone {
            self.dataset_gone(cx, &tx, id, *gone, &mut observed).await?;
        }
        for seen in &asked.attempts {
            self.attempt_observed(cx, &tx, id, seen, &mut observed).await?;
        }
        for seen in &asked.replicas {
            self.replica_observed(cx, &tx, id, seen, &mut observed).await?;
        }
        if knows_newest {
            self.attempts_absent(cx, &tx, id, asked, &mut observed).await?;
            self.replicas_absent(cx, &tx, id, asked, &mut observed).await?;
        }
        let kept = self.allowances_keep(cx, &tx, id, &asked.allowances, knows_newest).await?;
        observed.moved |= !kept.is_empty();
        observed.entries.extend(kept);
        let wake = if observed.moved { Wake::Schedule } else { Wake::Nobody };
        if observed.entries.is_empty() {
            // A heartbeat or a point of progress decides nothing.
            tx.commit_observation().await?;
            self.wakes().wake(wake);
        } else {
            self.finish(cx, tx, &observed.entries, wake).await?;
        }
        Ok((observed, lease_until))
    }

    /// Renews the lease and takes in what the site says of itself.
    async fn site_renewed(
        &self,
        cx: &Cx,
        tx: &Tx,
        before: &Site,
        asked: &SyncRequest,
        observed: &mut Observed,
    ) -> Result<()> {
        let after = Site {
            url: Some(asked.url.trim_end_matches('/').to_owned()),
            capacity: Some(asked.capacity.clone()),
            lease_until: Some(cx.now.plus_seconds(LEASE_SECONDS)),
            incarnation: Some(asked.incarnation.clone()),
            version: before.version + 1,
            ..before.clone()
        };
        tx.site_update(&after).await?;
        let is_other =
            after.url != before.url || after.capacity != before.capacity || after.incarnation != before.incarnation;
        observed.moved |= is_other || !before.alive_at(cx.now);
        if is_other {
            let entry = cx
                .done(None, Action::SiteSync.as_str(), before.id)
                .fact("incarnation", asked.incarnation.as_str())
                .fact("url", asked.url.as_str())
                .fact("code_version", asked.code_version.as_str())
                .fact("cpus_milli", asked.capacity.cpus_milli)
                .fact("accelerators", asked.capacity.accelerators.len())
                .fact("protections_missing", asked.capacity.protections_missing.clone());
            observed.entries.push(entry);
        }
        Ok(())
    }
}

/// The most accelerators a site may say it has: the scheduler numbers their models.
const ACCELERATORS_MAX: usize = 1024;

/// What a site says must have bounds: it is authenticated, not infallible.
fn checked(asked: &SyncRequest) -> Result<()> {
    let named = |field: &str, text: &str, max: usize| {
        if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
            return Err(Error::invalid(format!("`{field}` is not 1 to {max} bytes without control characters")));
        }
        Ok(())
    };
    named("incarnation", &asked.incarnation, 100)?;
    named("code_version", &asked.code_version, 100)?;
    named("url", &asked.url, 300)?;
    if !asked.url.starts_with("http://") && !asked.url.starts_with("https://") {
        return Err(Error::invalid("`url` does not begin with `http://` or `https://`"));
    }
    let capacity = &asked.capacity;
    if capacity.accelerators.len() > ACCELERATORS_MAX || capacity.protections_missing.len() > ACCELERATORS_MAX {
        return Err(Error::invalid(format!("more than {ACCELERATORS_MAX} accelerators or missing protections")));
    }
    named("capacity.engine", &capacity.engine, 100)?;
    for accelerator in &capacity.accelerators {
        named("capacity.accelerators.model", &accelerator.model, 100)?;
        named("capacity.accelerators.uuid", &accelerator.uuid, 100)?;
    }
    for missing in &capacity.protections_missing {
        named("capacity.protections_missing", missing, 1000)?;
    }
    let datasets = [asked.datasets.len(), asked.datasets_gone.len()];
    let counts = [asked.attempts.len(), asked.replicas.len(), asked.allowances.len()].into_iter().chain(datasets);
    if counts.into_iter().any(|count| count > OBSERVED_MAX) {
        return Err(Error::invalid(format!("more than {OBSERVED_MAX} things of one kind in one sync")));
    }
    if asked.attempts.iter().any(|attempt| attempt.progress.len() > PROGRESS_POINTS_MAX) {
        return Err(Error::invalid(format!("more than {PROGRESS_POINTS_MAX} points of progress of one attempt")));
    }
    Ok(())
}
