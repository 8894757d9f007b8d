//! Which waiting job starts where, which running one makes room, and what a waiting one is promised: the live face of
//! [`crate::queue`]. Pure: a snapshot of live facts in, decisions with words out.
//!
//! What a pass does: it looks at jobs that were promised a start, the earliest promise first; then at those that wait too
//! long; then at the others by what lies within their owner's guarantee, by priority, by the work they have had, and by
//! the work expected of them. Each takes, of the nodes it may run on, the one after which what is free is the least in
//! pieces for what is usually asked for, and of these the one it fills best. All members of a job start at once, at one site
//! and within the group of the network it asks for, or none does.
//!
//! The first job that has to wait for a site's room is *promised a start* there: the time at which the limits of what runs
//! leave enough. Whoever passes it either ends before that by its own limit, or leaves room enough (EASY backfill,
//! Lifka 1995). Where no such time is known (something that runs there has no known end), nobody passes at all. What fits
//! nowhere, ever, is refused at once and keeps nothing. Nothing that was free before a pass is given out twice by it.
//!
//! A promise counts on limits, so it holds as long as runs end at theirs, and as long as a site stays as it is.
//!
//! What is reserved at a site ([`Room::reserved`]) is kept like a start that was promised for just then: whoever would still be
//! there goes only where enough is left over, promises count with it, and nobody is stopped for a start it forbids. An end that
//! nobody knows counts as none.

mod build;
pub mod record;
mod say;
pub(crate) mod words;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    place::Level,
    time::Time,
    used::Used,
};

use self::build::Built;

/// Milliseconds from a start to readiness that are allowed for: a job that is to be out of the way by some time counts with
/// its limit and this.
pub const START_MS: i64 = 300_000;
/// Milliseconds from a job's limit until its room is free, as allowed for: it is told to stop, and may save its work.
pub const END_MS: i64 = 60_000;
/// The most ended runs a snapshot holds: what is expected of a job, and what its organisation used lately, follow from
/// these. More are left out, the oldest first.
pub const PAST_MAX: usize = 1000;

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

/// Whose something is, and what it takes. The amounts are those of one member; every member takes them on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Who pays.
    pub organisation: OrganisationId,
    /// Who shares it.
    pub project: ProjectId,
    /// What quotas count it as, and what is learnt of others is learnt for it: the family of its SKU.
    pub sku: String,
    /// Thousandths of CPU cores it needs.
    pub cpus_milli: u32,
    /// Bytes of memory it needs.
    pub memory_bytes: u64,
    /// Accelerators it needs.
    pub gpus: u32,
    /// Model of the accelerators, if only one will do.
    pub gpu_model: Option<String>,
    /// Higher goes first.
    pub priority: u8,
    /// Whether it can save its work and be stopped for others.
    pub preemptible: bool,
    /// How often it was stopped for others.
    pub stops: u32,
    /// Milliseconds of work that its earlier runs did.
    pub worked_ms: u64,
    /// What quotas count for one member. 0: its accelerators, or one where it has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub units: u32,
    /// How many members it has. They start at one site at once, or none does. 0 counts as 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub members: u32,
    /// All members are within one such group. None: anywhere at one site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Level>,
    /// Whether the members go to as many different nodes as they can, rather than to as few.
    #[serde(default, skip_serializing_if = "is_false")]
    pub spread: bool,
    /// The part of one accelerator it needs, in thousandths from 1 to 999, where it needs no whole one.
    #[serde(default, skip_serializing_if = "is_zero_milli")]
    pub gpu_milli: u16,
    /// Items of the same project that bear the same name here never share a node. The members of one may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
}

impl Item {
    /// How many members it has: one at least.
    pub fn members(&self) -> u32 {
        self.members.max(1)
    }

    /// What quotas count for one member. An absurd count is cut so that all members' together is a number.
    pub fn units_each(&self) -> u32 {
        let each = if self.units == 0 { self.gpus.max(1) } else { self.units };
        each.min(u32::MAX / self.members())
    }

    /// What quotas count for all members.
    pub fn units(&self) -> u32 {
        self.units_each().saturating_mul(self.members())
    }
}

/// Where one member of something is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Which of the site's nodes.
    pub node: u32,
    /// On which of the node's shared accelerators its part lies. The scheduler numbers them from 0, on each node for itself:
    /// parts with one number share one accelerator. Which one that is, is the site's choice, as it is for whole ones, for
    /// which nothing stands here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<u8>,
}

impl Place {
    /// A node, with nothing said of its accelerators.
    pub const fn on(node: u32) -> Self {
        Self { node, gpus: Vec::new() }
    }
}

/// A waiting job as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which job.
    pub job: JobId,
    /// Whose it is, and what it needs.
    pub item: Item,
    /// Since when it waits.
    pub since: Time,
    /// The sites it may run at: where its data is and its residency policy allows. Empty means nowhere lawful.
    pub sites: Vec<SiteId>,
    /// The longest it may run once it is ready, in milliseconds, what its earlier runs did included; [`ENDLESS_MS`] for what
    /// has no end of its own.
    pub limit_ms: u64,
    /// The start it was promised by an earlier pass.
    pub promised: Option<Promise>,
}

/// What is bound to a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Which job. None: no job but something that stands, as a served model does, or room that is reserved. It takes its room
    /// until `free_at`, or for good, counts for its organisation's share, and is never stopped for others.
    pub job: Option<JobId>,
    /// Whose it is, and what it has.
    pub item: Item,
    /// Where each of its members is.
    pub places: Vec<Place>,
    /// Since when it has its room.
    pub since: Time,
    /// When its room is free again at the latest. None of a job: nobody knows, and it is not stopped for others.
    pub free_at: Option<Time>,
    /// When it was told to save its work and to stop for others, if it was.
    pub told: Option<Time>,
}

/// A node of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Thousandths of CPU cores.
    pub cpus_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Models of the healthy accelerators.
    pub gpus: Vec<String>,
    /// Models of those that are not fit for work now.
    pub gpus_broken: Vec<String>,
    /// The domain whose accelerators are linked to each other directly, if it is in any: a number of the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<u32>,
    /// The rack it stands in, if that is known: a number of the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<u32>,
    /// The leaf switch it hangs on, if that is known: a number of the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<u32>,
    /// Who alone may use it: an organisation, or one of its projects. None: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_for: Option<(OrganisationId, Option<ProjectId>)>,
    /// Only what has ended by then may use it, a start and an end allowed for ([`START_MS`], [`END_MS`]). What has no end, or
    /// whose end nobody knows, does not go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
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
    /// What it has. Empty: it has never said.
    pub nodes: Vec<Node>,
    /// What is bound to it.
    pub bound: Vec<Bound>,
    /// What is reserved and has not begun: nothing else is there by then. In any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<Block>,
}

/// Room that is reserved at a site from some time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Whose it is, and what it takes: its members on one machine.
    pub item: Item,
    /// From when on nothing else may be there, cleaning before it counted in.
    pub from: Time,
    /// When its room is anybody's again, cleaning after it counted in.
    pub until: Time,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which job.
    pub job: JobId,
    /// Who paid.
    pub organisation: OrganisationId,
    /// Who shared it.
    pub project: ProjectId,
    /// The family of its SKU.
    pub sku: String,
    /// Its accelerators, of one member.
    pub gpus: u32,
    /// Its limit, in milliseconds.
    pub limit_ms: u64,
    /// When it ended.
    pub ended: Time,
    /// How long it ran, in milliseconds.
    pub ran_ms: u64,
    /// What quotas count for all its members. 0: its accelerators, or one where it has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub units: u32,
}

impl Run {
    /// What quotas count for all its members.
    pub fn units(&self) -> u32 {
        if self.units == 0 { self.gpus.max(1) } else { self.units }
    }
}

/// What an organisation, or one of its projects, may use of a family of SKUs, in the units of its items.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuotaRow {
    /// Which organisation.
    pub organisation: OrganisationId,
    /// Which of its projects. None: the organisation as a whole, of which its projects' guarantees are parts.
    pub project: Option<ProjectId>,
    /// Which family of SKUs.
    pub sku: String,
    /// Its own.
    pub guarantee: u32,
    /// The most it may use beyond its own. None: as much as there is.
    pub borrow_max: Option<u32>,
    /// The most of its own that others may use while it does not. None: all of it.
    pub lend_max: Option<u32>,
}

/// An organisation's weight in fair sharing. Who has none stands at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Weight {
    /// Which organisation.
    pub organisation: OrganisationId,
    /// Its weight.
    pub weight: u32,
}

/// Everything a pass looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Waiting jobs, in the order they were submitted.
    pub waiting: Vec<Waiting>,
    /// Sites, in any order, each once. A site that has never said what it has stands here with no node, or not at all:
    /// nothing is refused for its sake.
    pub rooms: Vec<Room>,
    /// Quotas, in any order. Who has none borrows freely.
    pub quotas: Vec<QuotaRow>,
    /// Weights that are not 1, in any order.
    pub weights: Vec<Weight>,
    /// Runs that ended lately, in any order, at most [`PAST_MAX`] of which count.
    pub past: Vec<Run>,
    /// What organisations used lately, in any order, each and of each family once. Empty: what `past` comes to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<Used>,
}

/// Why a job waits, as far as its owner would act otherwise for it. How much is missing and who is ahead moves with every
/// start and every end in a busy cloud; this does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its quota is used up.
    Quota,
    /// Where it may run there is no room for it now, or what there is, is for others.
    Room,
    /// There is room for it, kept for another until some time: with a shorter limit it would start now.
    Limit,
    /// The reservation it is to run in has not begun.
    Reservation,
    /// A site where it may run does not answer.
    Silent,
    /// A site where it may run has not said what it has yet.
    Unknown,
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
        /// Where each of its members goes, by node.
        #[serde(default)]
        places: Vec<Place>,
    },
    /// It waits, and why.
    Wait {
        /// Which job.
        job: JobId,
        /// Why, each once, sorted.
        #[serde(default)]
        causes: Vec<Cause>,
        /// What is missing, how much, and what would help. Empty where nobody asked for the words.
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
    /// It runs, and saves its work and stops so that another can start.
    Stop {
        /// Which job.
        job: JobId,
        /// For whom.
        for_job: JobId,
        /// Why it is the one to make room, in words for its owner.
        reason: String,
    },
}

impl Decision {
    /// Which job it is about.
    pub const fn job(&self) -> JobId {
        match self {
            Self::Start { job, .. } | Self::Wait { job, .. } | Self::Never { job, .. } | Self::Stop { job, .. } => *job,
        }
    }
}

/// One pass, made at `now`: exactly one decision a waiting job, what can never run first, the others in the order they were
/// looked at; then who is stopped. The order of the rooms changes nothing.
pub fn schedule(snapshot: &Snapshot, now: Time) -> Vec<Decision> {
    schedule_saying(snapshot, now, &|_, _, _| true)
}

/// Whether a job that waits gets words, by its causes and what it is promised.
pub type Said<'a> = dyn Fn(JobId, &[Cause], Option<Promise>) -> bool + 'a;

/// As [`schedule`], but of those that wait only who is `said` gets words: those are most of the work of a pass over a long
/// queue, and mostly nobody reads them.
pub fn schedule_saying(snapshot: &Snapshot, now: Time, said: &Said<'_>) -> Vec<Decision> {
    let is_said = said;
    let mut built = Built::of(snapshot, now);
    let order = built.queue.order(built.now_ms);
    let (decided, guards) = built.queue.pass_seen(built.now_ms);
    let said = say::Said::new(&built, now, decided, guards);
    let mut decisions: Vec<Decision> = Vec::with_capacity(snapshot.waiting.len());
    let never = built.never.iter().map(|(job, reason)| Decision::Never { job: *job, reason: reason.clone() });
    decisions.extend(never);
    decisions.extend(said.of(&order, is_said));
    decisions.extend(said.stops());
    decisions
}

/// The order in which a pass at `now` would look at who waits.
pub fn order(snapshot: &Snapshot, now: Time) -> Vec<JobId> {
    let mut built = Built::of(snapshot, now);
    let mut order: Vec<JobId> = built.never.iter().map(|(job, _)| *job).collect();
    order.extend(built.queue.order(built.now_ms));
    order
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_zero_milli(milli: &u16) -> bool {
    *milli == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_false(said: &bool) -> bool {
    !*said
}

fn one() -> u32 {
    1
}

/// Amounts of what a site has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of CPU cores.
    pub cpus_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Accelerators of all models.
    pub gpus: u64,
}

impl Room {
    /// All it has, accelerators that are not fit for work included.
    pub fn all(&self) -> Amounts {
        let mut all = Amounts::default();
        for node in &self.nodes {
            all.cpus_milli += u64::from(node.cpus_milli);
            all.memory_bytes = all.memory_bytes.saturating_add(node.memory_bytes);
            all.gpus += node.gpus.len() as u64 + node.gpus_broken.len() as u64;
        }
        all
    }

    /// What is taken of it. It may be more than there is, where a site lost something.
    pub fn taken(&self) -> Amounts {
        let mut taken = Amounts::default();
        for item in self.bound.iter().map(|bound| &bound.item) {
            let members = u64::from(item.members());
            taken.cpus_milli = taken.cpus_milli.saturating_add(u64::from(item.cpus_milli).saturating_mul(members));
            let memory_bytes = item.memory_bytes.saturating_mul(members);
            taken.memory_bytes = taken.memory_bytes.saturating_add(memory_bytes);
            taken.gpus = taken.gpus.saturating_add(u64::from(item.gpus).saturating_mul(members));
        }
        // An accelerator that parts lie on counts once.
        let places = self.bound.iter().flat_map(|bound| &bound.places);
        let shared: BTreeSet<(u32, u8)> =
            places.flat_map(|place| place.gpus.iter().map(|gpu| (place.node, *gpu))).collect();
        taken.gpus += shared.len() as u64;
        taken
    }

    /// Whether it has ever said what it has.
    pub fn is_known(&self) -> bool {
        self.nodes.iter().any(|node| node.cpus_milli > 0 && node.memory_bytes > 0)
    }

    /// How a site that does not answer is spoken of. What is bound to it stays bound: unreachable is not failed.
    pub fn silence(&self) -> String {
        match self.silent_since {
            Some(since) => {
                format!("site `{}` unreachable since {since}; what runs there is not started elsewhere", self.name)
            }
            None => format!("site `{}` has never dialled in", self.name),
        }
    }
}
