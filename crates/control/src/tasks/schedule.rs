//! Gives waiting jobs to sites: core decides from a snapshot, this writes down what it decided.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, PoisonError},
};

use gregal_core::{
    audit::AuditEntry,
    id::JobId,
    job::{Job, JobEnd, JobMove, JobState},
    schedule::{
        self, Bound, Decision, END_MS, Room, Snapshot,
        record::{CHAIN_MAX, Record},
    },
    site::Site,
    sku::Sku,
    time::Time,
};
use gregal_policy::Placement;
use gregal_store::{PassPlace, Tx, View};

use crate::{Control, Cx, Error, Result, app, context::Facts as _, metrics::Metric, tasks::replica, wakes::Wake};

/// The newest pass that was kept, and what it looked at: the next one keeps only what changed since.
#[derive(Debug, Default)]
pub(crate) struct Passes(Mutex<Option<Newest>>);

#[derive(Debug)]
struct Newest {
    place: PassPlace,
    /// Records in its chain.
    length: usize,
    snapshot: Snapshot,
}

impl Passes {
    /// Takes what the next record may build on: nothing after a restart, after a pass of another replica, or once the
    /// chain is long enough.
    fn take(&self, stored: Option<PassPlace>) -> Option<Newest> {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        newest.filter(|newest| Some(newest.place) == stored && newest.length < CHAIN_MAX)
    }

    fn put(&self, newest: Newest) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
    }
}

impl Control {
    /// One pass over the queue.
    pub(crate) async fn schedule_pass(&self) -> Result<()> {
        // Looked at without the writer's turn first: mostly nobody waits.
        let is_idle = self.store().jobs_in_states(&[JobState::Queued]).await?.is_empty();
        if is_idle && self.replicas_waiting(self.store()).await?.is_empty() {
            return Ok(());
        }
        let cx = self.system("schedule");
        let tx = self.store().begin().await?;
        let queued = tx.jobs_in_states(&[JobState::Queued]).await?;
        let sites = tx.sites_all().await?;
        let replicas = self.replicas_waiting(&tx).await?;
        let mut snapshot = self.snapshot(&cx, &tx, &queued, &sites).await?;
        snapshot.waiting.extend(self.replicas_asked(&tx, &replicas, &sites).await?);
        let decisions = schedule::schedule(&snapshot, cx.now);
        let jobs: BTreeMap<JobId, &Job> = queued.iter().map(|job| (job.id, job)).collect();
        let mut entries = Vec::new();
        let mut news = Vec::new();
        for decision in &decisions {
            if let Some(endpoint) = replica::decided_of(&replicas, decision) {
                entries.extend(self.replica_decided(&cx, &tx, endpoint, decision).await?);
                continue;
            }
            let Some(job) = jobs.get(&decision.job()) else {
                return Err(Error::Broken(format!(
                    "the scheduler decided about {}, which does not wait",
                    decision.job()
                )));
            };
            if let Some(entry) = self.decision_written(&cx, &tx, job, decision).await? {
                entries.push(entry);
                news.push(decision.clone());
            }
        }
        if entries.is_empty() {
            return Ok(());
        }
        let before = self.passes().take(tx.schedule_pass_newest().await?);
        let record = Record::new(cx.now, before.as_ref().map(|newest| &newest.snapshot), &snapshot, &decisions);
        let place = tx.schedule_pass_insert(before.as_ref().map(|newest| newest.place.base), &record, &news).await?;
        let told =
            |entry: AuditEntry| entry.fact("pass", place.sequence).fact("inputs_digest", record.inputs_digest.as_str());
        let entries: Vec<_> = entries.into_iter().map(told).collect();
        self.finish(&cx, tx, &entries, Wake::Sites).await?;
        let length = before.map_or(0, |newest| newest.length) + 1;
        self.passes().put(Newest { place, length, snapshot });
        Ok(())
    }

    /// Where a job that waits stands: its place in the queue from 1, and how many wait.
    pub(crate) async fn queue_place(&self, id: JobId) -> Result<Option<(u32, u32)>> {
        let queued = self.store().jobs_in_states(&[JobState::Queued]).await?;
        let waiting: Vec<_> = queued.iter().map(|job| (job.id, job.promised, job.created_at)).collect();
        let order = schedule::order(&waiting);
        let place = order.iter().position(|job| *job == id);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(place.map(|place| (count(place + 1), count(order.len()))))
    }

    async fn snapshot(&self, cx: &Cx, view: &View, queued: &[Job], sites: &[Site]) -> Result<Snapshot> {
        let mut ceilings = BTreeMap::new();
        let mut waiting = Vec::with_capacity(queued.len());
        for job in queued {
            let lawful: &Vec<_> = match ceilings.entry(job.organisation) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let residency = self.organisation_of(view, job.organisation).await?.residency;
                    let lawful = |site: &&Site| self.policies().place(&residency, site, Placement::Job).allowed;
                    unknown.insert(sites.iter().filter(lawful).map(|site| site.id).collect())
                }
            };
            let may = lawful.iter().copied().filter(|site| job.site.is_none_or(|pinned| pinned == *site)).collect();
            let sku = self.sku(&job.sku);
            let sku = sku.ok_or_else(|| Error::Broken(format!("{} asks for `{}`, which is gone", job.id, job.sku)))?;
            waiting.push(app::job::waiting(
                job.id,
                job.organisation,
                job.created_at,
                sku,
                may,
                // What earlier attempts were billed is gone from its limit.
                (u64::from(job.seconds_max) * 1000).saturating_sub(job.billed.ms),
                job.promised,
            ));
        }
        let mut rooms = Vec::with_capacity(sites.len());
        for site in sites {
            let bound = view.jobs_at_site(site.id, &JobState::BOUND).await?;
            let standing = view.endpoints_live_at_site(site.id).await?;
            rooms.push(replica::beside(room(site, cx.now, &bound, self.skus()), &standing, self.skus()));
        }
        Ok(Snapshot { waiting, rooms })
    }

    /// Writes one decision down; nothing where nothing changed.
    async fn decision_written(&self, cx: &Cx, tx: &Tx, job: &Job, decision: &Decision) -> Result<Option<AuditEntry>> {
        let entry = |action: &str| cx.done(Some(job.organisation), action, job.id);
        match decision {
            Decision::Start { site, .. } => {
                let after = job.apply(JobMove::Bind { site: *site })?;
                tx.job_update(&after).await?;
                self.metrics().count(Metric::JobsBound);
                Ok(Some(entry("job:bind").fact("site", site.to_string()).fact("attempt", after.attempt)))
            }
            Decision::Wait { reason, promise, .. } => {
                if job.waits_for.as_ref() == Some(reason) && job.promised == *promise {
                    return Ok(None);
                }
                tx.job_update(&job.apply(JobMove::Wait { why: reason.clone(), promise: *promise })?).await?;
                Ok(Some(entry("job:wait").fact("why", reason.as_str())))
            }
            Decision::Never { reason, .. } => {
                let end = JobEnd { code: None, reason: "never_started".into(), hint: Some(reason.clone()) };
                self.job_ended(tx, job, end, JobState::Failed).await?;
                Ok(Some(entry("job:end").fact("reason", "never_started").fact("why", reason.as_str())))
            }
        }
    }
}

/// How a site that does not answer is spoken of.
pub(crate) fn unreachable(site: &Site, now: Time) -> String {
    room(site, now, &[], &[]).silence()
}

/// When a bound job gives its room back at the latest. Nobody knows of one that is not ready yet, nor of one that was lost
/// before: how much of its limit is left is the site's to say.
fn free_at(job: &Job) -> Option<Time> {
    let ready = job.started_at.filter(|_| job.attempt == 1 && job.state != JobState::Starting)?;
    Some(ready.plus_seconds(i64::from(job.seconds_max)).plus_millis(END_MS))
}

/// A site as the scheduler sees it, with what is bound to it taken off.
pub(crate) fn room(site: &Site, now: Time, bound: &[Job], skus: &[Sku]) -> Room {
    let empty = Room {
        site: site.id,
        name: site.name.clone(),
        alive: site.alive_at(now),
        silent_since: site.lease_until.filter(|_| !site.alive_at(now)),
        cpus_milli_free: 0,
        cpus_milli_total: 0,
        memory_bytes_free: 0,
        memory_bytes_total: 0,
        gpus_free: Vec::new(),
        gpus_total: Vec::new(),
        bound: Vec::new(),
    };
    let Some(capacity) = &site.capacity else { return empty };
    let healthy = capacity.accelerators.iter().filter(|accelerator| accelerator.healthy);
    let mut gpus_free: Vec<String> = healthy.map(|accelerator| accelerator.model.clone()).collect();
    let (mut cpus, mut memory) = (capacity.cpus_milli, capacity.memory_bytes);
    let mut taken = Vec::with_capacity(bound.len());
    for (job, sku) in bound.iter().filter_map(|job| Some((job, skus.iter().find(|sku| sku.name == job.sku)?))) {
        taken.push(Bound {
            cpus_milli: sku.cpus_milli,
            memory_bytes: sku.memory_bytes,
            gpus: sku.gpus,
            gpu_model: sku.gpu_model.clone(),
            free_at: free_at(job),
        });
        cpus = cpus.saturating_sub(sku.cpus_milli);
        memory = memory.saturating_sub(sku.memory_bytes);
        for _ in 0..sku.gpus {
            // Which ones it got is the site's choice; of a model it asked for, one of that model is gone.
            let index = gpus_free.iter().position(|model| sku.gpu_model.as_ref().is_none_or(|wanted| wanted == model));
            index.map(|index| gpus_free.swap_remove(index));
        }
    }
    Room {
        cpus_milli_free: cpus,
        cpus_milli_total: capacity.cpus_milli,
        memory_bytes_free: memory,
        memory_bytes_total: capacity.memory_bytes,
        gpus_free,
        bound: taken,
        gpus_total: capacity.accelerators.iter().map(|accelerator| accelerator.model.clone()).collect(),
        ..empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_builds_only_on_the_newest_one_and_chains_stay_short() {
        let place = |sequence| PassPlace { sequence, base: 1 };
        let passes = Passes::default();
        let keep = |length| {
            passes.put(Newest { place: place(5), length, snapshot: Snapshot { waiting: vec![], rooms: vec![] } });
        };
        assert!(passes.take(Some(place(5))).is_none(), "nothing is known after a restart");
        keep(1);
        assert!(passes.take(Some(place(5))).is_some());
        assert!(passes.take(Some(place(5))).is_none(), "what was taken and not put back was not committed");
        keep(1);
        assert!(passes.take(Some(place(6))).is_none(), "another replica has made a pass since");
        keep(CHAIN_MAX);
        assert!(passes.take(Some(place(5))).is_none(), "the chain is long enough");
    }
}
