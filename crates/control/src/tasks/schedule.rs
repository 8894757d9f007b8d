//! Gives waiting jobs to sites: core decides from a snapshot, this writes down what it decided.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Mutex, PoisonError},
};

use gregal_core::{
    audit::AuditEntry,
    endpoint::Endpoint,
    id::{JobId, OrganisationId, ProjectId},
    job::{Job, JobEnd, JobMove, JobState, PRIORITY_DEFAULT},
    quota::Quota,
    schedule::{
        self, Bound, Decision, END_MS, Item, Node, PAST_MAX, QuotaRow, Room, Run, Snapshot, Waiting, Weight,
        record::{CHAIN_MAX, Record},
    },
    site::{Capacity, Site},
    sku::Sku,
    time::Time,
};
use gregal_policy::Placement;
use gregal_store::{PassPlace, Tx, View};

use crate::{Control, Cx, Error, Result, context::Facts as _, metrics::Metric, tasks::replica, wakes::Wake};

/// How many ended jobs are read for what they teach. They are read at every pass, so fewer than a pass would look at.
const RUNS_READ: u64 = PAST_MAX as u64 / 4;

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
    /// One pass over the queue, now: what [`Control::run`] does in turns. For whoever measures or steps a world by hand.
    pub async fn schedule_pass(&self) -> Result<()> {
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
        let snapshot = self.snapshot(cx.now, &tx, &queued, &replicas, &sites).await?;
        let decisions = schedule::schedule(&snapshot, cx.now);
        let jobs: BTreeMap<JobId, &Job> = queued.iter().map(|job| (job.id, job)).collect();
        let mut entries = Vec::new();
        let mut news = Vec::new();
        for decision in &decisions {
            if let Some(endpoint) = replica::decided_of(&replicas, decision) {
                entries.extend(self.replica_decided(&cx, &tx, endpoint, decision).await?);
                continue;
            }
            if let Decision::Stop { job, reason, .. } = decision {
                let job = tx.job_get(*job).await?.ok_or_else(|| Error::missing("job", job))?;
                entries.push(self.job_told_to_stop(&cx, &tx, &job, reason.clone()).await?.1);
                news.push(decision.clone());
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
        if !queued.iter().any(|job| job.id == id) {
            return Ok(None);
        }
        let sites = self.store().sites_all().await?;
        let now = self.now();
        let replicas = self.replicas_waiting(self.store()).await?;
        let order = schedule::order(&self.snapshot(now, self.store(), &queued, &replicas, &sites).await?, now);
        let place = order.iter().position(|job| *job == id);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(place.map(|place| (count(place + 1), count(order.len()))))
    }

    async fn snapshot(
        &self,
        now: Time,
        view: &View,
        queued: &[Job],
        replicas: &[Endpoint],
        sites: &[Site],
    ) -> Result<Snapshot> {
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
            waiting.push(Waiting {
                job: job.id,
                item: item_of(job, sku),
                // Who was stopped has had its turn: it waits anew. Who was lost has not.
                since: job.stopped_at.unwrap_or(job.created_at),
                sites: may,
                limit_ms: u64::from(job.seconds_max) * 1000,
                promised: job.promised,
            });
        }
        waiting.extend(self.replicas_asked(view, replicas, sites).await?);
        let mut rooms = Vec::with_capacity(sites.len());
        for site in sites {
            let bound = view.jobs_at_site(site.id, &JobState::BOUND).await?;
            let standing = view.endpoints_live_at_site(site.id).await?;
            rooms.push(replica::beside(room(site, now, &bound, self.skus()), &standing, self.skus()));
        }
        let quotas = view.quotas_all().await?.into_iter().map(quota_row).collect();
        let weights = self.weights(view, &waiting, &rooms).await?;
        let past = view.jobs_ended_newest(RUNS_READ).await?.iter().filter_map(|job| ran(job, self.skus())).collect();
        Ok(Snapshot { waiting, rooms, quotas, weights, past })
    }

    /// The weights of organisations that want or have something, where they are not 1.
    async fn weights(&self, view: &View, waiting: &[Waiting], rooms: &[Room]) -> Result<Vec<Weight>> {
        let bound = rooms.iter().flat_map(|room| &room.bound).map(|bound| bound.item.organisation);
        let who: BTreeSet<OrganisationId> = waiting.iter().map(|one| one.item.organisation).chain(bound).collect();
        let mut weights = Vec::new();
        for organisation in who {
            let weight = self.organisation_of(view, organisation).await?.share.weight;
            if weight != 1 {
                weights.push(Weight { organisation, weight });
            }
        }
        Ok(weights)
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
            Decision::Stop { .. } => Err(Error::Broken("a waiting job is not stopped".into())),
        }
    }
}

/// How a site that does not answer is spoken of.
pub(crate) fn unreachable(site: &Site, now: Time) -> String {
    room(site, now, &[], &[]).silence()
}

/// When a bound job gives its room back at the latest: what is left of its limit after its attempt was ready. Nobody knows
/// of one that is not ready yet, nor of one that is past that time (its site was away, and goes on from what it billed).
fn free_at(job: &Job) -> Option<Time> {
    let ready = job.ready_at.filter(|_| job.state != JobState::Starting)?;
    let left = (u64::from(job.seconds_max) * 1000).saturating_sub(job.billed.ms);
    Some(ready.plus_millis(i64::try_from(left).unwrap_or(i64::MAX).saturating_add(END_MS)))
}

/// A quota as the scheduler sees it.
fn quota_row(quota: Quota) -> QuotaRow {
    let Quota { organisation, project, sku, guarantee, borrow_max, lend_max, .. } = quota;
    QuotaRow { organisation, project, sku, guarantee, borrow_max, lend_max }
}

/// A job as the scheduler sees it.
fn item_of(job: &Job, sku: &Sku) -> Item {
    Item {
        priority: job.priority,
        preemptible: job.preemptible,
        stops: job.stops,
        worked_ms: job.billed.ms,
        ..item(job.organisation, job.project, sku)
    }
}

/// Whose something is, and what a SKU takes. It has the usual priority, and is not stopped for others.
pub(crate) fn item(organisation: OrganisationId, project: ProjectId, sku: &Sku) -> Item {
    Item {
        organisation,
        project,
        sku: sku.name.clone(),
        cpus_milli: sku.cpus_milli,
        memory_bytes: sku.memory_bytes,
        gpus: sku.gpus,
        gpu_model: sku.gpu_model.clone(),
        priority: PRIORITY_DEFAULT,
        preemptible: false,
        stops: 0,
        worked_ms: 0,
    }
}

/// A job's run, once it has ended: what is expected of the next one like it. One that was never ready taught nothing.
fn ran(job: &Job, skus: &[Sku]) -> Option<Run> {
    let (started, ended) = (job.started_at?, job.ended_at?);
    let sku = skus.iter().find(|sku| sku.name == job.sku)?;
    let took = u64::try_from(ended.millis_since(started)).unwrap_or(0);
    Some(Run {
        job: job.id,
        organisation: job.organisation,
        project: job.project,
        sku: job.sku.clone(),
        gpus: sku.gpus,
        limit_ms: u64::from(job.seconds_max) * 1000,
        ended,
        // Between attempts it did not run; it never runs beyond its limit.
        ran_ms: took.min(u64::from(job.seconds_max) * 1000),
    })
}

/// A site as the scheduler sees it, with what is bound to it.
pub(crate) fn room(site: &Site, now: Time, bound: &[Job], skus: &[Sku]) -> Room {
    let bound = bound.iter().filter_map(|job| {
        let sku = skus.iter().find(|sku| sku.name == job.sku)?;
        Some(Bound {
            job: Some(job.id),
            item: item_of(job, sku),
            node: 0,
            since: job.ready_at.filter(|_| job.state != JobState::Starting).unwrap_or(now),
            free_at: free_at(job).filter(|at| *at > now),
            told: job.told_at.filter(|_| matches!(job.state, JobState::Stopping | JobState::Cancelling)),
        })
    });
    Room {
        site: site.id,
        name: site.name.clone(),
        alive: site.alive_at(now),
        silent_since: site.lease_until.filter(|_| !site.alive_at(now)),
        nodes: site.capacity.iter().map(node).collect(),
        bound: bound.collect(),
    }
}

/// A site is one machine today.
fn node(capacity: &Capacity) -> Node {
    let models = |healthy: bool| {
        let those = capacity.accelerators.iter().filter(|accelerator| accelerator.healthy == healthy);
        those.map(|accelerator| accelerator.model.clone()).collect()
    };
    Node {
        cpus_milli: capacity.cpus_milli,
        memory_bytes: capacity.memory_bytes,
        gpus: models(true),
        gpus_broken: models(false),
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
            passes.put(Newest { place: place(5), length, snapshot: Snapshot::default() });
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
