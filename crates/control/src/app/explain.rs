//! Why a job stands where it stands, and any decision about it made again from the record.

use gregal_api::job::{AskedView, DecisionView, JobExplanation, ReplayView, RoomView};
use gregal_core::{
    access::Action,
    id::JobId,
    job::{Job, JobState},
    schedule::record::{self, Irreproducible, RULES, Record},
};
use gregal_store::PassDecision;

use crate::{Control, Cx, Error, Result};

/// The most of a job's decisions that are listed.
const HISTORY_MAX: u32 = 100;

impl Control {
    /// Explains a job: its place in the queue, its decisions, and the one of `pass` (absent: the newest) made again.
    /// Of a pass, only what it says of this job and of the sites this job may run at is told.
    pub(crate) async fn job_explain(&self, cx: &Cx, id: JobId, pass: Option<u64>) -> Result<JobExplanation> {
        let (job, _) = self.job_seen(cx, id, Action::JobRead).await?;
        let decided = self.store().schedule_decisions_of(id, HISTORY_MAX).await?;
        let wanted = match pass {
            None => decided.first(),
            Some(pass) => {
                let found = decided.iter().find(|decided| decided.pass == pass);
                Some(found.ok_or_else(|| Error::missing("decision", format!("of pass {pass}")))?)
            }
        };
        let replay = match wanted {
            Some(decided) => Some(self.pass_replay(&job, decided).await?),
            None => None,
        };
        let place = if job.state == JobState::Queued { self.in_queue(&job).await? } else { None };
        Ok(JobExplanation {
            job: id,
            state: job.state,
            position: place.as_ref().map(|place| place.position),
            queued: place.as_ref().map(|place| place.queued),
            waits_for: place.and_then(|place| place.waits_for).or(job.waits_for),
            history: decided
                .iter()
                .map(|decided| DecisionView::new(decided.pass, decided.at, &decided.decision))
                .collect(),
            replay,
        })
    }

    async fn pass_replay(&self, job: &Job, decided: &PassDecision) -> Result<ReplayView> {
        let (id, pass) = (job.id, decided.pass);
        let chain = self.store().schedule_pass_chain(pass).await?;
        let broken = |why: String| Error::Broken(format!("scheduling pass {pass} cannot be made again: {why}"));
        // One at a time, and beside what answers others: a pass over a long queue is work.
        let _turn = self.replays().acquire().await.map_err(|error| broken(error.to_string()))?;
        let (chain, replay) = tokio::task::spawn_blocking(move || {
            let replay = record::replay(&chain);
            (chain, replay)
        })
        .await
        .map_err(|error| broken(error.to_string()))?;
        let last = chain.last().ok_or_else(|| broken("it is not there".into()))?;
        let replay = match replay {
            Ok(replay) => replay,
            Err(Irreproducible::OtherRules { .. }) => return self.pass_of_other_rules(job, decided, last).await,
            Err(error) => return Err(broken(error.to_string())),
        };
        let snapshot = &replay.snapshot;
        let waited = snapshot.waiting.iter().find(|waiting| waiting.job == id);
        // One that is told to make room runs.
        let ran = snapshot.rooms.iter().flat_map(|room| room.bound.iter().map(move |bound| (room, bound)));
        let mut ran =
            ran.filter(|(_, bound)| bound.job == Some(id)).map(|(room, bound)| (&bound.item, vec![room.site]));
        let asked = waited.map(|waiting| (&waiting.item, waiting.sites.clone())).or_else(|| ran.next());
        let (asked, sites) = asked.ok_or_else(|| broken("the job neither waited nor ran then".into()))?;
        let decision = replay.decisions.iter().find(|decision| decision.job() == id);
        let decision = decision.ok_or_else(|| broken("nothing is decided of the job".into()))?;
        let rooms = replay.snapshot.rooms.iter().filter(|room| sites.contains(&room.site));
        Ok(ReplayView {
            rules: last.rules,
            rules_now: RULES,
            inputs_digest: last.inputs_digest.clone(),
            decision: DecisionView::new(pass, last.at, decision),
            // The words of the one that is shown are held to what was said; those of others were perhaps never made.
            same: replay.same && *decision == decided.decision,
            asked: AskedView {
                cpus_milli: asked.cpus_milli,
                memory_bytes: asked.memory_bytes,
                gpus: asked.gpus,
                gpu_model: asked.gpu_model.clone(),
            },
            sites: rooms.map(RoomView::from).collect(),
        })
    }

    /// A pass that was made by other rules than today's: what was said then stands, and cannot be made again.
    async fn pass_of_other_rules(&self, job: &Job, decided: &PassDecision, record: &Record) -> Result<ReplayView> {
        let offer = self.store().sku_get(&job.sku).await?;
        let sku = offer.ok_or_else(|| Error::Broken(format!("{} asks for `{}`, which is gone", job.id, job.sku)))?.sku;
        Ok(ReplayView {
            rules: record.rules,
            rules_now: RULES,
            inputs_digest: record.inputs_digest.clone(),
            decision: DecisionView::new(decided.pass, decided.at, &decided.decision),
            same: false,
            asked: AskedView {
                cpus_milli: sku.cpus_milli,
                memory_bytes: sku.memory_bytes,
                gpus: sku.gpus,
                gpu_model: sku.gpu_model.clone(),
            },
            sites: Vec::new(),
        })
    }
}
