//! From live facts to a queue: names become places in tables, so that a pass is the same whatever things are called.

mod never;
mod node;
mod shape;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::{Bound, END_MS, ENDLESS_MS, Item, PAST_MAX, Place, Room, Run, START_MS, Snapshot, Waiting, words};
use crate::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    place::Level,
    queue::{
        self, Ask, Class, Config, End, Ground, Mixed, Policy, Queue, Quota, Record, Share, ShareId, Slot,
        Snapshot as State, Stage, Usage,
    },
    time::Time,
};
use shape::Shapes;

/// What all organisations together may use beyond their own: the machines are the limit, not the top of the tree.
const TOP: u32 = 1 << 30;

/// A queue made of a snapshot, and what its places stand for.
pub(super) struct Built<'a> {
    pub(super) queue: Queue,
    pub(super) now_ms: u64,
    pub(super) sites: Vec<SiteId>,
    pub(super) rooms: BTreeMap<SiteId, &'a Room>,
    /// Site and place there of every node.
    pub(super) nodes: Vec<(usize, u32)>,
    pub(super) waiting: BTreeMap<JobId, &'a Waiting>,
    pub(super) running: BTreeMap<JobId, &'a Bound>,
    pub(super) never: Vec<(JobId, String)>,
}

/// The places that names have.
struct Tables<'a> {
    /// What keeps things apart: by whose it is, and its name.
    apart: BTreeMap<(OrganisationId, ProjectId, &'a str), u32>,
    skus: BTreeMap<String, u16>,
    models: BTreeMap<String, u16>,
    sites: BTreeMap<SiteId, u16>,
    organisations: BTreeMap<OrganisationId, ShareId>,
    projects: BTreeMap<(OrganisationId, ProjectId), ShareId>,
    /// Whether any node is for somebody alone.
    owned: bool,
}

/// Names of what holds room, each once.
struct Names {
    taken: BTreeSet<JobId>,
    next: u128,
}

impl Names {
    /// A job's own name. What stands has none, and a name that is taken means another job to a queue: both hold their room
    /// under one that nobody has, from the end of the range, where none of ours comes near.
    fn of(&mut self, job: Option<JobId>) -> JobId {
        if let Some(job) = job.filter(|job| self.taken.insert(*job)) {
            return job;
        }
        loop {
            let nobody = JobId::from_u128(self.next);
            self.next -= 1;
            if self.taken.insert(nobody) {
                return nobody;
            }
        }
    }
}

impl<'a> Built<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, now: Time) -> Self {
        let policy = Policy::live();
        let rooms: BTreeMap<SiteId, &Room> = snapshot.rooms.iter().map(|room| (room.site, room)).collect();
        let mut never = Vec::new();
        let mut hoping = Vec::with_capacity(snapshot.waiting.len());
        // A name that comes twice is one job: the first of them.
        let mut once: BTreeSet<JobId> = BTreeSet::new();
        for job in snapshot.waiting.iter().filter(|job| once.insert(job.job)) {
            match never::never_fits(job, &rooms) {
                Some(reason) => never.push((job.job, reason)),
                None => hoping.push(job),
            }
        }
        // Who waits longest came first; of one instant, who was submitted first.
        hoping.sort_by_key(|job| job.since);
        let tables = Tables::of(snapshot, &rooms, &hoping);
        let mut shapes = Shapes::default();
        let (mut nodes, mut places) = (Vec::new(), Vec::new());
        let mut records: Vec<Record> = Vec::new();
        let mut running = BTreeMap::new();
        let mut names = Names { taken: hoping.iter().map(|job| job.job).collect(), next: u128::MAX };
        for (site, place) in &tables.sites {
            let first = count(nodes.len());
            let room = rooms.get(site);
            let mut made = room.map_or_else(Vec::new, |room| node::nodes(room, *place, &tables));
            if made.is_empty() {
                made.push((0, node::unknown(*place)));
            }
            let at: BTreeMap<u32, u32> = made.iter().map(|(at, _)| *at).zip(first..).collect();
            places.extend(made.iter().map(|(at, _)| (usize::from(*place), *at)));
            nodes.extend(made.into_iter().map(|(_, node)| node));
            // What is bound to a node that is gone has its room somewhere: it counts on the last.
            let node = |place: &Place| at.get(&place.node).or(at.values().next_back()).copied().unwrap_or(first);
            for bound in room.into_iter().flat_map(|room| &room.bound) {
                let seq = records.len() as u64;
                let job = names.of(bound.job);
                running.insert(job, bound);
                let members = count(bound.places.len()).max(1);
                let item = Item { members, ..bound.item.clone() };
                let ask = shapes.ask(job, &item, None, &[*place], &tables);
                let units = item.units_each();
                let slot = |place: &Place| Slot { node: node(place), gpus: units, part: place.gpus.first().copied() };
                let mut slots: Vec<Slot> = bound.places.iter().map(slot).collect();
                if slots.is_empty() {
                    slots.push(slot(&Place::on(0)));
                }
                records.push(bound_record(bound, ask, seq, slots));
            }
        }
        let mut holders: Vec<Option<(Time, u64)>> = vec![None; tables.sites.len()];
        let (mut sites, mut same): (Vec<u16>, Option<&[SiteId]>) = (Vec::new(), None);
        for job in &hoping {
            let seq = records.len() as u64;
            // Many may run at the same sites.
            if same != Some(&job.sites) {
                sites = lawful(job).iter().filter_map(|site| tables.sites.get(site).copied()).collect();
                same = Some(&job.sites);
            }
            let held = job.promised.and_then(|promised| {
                let place = *tables.sites.get(&promised.site).filter(|place| sites.contains(place))?;
                Some((usize::from(place), (promised.at, seq)))
            });
            if let Some((place, claim)) = held {
                holders[place] = Some(holders[place].map_or(claim, |other| other.min(claim)));
            }
            // What has no end says nothing of how much work it is.
            let limit_ms = (job.limit_ms != ENDLESS_MS).then(|| job.limit_ms.saturating_add(allowed_ms()));
            let ask = shapes.ask(job.job, &job.item, limit_ms, &sites, &tables);
            records.push(waiting_record(job, ask, seq));
        }
        let blocks = blocks(&rooms, &tables, &mut shapes);
        let ground = Ground::Mixed(Mixed {
            blocks,
            skus: u16::try_from(tables.skus.len()).unwrap_or(u16::MAX).max(1),
            sites: u16::try_from(tables.sites.len()).unwrap_or(u16::MAX),
            models: u16::try_from(tables.models.len()).unwrap_or(u16::MAX),
            nodes,
            usual: shapes.usual(records.iter().map(|record| record.ask.shape), &snapshot.past, &tables),
            shapes: shapes.shapes,
        });
        let state = State {
            now_ms: ms(now),
            next_seq: records.len() as u64,
            history: history(&snapshot.past, &tables, policy.history_runs),
            usage: usage(snapshot, &tables, &policy, ms(now)),
            holders: holders.into_iter().map(|holder| holder.map(|(_, seq)| seq)).collect(),
            config: Config { ground, shares: shares(snapshot, &tables), policy },
            records,
        };
        Self {
            // Every place and share was made a line above from what is looked up in it.
            queue: Queue::of_snapshot(state).expect("what is built of tables agrees with them"),
            now_ms: ms(now),
            sites: tables.sites.keys().copied().collect(),
            rooms,
            nodes: places,
            waiting: hoping.into_iter().map(|job| (job.job, job)).collect(),
            running,
            never,
        }
    }

    /// Which of a site's nodes one of the queue's is.
    pub(super) fn node(&self, node: u32) -> (SiteId, u32) {
        let (site, place) = self.nodes[node as usize];
        (self.sites[site], place)
    }
}

/// What a start and an end take beyond a job's limit, in milliseconds.
pub(super) fn allowed_ms() -> u64 {
    (START_MS + END_MS).unsigned_abs()
}

/// A time as the queue counts it: nothing was before 1970.
pub(super) fn ms(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(0)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Each once, sorted: as whoever keeps a queue has them, and as anybody else might not.
fn lawful(job: &Waiting) -> Cow<'_, [SiteId]> {
    if job.sites.is_sorted_by(|one, next| one < next) {
        return Cow::Borrowed(&job.sites);
    }
    let sites: BTreeSet<SiteId> = job.sites.iter().copied().collect();
    Cow::Owned(sites.into_iter().collect())
}

impl<'a> Tables<'a> {
    fn of(snapshot: &'a Snapshot, rooms: &BTreeMap<SiteId, &Room>, waiting: &[&'a Waiting]) -> Self {
        let bound = || snapshot.rooms.iter().flat_map(|room| &room.bound);
        let reserved = || snapshot.rooms.iter().flat_map(|room| &room.reserved);
        let items = || {
            let there = bound().map(|bound| &bound.item).chain(reserved().map(|block| &block.item));
            waiting.iter().map(|job| &job.item).chain(there)
        };
        let mut skus: BTreeSet<&str> = items().map(|item| item.sku.as_str()).collect();
        skus.extend(snapshot.past.iter().map(|run| run.sku.as_str()));
        let apart: BTreeSet<(OrganisationId, ProjectId, &str)> =
            items().filter_map(|item| Some((item.organisation, item.project, item.apart.as_deref()?))).collect();
        let nodes = snapshot.rooms.iter().flat_map(|room| &room.nodes);
        let mut models: BTreeSet<&str> =
            nodes.flat_map(|node| node.gpus.iter().chain(&node.gpus_broken)).map(String::as_str).collect();
        models.extend(items().filter_map(|item| item.gpu_model.as_deref()));
        let mut sites: BTreeSet<SiteId> = rooms.keys().copied().collect();
        let mut same: Option<&[SiteId]> = None;
        for job in waiting.iter().filter(|job| same.replace(&job.sites) != Some(&job.sites)) {
            sites.extend(&job.sites);
        }
        let mut who: BTreeSet<(OrganisationId, ProjectId)> =
            items().map(|item| (item.organisation, item.project)).collect();
        who.extend(snapshot.past.iter().map(|run| (run.organisation, run.project)));
        let kept: Vec<_> =
            snapshot.rooms.iter().flat_map(|room| &room.nodes).filter_map(|node| node.only_for).collect();
        who.extend(kept.iter().filter_map(|(owner, project)| Some((*owner, (*project)?))));
        // Whoever owns something that others may borrow is there, whether or not it wants any now.
        let rows = snapshot.quotas.iter();
        let owners: BTreeSet<OrganisationId> = (who.iter().map(|(owner, _)| *owner))
            .chain(rows.clone().map(|row| row.organisation))
            .chain(kept.iter().map(|(owner, _)| *owner))
            .collect();
        who.extend(rows.filter_map(|row| Some((row.organisation, row.project?))));
        // The top of the tree is share 0.
        let organisations: BTreeMap<_, _> = owners.into_iter().zip((1..).map(ShareId)).collect();
        let first = count(organisations.len()) + 1;
        let named = |names: BTreeSet<&str>| names.into_iter().map(ToOwned::to_owned).zip(0..).collect();
        Self {
            skus: named(skus),
            models: named(models),
            sites: sites.into_iter().zip(0..).collect(),
            projects: who.into_iter().zip((first..).map(ShareId)).collect(),
            organisations,
            apart: apart.into_iter().zip(0..).collect(),
            owned: !kept.is_empty(),
        }
    }

    /// The share that a node is for.
    fn owner(&self, (organisation, project): (OrganisationId, Option<ProjectId>)) -> ShareId {
        match project {
            Some(project) => self.share(organisation, project),
            None => self.organisations.get(&organisation).copied().unwrap_or(ShareId(0)),
        }
    }

    fn share(&self, organisation: OrganisationId, project: ProjectId) -> ShareId {
        self.projects.get(&(organisation, project)).copied().unwrap_or(ShareId(0))
    }

    fn sku(&self, name: &str) -> u16 {
        self.skus.get(name).copied().unwrap_or(0)
    }
}

/// What is reserved and has not begun, at every site.
fn blocks(rooms: &BTreeMap<SiteId, &Room>, tables: &Tables, shapes: &mut Shapes) -> Vec<queue::Block> {
    let mut blocks = Vec::new();
    for (site, room) in rooms {
        let Some(site) = tables.sites.get(site).copied() else { continue };
        for block in &room.reserved {
            let item = Item { within: Some(Level::Node), ..block.item.clone() };
            let ask = shapes.ask(JobId::from_u128(0), &item, None, &[site], tables);
            let (at_ms, free_ms) = (ms(block.from), ms(block.until));
            blocks.push(queue::Block { site, shape: ask.shape, at_ms, free_ms });
        }
    }
    // In any order they mean the same; in one order they are decided alike.
    blocks.sort_by_key(|block| (block.site, block.at_ms, block.free_ms, block.shape));
    blocks
}

fn bound_record(bound: &Bound, ask: Ask, seq: u64, slots: Vec<Slot>) -> Record {
    let since_ms = ms(bound.since);
    let end = match (bound.job, bound.free_at.or(bound.told)) {
        (None, None) => End::Never,
        (Some(_), None) => End::Unknown,
        (_, Some(at)) => End::At(ms(at)),
    };
    let stage = match bound.told {
        Some(told) => Stage::Stopping { since_ms, told_ms: ms(told), slots },
        None => Stage::Running { since_ms, slots },
    };
    // What stands is nobody's to stop, whenever it ends.
    let ask = Ask { preemptible: ask.preemptible && bound.job.is_some(), ..ask };
    let Item { worked_ms, stops, .. } = bound.item;
    Record { ask, seq, submitted_ms: since_ms, worked_ms, stops, promised_ms: None, end, stage }
}

fn waiting_record(job: &Waiting, ask: Ask, seq: u64) -> Record {
    let since_ms = ms(job.since);
    Record {
        ask,
        seq,
        submitted_ms: since_ms,
        worked_ms: job.item.worked_ms,
        stops: job.item.stops,
        promised_ms: job.promised.map(|promised| ms(promised.at)),
        end: if job.limit_ms == ENDLESS_MS { End::Never } else { End::Limit },
        stage: Stage::Waiting { since_ms },
    }
}

/// The quota tree: everything, organisations, projects.
fn shares(snapshot: &Snapshot, tables: &Tables) -> Vec<Share> {
    let weights: BTreeMap<OrganisationId, u32> =
        snapshot.weights.iter().map(|weight| (weight.organisation, weight.weight)).collect();
    let skus = tables.skus.len().max(1);
    let top = Quota { guarantee: TOP, ..Quota::default() };
    let mut shares = vec![Share { parent: None, weight: 1, quotas: vec![top; skus] }];
    let free = || vec![Quota::default(); skus];
    for organisation in tables.organisations.keys() {
        let weight = weights.get(organisation).copied().unwrap_or(1);
        shares.push(Share { parent: Some(ShareId(0)), weight, quotas: free() });
    }
    for (organisation, _) in tables.projects.keys() {
        let parent = tables.organisations.get(organisation).copied();
        shares.push(Share { parent: parent.or(Some(ShareId(0))), weight: 1, quotas: free() });
    }
    // What an organisation owns holds its projects' guarantees: in the tree each stands once.
    let mut given: BTreeMap<(OrganisationId, &str), u32> = BTreeMap::new();
    for row in snapshot.quotas.iter().filter(|row| row.project.is_some()) {
        let sum = given.entry((row.organisation, &row.sku)).or_default();
        *sum = sum.saturating_add(row.guarantee);
    }
    for row in &snapshot.quotas {
        let Some(sku) = tables.skus.get(&row.sku).map(|sku| usize::from(*sku)) else { continue };
        let share = match row.project {
            Some(project) => tables.share(row.organisation, project),
            None => tables.organisations.get(&row.organisation).copied().unwrap_or(ShareId(0)),
        };
        let parts = given.get(&(row.organisation, row.sku.as_str())).filter(|_| row.project.is_none());
        let guarantee = row.guarantee.saturating_sub(parts.copied().unwrap_or(0)).min(TOP);
        let (borrow_max, lend_max) = (row.borrow_max, row.lend_max);
        shares[share.0 as usize].quotas[sku] = Quota { guarantee, borrow_max, lend_max };
    }
    shares
}

/// The runs that count, the oldest first.
fn lately(past: &[Run]) -> Vec<&Run> {
    let mut runs: Vec<&Run> = past.iter().collect();
    runs.sort_by_key(|run| (run.ended, run.job));
    runs.drain(..runs.len().saturating_sub(PAST_MAX));
    runs
}

fn history(past: &[Run], tables: &Tables, keep: usize) -> Vec<(Class, Vec<u64>)> {
    let mut classes: BTreeMap<Class, Vec<u64>> = BTreeMap::new();
    for run in lately(past) {
        let share = tables.share(run.organisation, run.project);
        let limit_ms = run.limit_ms.saturating_add(allowed_ms());
        let class = Class::of(share, tables.sku(&run.sku), run.units(), Some(limit_ms));
        // A run of more than a century is none; the sum of all stays in range.
        classes.entry(class).or_default().push(run.ran_ms.min(1 << 42));
    }
    for runs in classes.values_mut() {
        runs.drain(..runs.len().saturating_sub(keep.max(1)));
    }
    classes.into_iter().collect()
}

/// What every organisation used lately of each kind, and uses now.
fn usage(snapshot: &Snapshot, tables: &Tables, policy: &Policy, now_ms: u64) -> Vec<(ShareId, u16, Usage)> {
    let mut usage: BTreeMap<(ShareId, u16), Usage> = BTreeMap::new();
    let mut add = |organisation, sku: &str, used: Usage, gpus: u64| {
        let Some(share) = tables.organisations.get(&organisation) else { return };
        let sum = usage.entry((*share, tables.sku(sku))).or_insert(Usage { faded: 0, at_ms: now_ms, gpus: 0 });
        sum.faded = sum.faded.saturating_add(used.at(now_ms, policy.usage_half_life_ms).faded).min(u64::MAX >> 1);
        sum.gpus += gpus;
    };
    for used in &snapshot.used {
        let faded = used.faded_at(now_ms, policy.usage_half_life_ms);
        add(used.organisation, &used.sku, Usage { faded, at_ms: now_ms, gpus: 0 }, 0);
    }
    // Where it is kept, these runs are part of it.
    let past = if snapshot.used.is_empty() { lately(&snapshot.past) } else { Vec::new() };
    for run in past {
        let faded = run.ran_ms.saturating_mul(u64::from(run.units()));
        add(run.organisation, &run.sku, Usage { faded, at_ms: ms(run.ended), gpus: 0 }, 0);
    }
    for bound in snapshot.rooms.iter().flat_map(|room| &room.bound) {
        let gpus = u64::from(bound.item.units());
        add(bound.item.organisation, &bound.item.sku, Usage { faded: 0, at_ms: ms(bound.since), gpus }, gpus);
    }
    usage.into_iter().map(|((share, sku), usage)| (share, sku, usage)).collect()
}
