//! Ends what has run out: holds with a time limit, and answers kept for repetitions. Says of running work whose site does
//! not answer that it is out of sight; nothing else happens to it.

use gregal_core::{
    hold::HoldState,
    job::{Job, JobState},
};

use crate::{Control, Result, context::Facts as _, tasks::schedule::unreachable, wakes::Wake};

/// How long an answer is kept for repetitions, in seconds: a day.
const ANSWERS_SECONDS: i64 = 86_400;
/// Most holds ended in one pass.
const HOLDS_MAX: usize = 100;

impl Control {
    /// One pass over everything that has a time limit.
    pub async fn expire_pass(&self) -> Result<()> {
        self.holds_expire().await?;
        self.sights_mark().await?;
        self.accesses_close().await?;
        self.invitations_expire().await?;
        self.key_uses_write().await?;
        let tx = self.store().begin_upkeep().await?;
        if tx.idempotency_forget(self.now().plus_seconds(-ANSWERS_SECONDS)).await? > 0 {
            tx.commit_observation().await?;
        }
        Ok(())
    }

    async fn holds_expire(&self) -> Result<()> {
        let now = self.now();
        let due: Vec<_> = self.store().holds_open().await?.into_iter().filter(|hold| hold.is_due(now)).collect();
        if due.is_empty() {
            return Ok(());
        }
        let cx = self.system("expire");
        let tx = self.store().begin_upkeep().await?;
        let mut entries = Vec::new();
        for hold in due.into_iter().take(HOLDS_MAX) {
            // Renewed or closed since it was looked at: leave it.
            let found = tx.hold_get(hold.id).await?.filter(|hold| hold.state == HoldState::Open && hold.is_due(cx.now));
            let Some(hold) = found else { continue };
            let closed = self.hold_close(&tx, &hold, true).await?;
            let entry = cx.done(Some(hold.organisation), "hold:expire", hold.id);
            entries.push(entry.fact("subject", hold.subject).fact("charged_nano", closed.charged.get()));
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.finish(&cx, tx, &entries, Wake::Sites).await
    }

    /// Marks running work whose site's lease has run out, and takes the mark off once the site is back.
    async fn sights_mark(&self) -> Result<()> {
        let now = self.now();
        let mut marks = Vec::new();
        for site in self.store().sites_all().await? {
            let mark = if site.alive_at(now) { None } else { Some(unreachable(&site, now)) };
            let jobs = self.store().jobs_at_site(site.id, &JobState::BOUND).await?;
            marks.extend(jobs.into_iter().filter(|job| job.waits_for != mark).map(|job| (job.id, mark.clone())));
        }
        if marks.is_empty() {
            return Ok(());
        }
        let tx = self.store().begin_upkeep().await?;
        for (id, mark) in marks {
            let Some(job) = tx.job_get(id).await?.filter(|job| job.state.is_bound()) else { continue };
            tx.job_update(&Job { waits_for: mark, version: job.version + 1, ..job }).await?;
        }
        // What is seen of a site is an observation; the job's state stays what it was.
        Ok(tx.commit_observation().await?)
    }
}
