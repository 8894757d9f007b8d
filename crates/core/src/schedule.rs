//! Which waiting job starts where, now. A pure pass over a snapshot.
//!
//! What a pass does: it looks at jobs in the order they began to wait (those of one instant in the order they were
//! submitted, which is their order in the snapshot). Each takes, of the sites it may run at, the one it fills best.
//! A job that has to wait keeps the room of every site it could ever run at from those behind it, so that nobody
//! starves; what fits nowhere, ever, is refused at once and keeps nothing. Nothing that was free before a pass is given
//! out twice by it.
//!
//! What it does not do yet: backfill, quotas, fair share, priorities, gangs over nodes, preemption and reservations. The
//! issue "scheduler" deepens this function; its type stays.

pub mod record;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    id::{JobId, OrganisationId, SiteId},
    time::Time,
};

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

/// One pass: exactly one decision a waiting job, in the order they were looked at. The order of the rooms changes nothing.
/// `_now` is when the pass is made; it is recorded with the snapshot, and promises will be measured against it.
pub fn schedule(snapshot: &Snapshot, _now: Time) -> Vec<Decision> {
    let mut spaces: BTreeMap<SiteId, Space<'_>> =
        snapshot.rooms.iter().map(|room| (room.site, Space::of(room))).collect();
    let mut queue: Vec<&Waiting> = snapshot.waiting.iter().collect();
    queue.sort_by_key(|job| job.since); // Stable, as in `order`.
    queue.into_iter().map(|job| decide(job, &mut spaces)).collect()
}

/// The order in which a pass looks at jobs, given in the order they were submitted with the time since when each waits.
pub fn order(waiting: &[(JobId, Time)]) -> Vec<JobId> {
    let mut queue = waiting.to_vec();
    queue.sort_by_key(|(_, since)| *since); // Stable: of one instant, the first submitted stays first.
    queue.into_iter().map(|(job, _)| job).collect()
}

fn decide(job: &Waiting, spaces: &mut BTreeMap<SiteId, Space<'_>>) -> Decision {
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
        return Decision::Start { job: job.job, site };
    }
    let reason = waits_for(job, &sites, spaces);
    for site in &sites {
        if let Some(space) = spaces.get_mut(site).filter(|space| space.is_known() && space.room.shortage(job).is_none())
        {
            space.ahead += 1;
        }
    }
    Decision::Wait { job: job.job, reason }
}

/// A site's room as the pass goes on.
#[derive(Debug)]
struct Space<'a> {
    room: &'a Room,
    cpus_milli: u32,
    memory_bytes: u64,
    gpus: BTreeMap<&'a str, u32>,
    /// Accelerators taken by jobs that take any model. Which ones is the site's choice, so each model counts them all as
    /// gone: too careful by a little where models are mixed, never over what is there.
    gpus_any_taken: u32,
    /// Jobs that wait for this room.
    ahead: u32,
}

impl<'a> Space<'a> {
    fn of(room: &'a Room) -> Self {
        Self {
            room,
            cpus_milli: room.cpus_milli_free.min(room.cpus_milli_total),
            memory_bytes: room.memory_bytes_free.min(room.memory_bytes_total),
            gpus: counted(&room.gpus_free),
            gpus_any_taken: 0,
            ahead: 0,
        }
    }

    /// Whether the site has ever said what it has.
    const fn is_known(&self) -> bool {
        self.room.cpus_milli_total > 0 && self.room.memory_bytes_total > 0
    }

    /// Free accelerators that a job asking for this model (or any) can count on.
    fn gpus_for(&self, model: Option<&str>) -> u32 {
        usable(&self.gpus, model).saturating_sub(self.gpus_any_taken)
    }

    fn fits(&self, job: &Waiting) -> bool {
        job.cpus_milli <= self.cpus_milli
            && job.memory_bytes <= self.memory_bytes
            && job.gpus <= self.gpus_for(job.gpu_model.as_deref())
    }

    fn takes(&self, job: &Waiting) -> bool {
        self.room.alive && self.ahead == 0 && self.fits(job)
    }

    /// What would be left, scarcest first: the least left is the best fit, and work that needs no accelerator stays away
    /// from where they are free.
    fn left_by(&self, job: &Waiting) -> (u32, u32, u64) {
        let gpus = self.gpus_for(None).saturating_sub(job.gpus);
        (gpus, self.cpus_milli.saturating_sub(job.cpus_milli), self.memory_bytes.saturating_sub(job.memory_bytes))
    }

    fn take(&mut self, job: &Waiting) {
        // `takes` was asked before: a minus here would give room out twice.
        self.cpus_milli = self.cpus_milli.checked_sub(job.cpus_milli).expect("cores were free");
        self.memory_bytes = self.memory_bytes.checked_sub(job.memory_bytes).expect("memory was free");
        match job.gpu_model.as_deref() {
            None => self.gpus_any_taken += job.gpus,
            Some(model) => {
                if let Some(free) = self.gpus.get_mut(model) {
                    *free = free.checked_sub(job.gpus).expect("accelerators were free");
                }
            }
        }
    }

    /// Why a job does not start here now, for people.
    fn refusal(&self, job: &Waiting) -> String {
        let name = &self.room.name;
        if !self.room.alive {
            return self.room.silence();
        }
        if !self.is_known() {
            return format!("`{name}` has not said what it has yet");
        }
        let free = Amounts {
            cpus_milli: self.cpus_milli,
            memory_bytes: self.memory_bytes,
            gpus: self.gpus_for(job.gpu_model.as_deref()),
        };
        match shortage(job, &free, &self.room.all_for(job)) {
            Some(short) => format!("{short} at `{name}`"),
            None => format!("{} for room at `{name}`", jobs_ahead(self.ahead)),
        }
    }
}

/// What a job could use of a site; accelerators of the model it asks for only.
#[derive(Debug)]
struct Amounts {
    cpus_milli: u32,
    memory_bytes: u64,
    gpus: u32,
}

impl Room {
    /// How a site that does not answer is spoken of. What is bound to it stays bound: unreachable is not failed.
    pub fn silence(&self) -> String {
        match self.silent_since {
            Some(since) => {
                format!("site `{}` unreachable since {since}; what runs there is not started elsewhere", self.name)
            }
            None => format!("site `{}` has never dialled in", self.name),
        }
    }

    fn all_for(&self, job: &Waiting) -> Amounts {
        Amounts {
            cpus_milli: self.cpus_milli_total,
            memory_bytes: self.memory_bytes_total,
            gpus: usable(&counted(&self.gpus_total), job.gpu_model.as_deref()),
        }
    }

    /// What is missing for a job even when nothing else runs here.
    fn shortage(&self, job: &Waiting) -> Option<String> {
        let all = self.all_for(job);
        shortage(job, &all, &all)
    }
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

/// Says the first few; more would not be read.
fn listed(mut parts: Vec<String>) -> String {
    const SITES_SAID_MAX: usize = 3;
    let more = parts.len().saturating_sub(SITES_SAID_MAX);
    parts.truncate(SITES_SAID_MAX);
    let said = parts.join("; ");
    if more == 0 { said } else { format!("{said}; and {more} more") }
}

fn jobs_ahead(count: u32) -> String {
    if count == 1 { "1 job ahead of it waits".into() } else { format!("{count} jobs ahead of it wait") }
}

/// What a job lacks, in words: cores, memory, accelerators free, and of how many in all.
fn shortage(job: &Waiting, free: &Amounts, all: &Amounts) -> Option<String> {
    let mut short = Vec::new();
    if job.cpus_milli > free.cpus_milli {
        let (lack, asked) = (cores(job.cpus_milli - free.cpus_milli), cores(job.cpus_milli));
        let (free, all) = (cores(free.cpus_milli), cores(all.cpus_milli));
        short.push(format!("{lack} of {asked} cores short ({free} of {all} free)"));
    }
    if job.memory_bytes > free.memory_bytes {
        let (lack, asked) = (bytes(job.memory_bytes - free.memory_bytes), bytes(job.memory_bytes));
        let (free, all) = (bytes(free.memory_bytes), bytes(all.memory_bytes));
        short.push(format!("{lack} of {asked} memory short ({free} of {all} free)"));
    }
    if job.gpus > free.gpus {
        let model = job.gpu_model.as_deref();
        let kind = model.map_or_else(|| "accelerators".into(), |model| format!("`{model}` accelerators"));
        let lack = job.gpus - free.gpus;
        short.push(format!("{lack} of {} {kind} short ({} of {} free)", job.gpus, free.gpus, all.gpus));
    }
    if short.is_empty() { None } else { Some(short.join(", ")) }
}

fn counted(models: &[String]) -> BTreeMap<&str, u32> {
    let mut counts = BTreeMap::new();
    for model in models {
        *counts.entry(model.as_str()).or_insert(0) += 1;
    }
    counts
}

fn usable(counts: &BTreeMap<&str, u32>, model: Option<&str>) -> u32 {
    model.map_or_else(|| counts.values().sum(), |model| counts.get(model).copied().unwrap_or(0))
}

/// Thousandths of cores in words: `4`, `1.5`, `0.125`.
fn cores(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes in words: whole GiB where they are, else MiB, rounded down.
fn bytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}
