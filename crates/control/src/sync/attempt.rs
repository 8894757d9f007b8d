//! What a site says of attempts at jobs. Older attempts are fenced off; a lost one waits again, a few times.

use std::collections::BTreeSet;

use gregal_api::protocol::{AttemptPhase, AttemptRef, ObservedAttempt, ProducedModel, SyncRequest};
use gregal_core::{
    audit::AuditEntry,
    id::{JobId, SiteId},
    job::{Billed, Heldout, Job, JobEnd, JobMove, JobState, Progress},
    time::Time,
};
use gregal_store::Tx;

use crate::{Control, Cx, Result, context::Facts as _, sync::Observed};

/// Every reason a job may end for.
const REASONS: [&str; 7] = ["finished", "failed", "timed_out", "out_of_memory", "stopped", "lost", "never_started"];
/// The most characters of a hint that are kept.
const HINT_CHARS_MAX: usize = 500;

/// How an attempt ended, as the site says.
struct Ended<'a> {
    since: Option<Time>,
    at: Time,
    end: JobEnd,
    succeeded: bool,
    product: Option<&'a ProducedModel>,
    heldout: Option<Heldout>,
    billed: Billed,
}

impl Control {
    /// Takes in one attempt.
    pub(crate) async fn attempt_observed(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        seen: &ObservedAttempt,
        observed: &mut Observed,
    ) -> Result<()> {
        let reference = AttemptRef { job: seen.job, attempt: seen.attempt };
        let found = tx.job_get(seen.job).await?.filter(|job| job.site == Some(site));
        let Some(job) = found.filter(|job| job.accepts(seen.attempt)) else {
            // Fenced off, ended before, or never here: nothing of it counts, and the site may forget it once it is over.
            if matches!(seen.phase, AttemptPhase::Ended { .. }) {
                observed.attempts_ended.push(reference);
            }
            return Ok(());
        };
        let reports: Vec<Progress> = seen.progress.iter().filter(|point| is_sane(point)).copied().collect();
        tx.job_progress_append(job.id, &reports).await?;
        let mut after = Job { progress: reports.last().copied().or(job.progress), waits_for: None, ..job.clone() };
        match &seen.phase {
            AttemptPhase::Starting => {}
            AttemptPhase::Running { since } => ready(cx, &mut after, *since, observed)?,
            AttemptPhase::Ended { since, at, end, succeeded, cancelled: _, product, heldout, billed } => {
                // Whether it was cancelled is for us to know: we asked.
                let ended = Ended {
                    since: *since,
                    at: (*at).min(cx.now),
                    end: kept(end),
                    succeeded: *succeeded,
                    product: product.as_ref(),
                    heldout: *heldout,
                    billed: *billed,
                };
                let after = self.attempt_over(cx, tx, after, ended, observed).await?;
                observed.attempts_ended.push(reference);
                return self.attempt_written(tx, &job, after).await;
            }
        }
        if after != job {
            self.attempt_written(tx, &job, after).await?;
        }
        Ok(())
    }

    /// Writes a job one version on, however many moves it made, and closes its hold if it has ended.
    async fn attempt_written(&self, tx: &Tx, before: &Job, after: Job) -> Result<()> {
        let after = Job { version: before.version + 1, ..after };
        if after.state.is_final() {
            return self.job_end_write(tx, &after).await;
        }
        tx.job_update(&after).await?;
        Ok(())
    }

    /// The attempt is over: the job ends, or waits again if the attempt was lost.
    async fn attempt_over(
        &self,
        cx: &Cx,
        tx: &Tx,
        mut job: Job,
        mut ended: Ended<'_>,
        observed: &mut Observed,
    ) -> Result<Job> {
        if let Some(since) = ended.since {
            ready(cx, &mut job, since, observed)?;
        }
        observed.moved = true;
        if job.state == JobState::Stopping && waits_after_stop(&ended) {
            return requeued(cx, &job, &ended, observed, stopped_words(&job));
        }
        let was_asked = job.state == JobState::Cancelling;
        let is_lost = matches!(ended.end.reason.as_str(), "lost" | "never_started");
        // What was never ready did not succeed, whatever is said of it.
        let succeeded = ended.succeeded && job.state != JobState::Starting && job.started_at.is_some();
        if is_lost && !succeeded && !was_asked && job.may_retry() {
            let why = format!("attempt {} was lost ({}); it waits to start again", job.attempt, ended.end.reason);
            return requeued(cx, &job, &ended, observed, why);
        }
        if job.reservation.is_some() && !was_asked && ended.end.reason == "stopped" && ended.end.hint.is_none() {
            ended.end.hint = Some("its reservation is over; what it saved is at its site".into());
        }
        let state = match (succeeded, was_asked) {
            (true, _) => JobState::Succeeded,
            (false, true) => JobState::Cancelled,
            (false, false) => JobState::Failed,
        };
        let reason = ended.end.reason.clone();
        let mut after = job.apply(JobMove::End { end: ended.end, state, at: ended.at })?;
        after.heldout = ended.heldout;
        let mut entry = entry(cx, &after, "job:end").fact("reason", reason);
        if let (Some(product), true) = (ended.product, succeeded)
            && let Some(site) = after.site
            && let Some(model) = self.model_register(tx, &after, site, product).await?
        {
            after.model = Some(model.id);
            entry = entry.fact("model", model.id.to_string()).fact("model_digest", model.digest);
        }
        observed.entries.push(entry);
        Ok(after)
    }

    /// Ends jobs that were cancelled, and queues those that make room again, where their site does not know them. Only asked
    /// of a site that acts by the newest intent: it lists every attempt that is not over, so one that is absent runs nowhere
    /// and never will.
    pub(crate) async fn attempts_absent(
        &self,
        cx: &Cx,
        tx: &Tx,
        site: SiteId,
        asked: &SyncRequest,
        observed: &mut Observed,
    ) -> Result<()> {
        let listed: BTreeSet<(JobId, u32)> = asked.attempts.iter().map(|seen| (seen.job, seen.attempt)).collect();
        for job in tx.jobs_at_site(site, &[JobState::Stopping, JobState::Cancelling]).await? {
            if listed.contains(&(job.id, job.attempt)) {
                continue;
            }
            observed.moved = true;
            if job.state == JobState::Stopping {
                let why = stopped_words(&job);
                let after = job.apply(JobMove::Requeue { why: why.clone(), at: cx.now })?;
                tx.job_update(&after).await?;
                observed.entries.push(entry(cx, &after, "job:requeue").fact("why", why).fact("stops", after.stops));
                continue;
            }
            let end = JobEnd { code: None, reason: "stopped".into(), hint: None };
            let after = self.job_ended(tx, &job, end, JobState::Cancelled).await?;
            observed.entries.push(entry(cx, &after, "job:end").fact("reason", "stopped"));
        }
        Ok(())
    }
}

/// The job as it waits again after an attempt, with all its attempts were billed.
fn requeued(cx: &Cx, job: &Job, ended: &Ended<'_>, observed: &mut Observed, why: String) -> Result<Job> {
    let mut after = job.apply(JobMove::Requeue { why: why.clone(), at: cx.now })?;
    after.billed = together(&job.billed, &ended.billed);
    let entry = entry(cx, &after, "job:requeue").fact("why", why).fact("billed_ms", after.billed.ms);
    observed.entries.push(entry.fact("stops", after.stops));
    Ok(after)
}

/// Whether the end of an attempt that was told to make room is the one it was told to make, or a loss on the way there. Any
/// other end is the job's own: it finished, failed or used up its time meanwhile.
fn waits_after_stop(ended: &Ended<'_>) -> bool {
    !ended.succeeded && matches!(ended.end.reason.as_str(), "stopped" | "lost" | "never_started")
}

/// Why a job waits that was stopped for others.
fn stopped_words(job: &Job) -> String {
    let what_for = job.stopped_for.as_deref().unwrap_or("others");
    format!("it was stopped to make room ({what_for}); it waits to go on")
}

/// What all attempts so far were billed. A site counts earlier attempts in; one that forgot them does not make them undone.
fn together(before: &Billed, said: &Billed) -> Billed {
    Billed {
        ms: before.ms.max(said.ms),
        until: before.until.max(said.until),
        energy_mj: before.energy_mj.max(said.energy_mj),
    }
}

/// The site says it is ready: from here on it is billed.
fn ready(cx: &Cx, job: &mut Job, since: Time, observed: &mut Observed) -> Result<()> {
    if job.state == JobState::Stopping {
        // It was ready before it heard that it should make room: that is a fact, and no move any more.
        job.started_at = job.started_at.or(Some(since.min(cx.now)));
    }
    if job.state != JobState::Starting {
        return Ok(());
    }
    *job = job.apply(JobMove::Ready { at: since.min(cx.now) })?;
    observed.entries.push(entry(cx, job, "job:ready"));
    observed.moved = true;
    Ok(())
}

fn entry(cx: &Cx, job: &Job, action: &str) -> AuditEntry {
    cx.done(Some(job.organisation), action, job.id).fact("attempt", job.attempt).fact("state", job.state.as_str())
}

/// An end as it is kept: a reason we know, a hint of bounded length.
fn kept(end: &JobEnd) -> JobEnd {
    let known = REASONS.contains(&end.reason.as_str());
    let clean = |hint: &String| hint.chars().filter(|c| !c.is_control()).take(HINT_CHARS_MAX).collect();
    JobEnd {
        code: end.code,
        reason: if known { end.reason.clone() } else { "failed".into() },
        hint: end.hint.as_ref().map(clean),
    }
}

/// Whether a report can be kept: a loss that is no number cannot.
fn is_sane(point: &Progress) -> bool {
    let counts = [point.step, point.steps, point.tokens, point.elapsed_ms, point.energy_mj];
    point.loss.is_finite() && point.tokens_per_s.is_finite() && counts.iter().all(|count| i64::try_from(*count).is_ok())
}
