//! Gives waiting jobs to sites: core decides from a snapshot, this writes down what it decided.

mod board;
mod facts;
mod used;

use std::collections::BTreeMap;

use gregal_core::{
    audit::AuditEntry,
    id::JobId,
    job::{Job, JobEnd, JobMove, JobState},
    schedule::{
        self, Decision,
        record::{CHAIN_MAX, Record},
    },
    time::Time,
};
use gregal_store::{PassPlace, Tx};
use tokio::sync::{Mutex, MutexGuard};

use self::board::Board;
pub(crate) use self::facts::{free_at, item, room, unreachable};
use crate::{Control, Cx, Error, Result, context::Facts as _, metrics::Metric, wakes::Wake};

/// What is kept from one pass to the next.
#[derive(Debug, Default)]
pub(crate) struct Passes(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    board: Board,
    newest: Option<Newest>,
    look: Look,
}

/// Who waited when it was looked at last, in the order they were looked at, and what was said to those who asked since.
#[derive(Debug, Default)]
struct Look {
    at: Time,
    order: Vec<JobId>,
    words: BTreeMap<JobId, String>,
}

/// Where a job that waits stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InQueue {
    /// From 1.
    pub(crate) position: u32,
    /// How many wait.
    pub(crate) queued: u32,
    /// Why it waits, as it is now: a row keeps the words of when that began. None: nobody asked when it was looked at.
    pub(crate) waits_for: Option<String>,
}

/// How old an answer about a place in the queue may be, in milliseconds. To look anew takes a turn among the passes, and who
/// asks often must not hold them up.
const LOOK_MS_MAX: i64 = 1_000;

impl Look {
    /// What these decisions say of who waits. `is_done`: they are carried out, so that who starts waits no more.
    fn of(at: Time, decisions: &[Decision], is_done: bool) -> Self {
        let (mut order, mut words) = (Vec::with_capacity(decisions.len()), BTreeMap::new());
        for decision in decisions {
            match decision {
                Decision::Wait { job, reason, .. } => {
                    order.push(*job);
                    if !reason.is_empty() {
                        words.insert(*job, reason.clone());
                    }
                }
                Decision::Start { job, .. } if !is_done => {
                    order.push(*job);
                    words.insert(*job, "its turn, which has come: the next pass starts it".into());
                }
                Decision::Start { .. } | Decision::Never { .. } | Decision::Stop { .. } => {}
            }
        }
        Self { at, order, words }
    }

    fn says(&self, job: JobId) -> Option<InQueue> {
        let place = self.order.iter().position(|one| *one == job)?;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let waits_for = self.words.get(&job).cloned();
        Some(InQueue { position: count(place + 1), queued: count(self.order.len()), waits_for })
    }
}

/// The newest pass that was recorded: the next record keeps only what changed since.
#[derive(Debug)]
struct Newest {
    place: PassPlace,
    /// Records in its chain.
    length: usize,
    inputs_digest: String,
}

impl Passes {
    /// Passes follow one another: each mends what the one before left.
    async fn turn(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().await
    }
}

impl Kept {
    /// Takes what the next record may build on: nothing after a restart, after a pass of another replica, or once the
    /// chain is long enough.
    fn take(&mut self, stored: Option<PassPlace>) -> Option<Newest> {
        self.newest.take().filter(|newest| Some(newest.place) == stored && newest.length < CHAIN_MAX)
    }
}

impl Control {
    /// One pass over the queue, now: what [`Control::run`] does in turns. For whoever measures or steps a world by hand.
    pub async fn schedule_pass(&self) -> Result<()> {
        let mut kept = self.passes().turn().await;
        let kept = &mut *kept;
        // Looked at without the writer's turn first: mostly nobody waits, and the more is known the less is read in turn.
        let mark = self.store().mark_read().await?;
        kept.board.read(self.store(), mark).await?;
        if kept.board.is_idle() {
            return Ok(());
        }
        let cx = self.system("schedule");
        let tx = self.store().begin_upkeep().await?;
        kept.board.read(&tx, tx.mark()).await?;
        kept.board.mend(cx.now, self.policies())?;
        let board = &kept.board;
        let decisions = schedule::schedule_saying(board.snapshot(), cx.now, &|job, causes, promise| {
            // What stands says each time what it waits for: there are few of them.
            board.queued(job).is_none_or(|known| known.waits_causes != causes || known.promised != promise)
        });
        if cfg!(debug_assertions) {
            self.board_checked(&cx, &tx, &kept.board).await?;
        }
        kept.look = Look::of(cx.now, &decisions, true);
        let (entries, news) = self.decisions_written(&cx, &tx, &kept.board, &decisions).await?;
        if entries.is_empty() {
            return Ok(());
        }
        let before = kept.take(tx.schedule_pass_newest().await?);
        let record = match &before {
            None => Record::whole(cx.now, kept.board.snapshot().clone(), &decisions),
            Some(before) => Record::since(cx.now, &before.inputs_digest, kept.board.change(), &decisions),
        };
        let place = tx.schedule_pass_insert(before.as_ref().map(|newest| newest.place.base), &record, &news).await?;
        let told =
            |entry: AuditEntry| entry.fact("pass", place.sequence).fact("inputs_digest", record.inputs_digest.as_str());
        let entries: Vec<_> = entries.into_iter().map(told).collect();
        self.finish(&cx, tx, &entries, Wake::Sites).await?;
        kept.board.recorded();
        let length = before.map_or(0, |newest| newest.length) + 1;
        kept.newest = Some(Newest { place, length, inputs_digest: record.inputs_digest });
        Ok(())
    }

    /// Where a job that waits stands, as of a second ago at most. None: it does not wait, or not for the scheduler.
    pub(crate) async fn in_queue(&self, asked: &Job) -> Result<Option<InQueue>> {
        let id = asked.id;
        let mut kept = self.passes().turn().await;
        let kept = &mut *kept;
        let now = self.now();
        let is_new = (0..LOOK_MS_MAX).contains(&now.millis_since(kept.look.at));
        // Only who came since is looked for at once. What waits for its reservation stands in no look.
        let known = kept.look.says(id).filter(|_| is_new);
        if known.is_some() || (is_new && asked.reservation.is_some()) {
            return Ok(known);
        }
        let tx = self.store().begin_upkeep().await?;
        kept.board.read(&tx, tx.mark()).await?;
        drop(tx);
        kept.board.mend(now, self.policies())?;
        let decisions = schedule::schedule_saying(kept.board.snapshot(), now, &|job, _, _| job == id);
        kept.look = Look::of(now, &decisions, false);
        Ok(kept.look.says(id))
    }

    /// Holds what was kept to what the rows say: a board made anew shows the same.
    async fn board_checked(&self, cx: &Cx, tx: &Tx, kept: &Board) -> Result<()> {
        let mut anew = Board::default();
        anew.read(tx, tx.mark()).await?;
        anew.mend(cx.now, self.policies())?;
        assert_eq!(kept.snapshot(), anew.snapshot(), "the scheduler's board is not what the rows say");
        Ok(())
    }

    /// Writes down what is new in a pass: what to log of it, and which decisions those are.
    async fn decisions_written(
        &self,
        cx: &Cx,
        tx: &Tx,
        board: &Board,
        decisions: &[Decision],
    ) -> Result<(Vec<AuditEntry>, Vec<Decision>)> {
        let (mut entries, mut news) = (Vec::new(), Vec::new());
        for decision in decisions {
            if let Some(endpoint) = board.endpoint_waiting(decision.job()) {
                entries.extend(self.replica_decided(cx, tx, endpoint, decision).await?);
                continue;
            }
            let entry = match (decision, board.queued(decision.job())) {
                (Decision::Stop { job, reason, .. }, _) => {
                    let job = self.job_now(tx, *job).await?;
                    Some(self.job_told_to_stop(cx, tx, &job, reason.clone()).await?.1)
                }
                (_, Some(job)) => self.decision_written(cx, tx, job, decision).await?,
                (_, None) => {
                    let job = decision.job();
                    return Err(Error::Broken(format!("the scheduler decided about {job}, which does not wait")));
                }
            };
            if let Some(entry) = entry {
                entries.push(entry);
                news.push(decision.clone());
            }
        }
        // What waits for its reservation was not looked at: its time alone says what becomes of it.
        for (job, decision) in board.outside(cx.now) {
            entries.extend(self.decision_written(cx, tx, job, &decision).await?);
        }
        Ok((entries, news))
    }

    async fn job_now(&self, tx: &Tx, id: JobId) -> Result<Job> {
        tx.job_get(id).await?.ok_or_else(|| Error::missing("job", id))
    }

    /// Writes one decision down; nothing where nothing changed. `known`: the job as the board has it, which is not whole.
    async fn decision_written(&self, cx: &Cx, tx: &Tx, known: &Job, decision: &Decision) -> Result<Option<AuditEntry>> {
        // A pass puts into words only what is new.
        if matches!(decision, Decision::Wait { reason, .. } if reason.is_empty()) {
            return Ok(None);
        }
        let job = self.job_now(tx, known.id).await?;
        let entry = |action: &str| cx.done(Some(job.organisation), action, job.id);
        match decision {
            Decision::Start { site, .. } => {
                // The room of its reservation is at the site it was bound for.
                let site = &job.site.filter(|_| job.reservation.is_some()).unwrap_or(*site);
                let after = job.apply(JobMove::Bind { site: *site })?;
                tx.job_update(&after).await?;
                self.metrics().count(Metric::JobsBound);
                let residency = self.residency_facts(tx, job.organisation, *site).await?;
                let entry = entry("job:bind").fact("site", site.to_string()).fact("attempt", after.attempt);
                Ok(Some(entry.fact("residency", residency)))
            }
            Decision::Wait { causes, reason, promise, .. } => {
                let (why, causes, promise) = (reason.clone(), causes.clone(), *promise);
                tx.job_update(&job.apply(JobMove::Wait { why, causes, promise })?).await?;
                Ok(Some(entry("job:wait").fact("why", reason.as_str())))
            }
            Decision::Never { reason, .. } => {
                let end = JobEnd { code: None, reason: "never_started".into(), hint: Some(reason.clone()) };
                self.job_ended(tx, &job, end, JobState::Failed).await?;
                Ok(Some(entry("job:end").fact("reason", "never_started").fact("why", reason.as_str())))
            }
            Decision::Stop { .. } => Err(Error::Broken("a waiting job is not stopped".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_builds_only_on_the_newest_one_and_chains_stay_short() {
        let place = |sequence| PassPlace { sequence, base: 1 };
        let mut kept = Kept::default();
        let newest = |length| Some(Newest { place: place(5), length, inputs_digest: String::new() });
        assert!(kept.take(Some(place(5))).is_none(), "nothing is known after a restart");
        kept.newest = newest(1);
        assert!(kept.take(Some(place(5))).is_some());
        assert!(kept.take(Some(place(5))).is_none(), "what was taken and not put back was not committed");
        kept.newest = newest(1);
        assert!(kept.take(Some(place(6))).is_none(), "another replica has made a pass since");
        kept.newest = newest(CHAIN_MAX);
        assert!(kept.take(Some(place(5))).is_none(), "the chain is long enough");
    }
}
