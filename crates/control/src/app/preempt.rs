//! Stopping jobs for others: told to save their work, proved by their site, and queued again with what they left.

use gregal_api::problem::{Code, Problem};
use gregal_core::{
    access::Action,
    audit::AuditEntry,
    id::JobId,
    job::{Job, JobMove, JobState},
};
use gregal_policy::Resource;
use gregal_store::Tx;

use crate::{Control, Cx, Error, Result, context::Facts as _, metrics::Metric, names, wakes::Wake};

/// The most characters of a reason.
const WHY_CHARS_MAX: usize = 200;

impl Control {
    /// Tells a job to save its work and make room, on an operator's word. What holds no room, or is giving it back already,
    /// is left as it is; what may not be stopped is refused.
    pub(crate) async fn job_preempt(&self, cx: &Cx, id: JobId, why: &str) -> Result<Job> {
        let policies = self.authorize(cx, Action::JobPreempt, &Resource::cloud()).await?;
        names::words("why", why, WHY_CHARS_MAX)?;
        let tx = self.begin(cx).await?;
        let before = tx.job_get(id).await?.ok_or_else(|| Error::missing("job", id))?;
        if !matches!(before.state, JobState::Starting | JobState::Running) {
            return Ok(before);
        }
        if !before.preemptible {
            let detail = "this job cannot save its work, and its owner did not agree to have it stopped for others";
            let hint = format!("it ends by itself after {} s at the latest", before.seconds_max);
            return Err(Problem::new(Code::Conflict, detail).hint(hint).into());
        }
        let (after, entry) = self.job_told_to_stop(cx, &tx, &before, why.to_owned()).await?;
        self.finish(cx, tx, &[entry.by(&policies)], Wake::Schedule).await?;
        Ok(after)
    }

    /// Writes down that a job is told to save its work and make room, in the caller's transaction. `why` is read by its
    /// owner: it never names another tenant. Answers the job as written, and the audit entry of the move.
    pub(crate) async fn job_told_to_stop(&self, cx: &Cx, tx: &Tx, job: &Job, why: String) -> Result<(Job, AuditEntry)> {
        let entry = cx.done(Some(job.organisation), Action::JobPreempt.as_str(), job.id).fact("why", why.as_str());
        let after = Job { told_at: Some(cx.now), ..job.apply(JobMove::Preempt { why })? };
        tx.job_update(&after).await?;
        self.metrics().count(Metric::JobsPreempted);
        Ok((after.clone(), entry.fact("attempt", after.attempt).fact("state", after.state.as_str())))
    }
}
