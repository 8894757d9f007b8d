//! What a pass decided, in words its jobs' owners can act on. Never another tenant's names.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Bound, Cause, Decision, END_MS, ENDLESS_MS, Place, Promise, Room, START_MS, Waiting,
    build::{Built, ms},
    words::{self, Amounts, jobs_ahead, listed, moment, shortage, unit},
};
use crate::{
    id::{JobId, SiteId},
    queue::{self, Guard, Kept, Slot},
    time::Time,
};

/// A promise is moved forward only if the job would start so many milliseconds earlier: nothing moves for nothing.
const SOONER_MS: i64 = 60_000;

/// A pass that was made, to be spoken of.
pub(super) struct Said<'a> {
    built: &'a Built<'a>,
    now: Time,
    starts: BTreeMap<JobId, (SiteId, Vec<Place>)>,
    stops: Vec<(JobId, JobId)>,
    guards: BTreeMap<SiteId, Vec<(JobId, Guard)>>,
    /// What is kept for whom.
    kept: BTreeMap<JobId, Promise>,
}

impl<'a> Said<'a> {
    pub(super) fn new(built: &'a Built<'a>, now: Time, decided: Vec<queue::Decision>, guards: Vec<Guard>) -> Self {
        let mut said = Self {
            built,
            now,
            starts: BTreeMap::new(),
            stops: Vec::new(),
            guards: BTreeMap::new(),
            kept: BTreeMap::new(),
        };
        for decision in decided {
            match decision {
                queue::Decision::Start { job, slots } => {
                    let place =
                        |slot: &Slot| Place { node: built.node(slot.node).1, gpus: slot.part.into_iter().collect() };
                    let mut places: Vec<Place> = slots.iter().map(place).collect();
                    places.sort_unstable();
                    said.starts.extend(slots.first().map(|slot| (job, (built.node(slot.node).0, places))));
                }
                queue::Decision::Stop { job, for_job } => said.stops.push((job, for_job)),
                // What is promised stands in the guards.
                queue::Decision::Promise { .. } => {}
            }
        }
        for guard in guards {
            let Some((job, site)) = built.queue.job_of(guard.seq).zip(built.sites.get(guard.place)) else { continue };
            said.guards.entry(*site).or_default().push((job, guard));
        }
        for (site, guards) in &said.guards {
            for (job, at_ms) in guards.iter().filter_map(|(job, guard)| Some((*job, guard.at_ms?))) {
                said.kept.entry(job).or_insert(Promise { at: time(at_ms), site: *site });
            }
        }
        said
    }

    /// What is said of every job that waited, in this order; words only where they are wanted.
    pub(super) fn of(&self, order: &[JobId], wanted: &super::Said<'_>) -> Vec<Decision> {
        let mut ahead = Ahead::default();
        let mut causes = Causes::new(self);
        let mut decisions = Vec::with_capacity(order.len());
        for waiting in order.iter().filter_map(|job| self.built.waiting.get(job)) {
            let job = waiting.job;
            if let Some((site, places)) = self.starts.get(&job) {
                decisions.push(Decision::Start { job, site: *site, places: places.clone() });
                continue;
            }
            let (causes, promise) = (causes.of(waiting), self.promise(waiting));
            let reason = if wanted(job, &causes, promise) {
                let missing = self.missing(waiting, &ahead);
                match promise {
                    Some(promise) => format!("{missing}; starts no later than {}", moment(promise.at)),
                    None => missing,
                }
            } else {
                String::new()
            };
            decisions.push(Decision::Wait { job, causes, reason, promise });
            ahead.add(waiting, &self.built.rooms);
        }
        decisions
    }

    /// Who makes room, and why it is them.
    pub(super) fn stops(&self) -> Vec<Decision> {
        let said = |(job, for_job): &(JobId, JobId)| {
            let reason = self.gives_way(self.built.running.get(job)?, self.built.waiting.get(for_job)?);
            Some(Decision::Stop { job: *job, for_job: *for_job, reason })
        };
        self.stops.iter().filter_map(said).collect()
    }

    fn gives_way(&self, bound: &Bound, other: &Waiting) -> String {
        let (mine, its) = (bound.item.priority, other.item.priority);
        let why = if its > mine {
            // Whose it is, and how high exactly, is not for this one's owner.
            format!("to one of higher priority (this one has {mine})")
        } else if self.built.queue.is_guaranteed(other.job) && bound.item.organisation != other.item.organisation {
            "to one that uses its organisation's own quota; this one runs on what was borrowed".into()
        } else {
            "to one that has waited longer or worked less".into()
        };
        format!("saves its work and gives way {why}; it waits again, and goes on from its checkpoint")
    }

    /// What a job that waits is promised: what is kept for it, or else what was said before.
    fn promise(&self, waiting: &Waiting) -> Option<Promise> {
        let old = waiting.promised.filter(|old| waiting.sites.contains(&old.site));
        // While nobody knows better, what was said stands.
        let Some(new) = self.kept.get(&waiting.job).copied() else { return old };
        Some(old.map_or(new, |old| newer(old, new)))
    }

    fn missing(&self, job: &Waiting, ahead: &Ahead<'_>) -> String {
        if let Some(short) = self.built.queue.quota_short(job.job) {
            let (asked, unit) = (job.item.units(), unit(&job.item));
            let lack = u64::from(asked).saturating_sub(short.available);
            return format!(
                "{lack} of {asked} {unit} of `{}` short within its quota ({} used, {} its own): it helps to end a job of \
                 the same project or organisation, or to ask for a larger quota",
                job.item.sku, short.used, short.owned
            );
        }
        let unknown = || "a site it may run at has not said what it has yet".to_owned();
        let of_site = |site: &SiteId| {
            let room = self.built.rooms.get(site);
            room.map_or_else(unknown, |room| self.refusal(job, room, ahead.at(*site)))
        };
        let parts: BTreeSet<String> = job.sites.iter().map(of_site).collect();
        listed(parts.into_iter().collect())
    }

    /// Why a job does not start at a site now.
    fn refusal(&self, job: &Waiting, room: &Room, ahead: u32) -> String {
        let name = &room.name;
        if !room.alive {
            return room.silence();
        }
        if !room.is_known() {
            return format!("`{name}` has not said what it has yet");
        }
        if let Some(short) = self.short(job, room) {
            let reserved = room.bound.iter().filter(|bound| bound.job.is_none()).filter_map(|bound| bound.free_at);
            return match reserved.filter(|at| *at > self.now).min() {
                Some(at) => format!("{short}; reserved room there is free again at {}", moment(at)),
                None => short,
            };
        }
        if let Some(reserved) = self.reserved(job, room) {
            return reserved;
        }
        match self.guard_against(job.job, room.site) {
            Some(guard) if guard.at_ms.is_some() || self.built.queue.is_promised(guard.seq) => {
                self.behind(job, guard, name)
            }
            _ if ahead > 0 => format!("{} for room at `{name}`", jobs_ahead(ahead)),
            _ => format!("the room at `{name}` is kept for a job that others make room for"),
        }
    }

    /// What is missing at a site.
    fn short(&self, job: &Waiting, room: &Room) -> Option<String> {
        let site = self.built.sites.binary_search(&room.site).ok()?;
        // Nodes stand by site.
        let nodes = &self.built.nodes;
        let (first, end) = (nodes.partition_point(|(at, _)| *at < site), nodes.partition_point(|(at, _)| *at <= site));
        let (mut kept, mut open): (Vec<Kept>, Vec<u32>) = (Vec::new(), Vec::new());
        for node in first..end {
            let node = u32::try_from(node).unwrap_or(u32::MAX);
            match self.built.queue.kept(job.job, node) {
                Some(why) => kept.push(why),
                None => open.push(node),
            }
        }
        if job.item.members() > 1 {
            let (fit, members) = self.built.queue.members_fit(job.job, site)?;
            return (fit < members).then(|| words::gang_short(&job.item, fit, &room.name));
        }
        if open.is_empty() {
            let until = kept.iter().filter_map(|why| if let Kept::Until(ms) = why { Some(time(*ms)) } else { None });
            return Some(words::kept(until.max(), &room.name));
        }
        self.short_on(job, room, &open)
    }

    /// What is missing on the one of these nodes that lacks least.
    fn short_on(&self, job: &Waiting, room: &Room, nodes: &[u32]) -> Option<String> {
        let mut least: Option<((u32, u16, u64, u64), String)> = None;
        let mut apart = false;
        for node in nodes {
            let Some((free, all)) = self.built.queue.free_all(job.job, *node) else { continue };
            let (alone, free, all) = (free.alone, Amounts::from(free), Amounts::from(all));
            let lack = (
                job.item.gpus.saturating_sub(free.gpus),
                job.item.gpu_milli.saturating_sub(free.milli),
                u64::from(job.item.cpus_milli).saturating_sub(free.cpus_milli),
                job.item.memory_bytes.saturating_sub(free.memory_bytes),
            );
            let is_less = least.as_ref().is_none_or(|(before, _)| lack < *before);
            match shortage(&job.item, &free, &all) {
                None if alone => return None,
                None => apart = true,
                Some(short) if is_less => least = Some((lack, short)),
                Some(_) => {}
            }
        }
        if apart {
            return Some(words::not_apart(&job.item, &room.name));
        }
        let place = if room.nodes.len() > 1 { "on any one machine at" } else { "at" };
        least.map(|(_, short)| format!("{short} {place} `{}`", room.name))
    }

    /// It would fit, but would still be there when something reserved begins.
    fn reserved(&self, job: &Waiting, room: &Room) -> Option<String> {
        let at = self.reserved_at(job, room)?;
        Some(self.unless_shorter(job, at, format!("room at `{}` is reserved from {} on", room.name, moment(at))))
    }

    /// From when on room that it would still have is reserved.
    fn reserved_at(&self, job: &Waiting, room: &Room) -> Option<Time> {
        let until = self.built.queue.until_ms(job.job)?;
        room.reserved.iter().map(|block| block.from).filter(|from| until > ms(*from)).min()
    }

    /// It would fit, but for a promise; a shorter limit may help.
    fn behind(&self, job: &Waiting, guard: &Guard, name: &str) -> String {
        let Some(at) = guard.at_ms.map(time) else {
            return format!("a job ahead of it was promised the room at `{name}`");
        };
        let promised = format!("a job ahead of it was promised the room at `{name}` for {}", moment(at));
        self.unless_shorter(job, at, promised)
    }

    /// Why a job waits, and the limit with which it would be gone by then.
    fn unless_shorter(&self, job: &Waiting, at: Time, promised: String) -> String {
        match self.seconds_before(job, at) {
            Some(seconds) => format!("{promised}; a limit of {seconds} s or less would let it start now"),
            None => promised,
        }
    }

    /// The limit in seconds with which a job would be out of the way by some time, if that is shorter than its own.
    fn seconds_before(&self, job: &Waiting, at: Time) -> Option<u64> {
        // A job is told to stop by its limit in all, what it worked before included.
        let worked = i64::try_from(job.item.worked_ms).unwrap_or(i64::MAX);
        let left = at.millis_since(self.now) - START_MS - END_MS - self.built.queue.restart_ms(job.job);
        let seconds = u64::try_from(left.saturating_add(worked).div_euclid(1000)).ok()?;
        let is_shorter = job.limit_ms != ENDLESS_MS && seconds.saturating_mul(1000) < job.limit_ms;
        (left > 0 && seconds > 0 && is_shorter).then_some(seconds)
    }

    /// The guard that keeps a site's room from a job.
    fn guard_against(&self, job: JobId, site: SiteId) -> Option<&Guard> {
        let guards = self.guards.get(&site).into_iter().flatten().filter(|(other, _)| *other != job);
        guards.map(|(_, guard)| guard).max_by_key(|guard| guard.at_ms)
    }
}

/// Why jobs wait, one after another: many may run at the same sites, so that the answer is often the one before.
struct Causes<'s, 'a> {
    said: &'s Said<'a>,
    before: Option<(&'a [SiteId], Vec<Cause>)>,
    /// Sites with room for a kind of job that is kept for somebody.
    kept: BTreeMap<Kind<'a>, Vec<SiteId>>,
    /// Whether some machine is for some only, or for some time: then whose a job is counts as well, and how long it runs.
    is_divided: bool,
}

impl<'s, 'a> Causes<'s, 'a> {
    fn new(said: &'s Said<'a>) -> Self {
        let mut nodes = said.built.rooms.values().flat_map(|room| &room.nodes);
        let is_divided = nodes.any(|node| node.only_for.is_some() || node.until.is_some());
        Self { said, before: None, kept: BTreeMap::new(), is_divided }
    }
}

impl<'a> Causes<'_, 'a> {
    fn of(&mut self, job: &'a Waiting) -> Vec<Cause> {
        if self.said.built.queue.quota_short(job.job).is_some() {
            return vec![Cause::Quota];
        }
        let mut causes = self.of_sites(job);
        if self.is_shorter_better(job) {
            causes.push(Cause::Limit);
            causes.sort_unstable();
        }
        causes
    }

    fn of_sites(&mut self, job: &'a Waiting) -> Vec<Cause> {
        if let Some((sites, causes)) = &self.before
            && *sites == job.sites
        {
            return causes.clone();
        }
        let cause = |site: &SiteId| match self.said.built.rooms.get(site) {
            Some(room) if !room.alive => Cause::Silent,
            Some(room) if room.is_known() => Cause::Room,
            _ => Cause::Unknown,
        };
        let causes: BTreeSet<Cause> = job.sites.iter().map(cause).collect();
        let causes: Vec<Cause> = causes.into_iter().collect();
        self.before = Some((&job.sites, causes.clone()));
        causes
    }

    fn is_shorter_better(&mut self, job: &'a Waiting) -> bool {
        let said = self.said;
        let has_room = |site: &SiteId| {
            let room = said.built.rooms.get(site).filter(|room| room.alive && room.is_known());
            let is_kept = |room: &&&Room| said.guards.contains_key(site) || !room.reserved.is_empty();
            room.filter(is_kept).is_some_and(|room| said.short(job, room).is_none())
        };
        let find = || job.sites.iter().copied().filter(has_room).collect::<Vec<_>>();
        // What keeps apart is a kind of its own.
        let alone = (self.is_divided || job.item.apart.is_some()).then(find);
        let sites = alone.as_ref().unwrap_or_else(|| self.kept.entry(kind(job)).or_insert_with(find));
        sites.iter().any(|site| {
            let guard = said.guard_against(job.job, *site).and_then(|guard| guard.at_ms).map(time);
            let reserved = || said.built.rooms.get(site).and_then(|room| said.reserved_at(job, room));
            guard.or_else(reserved).is_some_and(|at| said.seconds_before(job, at).is_some())
        })
    }
}

/// How many jobs of each kind were looked at so far and wait: whoever asks the same of the same sites is one kind.
#[derive(Default)]
struct Ahead<'a>(BTreeMap<Kind<'a>, (Vec<SiteId>, u32)>);

/// Cores, memory, accelerators, parts, their model, machines, how close, sites.
type Kind<'a> = (u32, u64, u32, u16, Option<&'a str>, u32, Option<super::Level>, &'a [SiteId]);

fn kind(job: &Waiting) -> Kind<'_> {
    let item = &job.item;
    let amounts = (item.cpus_milli, item.memory_bytes, item.gpus, item.gpu_milli);
    let model = item.gpu_model.as_deref();
    (amounts.0, amounts.1, amounts.2, amounts.3, model, item.members(), item.within, &job.sites)
}

impl<'a> Ahead<'a> {
    fn add(&mut self, job: &'a Waiting, rooms: &BTreeMap<SiteId, &Room>) {
        let (_, count) = self.0.entry(kind(job)).or_insert_with(|| {
            let item = &job.item;
            let fits = |site: &SiteId| rooms.get(site).is_some_and(|room| words::shortage_of_all(item, room).is_none());
            let sites: BTreeSet<SiteId> = job.sites.iter().copied().filter(fits).collect();
            (sites.into_iter().collect(), 0)
        });
        *count += 1;
    }

    /// How many wait for room at a site.
    fn at(&self, site: SiteId) -> u32 {
        let here = self.0.values().filter(|(sites, _)| sites.binary_search(&site).is_ok());
        here.map(|(_, count)| count).sum()
    }
}

/// The newer promise where it says something new: a later start must be said; an earlier one is news only if it is earlier
/// by something.
fn newer(old: Promise, new: Promise) -> Promise {
    let stands = new.at <= old.at && old.at.millis_since(new.at) < SOONER_MS;
    if stands { Promise { site: new.site, ..old } } else { new }
}

fn time(at_ms: u64) -> Time {
    Time::from_millis(i64::try_from(at_ms).unwrap_or(i64::MAX))
}
