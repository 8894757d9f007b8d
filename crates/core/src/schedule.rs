//! Which waiting job starts where, now. A pure pass over a snapshot.
//!
//! What a pass does: it looks at jobs that were promised a start, the earliest promise first, and then at the others in the
//! order they began to wait (those of one instant in the order they were submitted, which is their order in the
//! snapshot). Each takes, of the sites it may run at, the one it fills best.
//!
//! The first job that has to wait for a site's room is *promised a start* there: the time at which the limits of what runs
//! leave enough. Whoever passes it either ends before that by its own limit, or leaves room enough (EASY backfill,
//! Lifka 1995). Where no such time is known (something that runs there has no known end), nobody passes at all. So
//! nobody starves: the longest waiting job is always the next to be promised. What fits nowhere, ever, is refused at once
//! and keeps nothing. Nothing that was free before a pass is given out twice by it.
//!
//! A promise counts on limits, so it holds as long as runs end at theirs, and as long as a site stays as it is.
//!
//! What it does not do yet: quotas, fair share, priorities, gangs over nodes, preemption and reservations.

pub mod record;
mod space;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    id::{JobId, OrganisationId, SiteId},
    time::Time,
};

use self::{
    space::{Earliest, Space},
    words::{listed, moment},
};

/// Milliseconds from a start to readiness that are allowed for: a job that is to be out of the way by some time counts with
/// its limit and this.
pub const START_MS: i64 = 300_000;
/// Milliseconds from a job's limit until its room is free, as allowed for: it is told to stop, and may save its work.
pub const END_MS: i64 = 60_000;
/// A promise is moved forward only if the job would start so many milliseconds earlier: nothing moves for nothing.
const SOONER_MS: i64 = 60_000;

/// The limit of what ends only when somebody asks for it: a served model.
pub const ENDLESS_MS: u64 = u64::MAX;

/// A start no later than a time, at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Promise {
    /// When, at the latest.
    pub at: Time,
    /// Where.
    pub site: SiteId,
}

/// A waiting job as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which job.
    pub job: JobId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Since when it waits.
    pub since: Time,
    /// Thousandths of CPU cores it needs.
    pub cpus_milli: u32,
    /// Bytes of memory it needs.
    pub memory_bytes: u64,
    /// Accelerators it needs.
    pub gpus: u32,
    /// Model of the accelerators, if only one will do.
    pub gpu_model: Option<String>,
    /// The sites it may run at: where its data is and its residency policy allows. Empty means nowhere lawful.
    pub sites: Vec<SiteId>,
    /// The longest it may run once it is ready, in milliseconds; [`ENDLESS_MS`] for what has no end of its own.
    pub limit_ms: u64,
    /// The start it was promised by an earlier pass.
    pub promised: Option<Promise>,
}

/// What is bound to a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Thousandths of CPU cores it has.
    pub cpus_milli: u32,
    /// Bytes of memory it has.
    pub memory_bytes: u64,
    /// Accelerators it has.
    pub gpus: u32,
    /// Their model, if it asked for one.
    pub gpu_model: Option<String>,
    /// When its room is free again at the latest. None: nobody knows.
    pub free_at: Option<Time>,
}

/// A site with room, as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Which site.
    pub site: SiteId,
    /// Its name, for reasons.
    pub name: String,
    /// Whether it is alive now.
    pub alive: bool,
    /// Since when it has been silent, if it is not alive and ever was.
    pub silent_since: Option<Time>,
    /// Free thousandths of CPU cores.
    pub cpus_milli_free: u32,
    /// All thousandths of CPU cores.
    pub cpus_milli_total: u32,
    /// Free bytes of memory.
    pub memory_bytes_free: u64,
    /// All bytes of memory.
    pub memory_bytes_total: u64,
    /// Models of the free, healthy accelerators.
    pub gpus_free: Vec<String>,
    /// Models of all accelerators.
    pub gpus_total: Vec<String>,
    /// What is bound to it; the free figures have it taken off already.
    pub bound: Vec<Bound>,
}

/// Everything a pass looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Waiting jobs, in the order they were submitted.
    pub waiting: Vec<Waiting>,
    /// Sites, in any order, each once. A site that has never said what it has stands here with nothing in all, or not
    /// at all: nothing is refused for its sake.
    pub rooms: Vec<Room>,
}

/// What a pass says of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// It starts at this site now.
    Start {
        /// Which job.
        job: JobId,
        /// Where.
        site: SiteId,
    },
    /// It waits, and why.
    Wait {
        /// Which job.
        job: JobId,
        /// What is missing, how much, and what would help.
        reason: String,
        /// The start it is promised.
        promise: Option<Promise>,
    },
    /// It can never run as asked, and why.
    Never {
        /// Which job.
        job: JobId,
        /// What no site has.
        reason: String,
    },
}

impl Decision {
    /// Which job it is about.
    pub const fn job(&self) -> JobId {
        match self {
            Self::Start { job, .. } | Self::Wait { job, .. } | Self::Never { job, .. } => *job,
        }
    }
}

/// One pass, made at `now`: exactly one decision a waiting job, in the order they were looked at. The order of the rooms
/// changes nothing.
pub fn schedule(snapshot: &Snapshot, now: Time) -> Vec<Decision> {
    let mut spaces: BTreeMap<SiteId, Space<'_>> =
        snapshot.rooms.iter().map(|room| (room.site, Space::of(room, now))).collect();
    let mut queue: Vec<&Waiting> = snapshot.waiting.iter().collect();
    queue.sort_by_key(|job| turn(job.promised, job.since)); // Stable, as in `order`.
    for job in &queue {
        keep(job, &mut spaces);
    }
    queue.into_iter().map(|job| decide(job, &mut spaces)).collect()
}

/// The order in which a pass looks at jobs, given in the order they were submitted, with what each was promised and since
/// when it waits.
pub fn order(waiting: &[(JobId, Option<Promise>, Time)]) -> Vec<JobId> {
    let mut queue = waiting.to_vec();
    queue.sort_by_key(|(_, promised, since)| turn(*promised, *since)); // Stable: of one instant, the first submitted first.
    queue.into_iter().map(|(job, ..)| job).collect()
}

/// Promises first, the earliest first; then who waits longest.
fn turn(promised: Option<Promise>, since: Time) -> (bool, Option<Time>, Time) {
    (promised.is_none(), promised.map(|promise| promise.at), since)
}

fn decide<'a>(job: &'a Waiting, spaces: &mut BTreeMap<SiteId, Space<'a>>) -> Decision {
    let sites: BTreeSet<SiteId> = job.sites.iter().copied().collect();
    if sites.is_empty() {
        let reason = "no site may hold its data: none is left by the residency policy and the place of its datasets";
        return Decision::Never { job: job.job, reason: reason.into() };
    }
    if let Some(reason) = never(job, &sites, spaces) {
        return Decision::Never { job: job.job, reason };
    }
    let best = sites
        .iter()
        .filter_map(|site| spaces.get(site).filter(|space| space.takes(job)).map(|space| (space.left_by(job), *site)))
        .min();
    if let Some((_, site)) = best {
        if let Some(space) = spaces.get_mut(&site) {
            space.take(job);
        }
        if let Some(space) = job.promised.and_then(|promised| spaces.get_mut(&promised.site)) {
            space.let_go(job.job);
        }
        return Decision::Start { job: job.job, site };
    }
    let missing = waits_for(job, &sites, spaces);
    let promise = promise(job, &sites, spaces);
    let reason = match promise {
        Some(promise) => format!("{missing}; starts no later than {}", moment(promise.at)),
        None => missing,
    };
    Decision::Wait { job: job.job, reason, promise }
}

/// Keeps the room of a job that was promised a start, before anybody else is looked at.
fn keep(job: &Waiting, spaces: &mut BTreeMap<SiteId, Space<'_>>) {
    let Some(promised) = job.promised.filter(|promised| job.sites.contains(&promised.site)) else { return };
    let Some(space) = spaces.get_mut(&promised.site).filter(|space| space.could(job)) else { return };
    match space.earliest(job) {
        Earliest::At(at) => space.promise(job, Some(at)),
        Earliest::Unknown => space.promise(job, None),
        Earliest::Never => {}
    }
}

/// What a job that waits is promised: what was kept for it, else a start at the site where it can be earliest of those
/// where nobody was promised one. Where nobody knows when it could start, those behind are kept away.
fn promise<'a>(
    job: &'a Waiting,
    sites: &BTreeSet<SiteId>,
    spaces: &mut BTreeMap<SiteId, Space<'a>>,
) -> Option<Promise> {
    let old = job.promised.filter(|old| sites.contains(&old.site));
    let kept = old.and_then(|old| Some((old, spaces.get(&old.site)?))).filter(|(_, space)| space.keeps_for(job.job));
    if let Some((old, space)) = kept {
        // While nobody knows better, what was said stands.
        return Some(space.kept_until().map_or(old, |at| newer(old, Promise { at, ..old })));
    }
    let could: Vec<(SiteId, Earliest)> = sites
        .iter()
        .filter_map(|site| spaces.get(site).filter(|space| space.could(job)).map(|space| (*site, space.earliest(job))))
        .collect();
    let at = |(site, earliest): &(SiteId, Earliest)| match earliest {
        Earliest::At(at) => Some(Promise { at: *at, site: *site }),
        Earliest::Unknown | Earliest::Never => None,
    };
    if let Some(found) = could.iter().filter_map(at).min() {
        if let Some(space) = spaces.get_mut(&found.site) {
            space.promise(job, Some(found.at));
        }
        return Some(old.map_or(found, |old| newer(old, found)));
    }
    for (site, _) in could.iter().filter(|(_, earliest)| *earliest == Earliest::Unknown) {
        if let Some(space) = spaces.get_mut(site) {
            space.ahead += 1;
        }
    }
    old
}

/// The newer promise where it says something new: a later start must be said; an earlier one is news only if it is earlier
/// by something.
fn newer(old: Promise, new: Promise) -> Promise {
    let stands = new.at <= old.at && old.at.millis_since(new.at) < SOONER_MS;
    if stands { Promise { site: new.site, ..old } } else { new }
}

/// Why no site can ever run it, if none can. A site that is unknown or has not said what it has leaves hope.
fn never(job: &Waiting, sites: &BTreeSet<SiteId>, spaces: &BTreeMap<SiteId, Space<'_>>) -> Option<String> {
    let mut short = Vec::with_capacity(sites.len());
    for site in sites {
        let space = spaces.get(site).filter(|space| space.is_known())?;
        short.push(format!("{} at `{}`, with nothing else running", space.room.shortage(job)?, space.room.name));
    }
    Some(format!("{}: ask for less, or for a site that has more", listed(short)))
}

fn waits_for(job: &Waiting, sites: &BTreeSet<SiteId>, spaces: &BTreeMap<SiteId, Space<'_>>) -> String {
    let unknown = || "a site it may run at has not said what it has yet".to_owned();
    let parts: BTreeSet<String> =
        sites.iter().map(|site| spaces.get(site).map_or_else(unknown, |space| space.refusal(job))).collect();
    listed(parts.into_iter().collect())
}
