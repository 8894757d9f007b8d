//! Rows as the scheduler sees them.

use gregal_core::{
    id::{OrganisationId, ProjectId, SiteId},
    job::{Job, JobState, PRIORITY_DEFAULT},
    quota::Quota,
    schedule::{Bound, END_MS, Item, Node, Place, QuotaRow, Room, Run, Waiting},
    site::{Capacity, Site},
    sku::{Catalogue, Sku},
    time::Time,
};

use crate::{Error, Result};

/// How a site that does not answer is spoken of.
pub(crate) fn unreachable(site: &Site, now: Time) -> String {
    room(site, now, [], &Catalogue::default()).silence()
}

/// When a bound job gives its room back at the latest: what is left of its limit after its attempt was ready. Nobody knows
/// of one that is not ready yet, nor of one that is past that time (its site was away, and goes on from what it billed).
pub(crate) fn free_at(job: &Job) -> Option<Time> {
    let ready = since(job)?;
    let left = (u64::from(job.seconds_max) * 1000).saturating_sub(job.billed.ms);
    Some(ready.plus_millis(i64::try_from(left).unwrap_or(i64::MAX).saturating_add(END_MS)))
}

/// A waiting job as the scheduler sees it; `sites`: where it may run.
pub(super) fn waiting(job: &Job, sites: Vec<SiteId>, catalogue: &Catalogue) -> Result<Waiting> {
    let sku = catalogue.sku(&job.sku);
    let sku = sku.ok_or_else(|| Error::Broken(format!("{} asks for `{}`, which is gone", job.id, job.sku)))?;
    Ok(Waiting {
        job: job.id,
        item: item_of(job, sku),
        // Who was stopped has had its turn: it waits anew. Who was lost has not.
        since: job.stopped_at.unwrap_or(job.created_at),
        sites,
        limit_ms: u64::from(job.seconds_max) * 1000,
        promised: job.promised,
    })
}

/// Whether two states of a site are one to residency: it looks at the law and the operator, never at what is free.
pub(super) fn is_same_place(before: &Site, after: &Site) -> bool {
    let place = |site: &Site| Site {
        url: None,
        secret_digest: String::new(),
        capacity: None,
        lease_until: None,
        incarnation: None,
        version: 0,
        ..site.clone()
    };
    place(before) == place(after)
}

/// Until when a room that is made at `now` looks the same, if no row changes.
pub(super) fn room_holds_until(site: &Site, now: Time, bound: &[&Job]) -> Time {
    let lease = site.lease_until.filter(|until| *until > now);
    // What has no room of its own yet has had it since now, whenever now is.
    let starting = bound.iter().filter(|job| since(job).is_none()).map(|_| now);
    let over = bound.iter().filter_map(|job| free_at(job)).filter(|at| *at > now);
    over.chain(lease).chain(starting).min().unwrap_or(Time::from_millis(i64::MAX))
}

/// Since when a bound job has its room for good; none while it is not ready.
fn since(job: &Job) -> Option<Time> {
    job.ready_at.filter(|_| job.state != JobState::Starting)
}

/// A quota as the scheduler sees it.
pub(super) fn quota_row(quota: Quota) -> QuotaRow {
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
        sku: sku.family().to_owned(),
        cpus_milli: sku.cpus_milli,
        memory_bytes: sku.memory_bytes,
        gpus: sku.gpus,
        gpu_model: sku.gpu_model.clone(),
        priority: PRIORITY_DEFAULT,
        preemptible: false,
        stops: 0,
        worked_ms: 0,
        // Left out where it is what follows from the accelerators, so that records stay small.
        units: sku.units.unwrap_or(0),
        members: 1,
        within: None,
        spread: false,
        gpu_milli: sku.gpu_milli,
        apart: None,
    }
}

/// A job's run, once it has ended: what is expected of the next one like it. One that was never ready taught nothing.
pub(super) fn ran(job: &Job, catalogue: &Catalogue) -> Option<Run> {
    // What ran in a reservation is counted with it, and where it was cut off teaches nothing.
    if job.reservation.is_some() {
        return None;
    }
    let (started, ended) = (job.started_at?, job.ended_at?);
    let sku = catalogue.sku(&job.sku)?;
    let took = u64::try_from(ended.millis_since(started)).unwrap_or(0);
    Some(Run {
        job: job.id,
        organisation: job.organisation,
        project: job.project,
        sku: sku.family().to_owned(),
        gpus: sku.gpus,
        limit_ms: u64::from(job.seconds_max) * 1000,
        ended,
        // Between attempts it did not run; it never runs beyond its limit.
        ran_ms: took.min(u64::from(job.seconds_max) * 1000),
        units: sku.units.unwrap_or(0),
    })
}

/// A site as the scheduler sees it, with what is bound to it.
pub(crate) fn room<'a>(
    site: &Site,
    now: Time,
    bound: impl IntoIterator<Item = &'a Job>,
    catalogue: &Catalogue,
) -> Room {
    let bound = bound.into_iter().filter_map(|job| {
        let sku = catalogue.sku(&job.sku)?;
        Some(Bound {
            job: Some(job.id),
            item: item_of(job, sku),
            places: vec![Place::on(0)],
            since: since(job).unwrap_or(now),
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
        reserved: Vec::new(),
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
        ..Node::default()
    }
}
