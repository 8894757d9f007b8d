//! Whole days on sites of racks: gangs, parts of accelerators, neighbours that keep apart, machines that are kept for
//! somebody or until some time. What holds is counted anew from the world alone.

use std::collections::{BTreeMap, BTreeSet};

use gregal_core::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    place::Level,
    schedule::{
        Bound, Decision, END_MS, ENDLESS_MS, Item, Node, Place, Promise, Room, Run, START_MS, Snapshot, Waiting,
        record::{Change, Record, replay},
        schedule,
    },
    time::Time,
};
use proptest::prelude::*;

use crate::given::{self, cases};

/// How long saving takes at most, and loading again: what the live policy counts with.
const SAVE_MS: i64 = 60_000;
const MODELS: [&str; 2] = ["a100", "h100"];

/// A job of a day.
#[derive(Debug, Clone)]
struct Planned {
    comes: i64,
    item: Item,
    /// None: it stands until the day is over.
    limit_ms: Option<i64>,
    /// How much of what is allowed it takes to be ready, and of its limit to end, in thousandths.
    ready_milli: i64,
    ends_milli: i64,
    sites: Vec<u128>,
}

fn item() -> impl Strategy<Value = Item> {
    let gpus = prop_oneof![
        2 => (0..3u32).prop_map(|gpus| (gpus, 0)),
        2 => prop::sample::select(vec![250u16, 300, 500, 700]).prop_map(|milli| (0, milli)),
    ];
    let group = prop::option::of(prop::sample::select(vec![Level::Node, Level::Nvlink, Level::Rack, Level::Leaf]));
    let members = prop_oneof![2 => Just(1u32), 3 => 2..5u32];
    let who = (1..3u128, 1..3u128, 0..3u8, any::<bool>());
    let model = prop::option::of(prop::sample::select(&MODELS[..]));
    let apart = prop::option::weighted(0.3, prop::sample::select(vec!["web", "db"]));
    (who, 0..3u32, gpus, model, members, group, any::<bool>(), apart).prop_map(
        |(
            (organisation, project, priority, preemptible),
            cores,
            (gpus, gpu_milli),
            model,
            members,
            within,
            spread,
            apart,
        )| {
            // What is to fit on one machine has to fit on the usual one.
            let members = if within == Some(Level::Node) { members.min(2) } else { members };
            let gpus = if within == Some(Level::Node) { gpus.min(2 / members) } else { gpus };
            Item {
                organisation: OrganisationId::from_u128(organisation),
                project: ProjectId::from_u128(10 * organisation + project),
                sku: format!("{cores}-{gpus}-{gpu_milli}"),
                cpus_milli: cores * 500,
                memory_bytes: u64::from(cores) << 30,
                gpus,
                gpu_model: model.filter(|_| gpus > 0 || gpu_milli > 0).map(Into::into),
                priority,
                preemptible,
                members,
                within,
                spread,
                gpu_milli,
                apart: apart.map(Into::into),
                ..given::item(cores)
            }
        },
    )
}

fn planned(calm: bool) -> impl Strategy<Value = Planned> {
    let limit = (1..60i64, prop::bool::weighted(if calm { 0.0 } else { 0.1 }));
    let limit = limit.prop_map(|(limit, stands)| Some(limit).filter(|_| !stands));
    let sites = prop::sample::select(vec![vec![1u128], vec![1, 2]]);
    (0..100i64, item(), limit, 0..=1000i64, 0..=1000i64, sites).prop_map(
        move |(comes, item, limit, ready_milli, ends_milli, sites)| {
            let calm_item = |item: Item| Item { priority: 0, preemptible: false, ..item };
            Planned {
                comes: comes * 100_000,
                item: if calm { calm_item(item) } else { item },
                limit_ms: limit.map(|limit| limit * 200_000),
                ready_milli,
                ends_milli,
                sites,
            }
        },
    )
}

fn node(gpus: &[&str], at: Option<u32>) -> Node {
    Node {
        cpus_milli: 4000,
        memory_bytes: 4 << 30,
        gpus: gpus.iter().map(ToString::to_string).collect(),
        domain: at.map(|at| at / 2),
        rack: at.map(|at| at / 2),
        leaf: at.map(|at| at / 4),
        ..Node::default()
    }
}

/// A machine beside the usual ones: of any size, in any place, broken in part, kept for somebody or until some time.
fn other_node() -> impl Strategy<Value = Node> {
    let gpus = prop::collection::vec((prop::sample::select(&MODELS[..]), prop::bool::weighted(0.8)), 0..5);
    let owner = prop::option::of((1..3u128, prop::option::of(1..3u128)));
    (gpus, prop::option::of(0..8u32), owner, prop::option::of(0..200i64)).prop_map(|(gpus, at, owner, until)| {
        let models = |fit: bool| gpus.iter().filter(move |gpu| gpu.1 == fit).map(|gpu| gpu.0.to_owned()).collect();
        Node {
            gpus: models(true),
            gpus_broken: models(false),
            only_for: owner.map(|(organisation, project)| {
                let project = project.map(|project| ProjectId::from_u128(10 * organisation + project));
                (OrganisationId::from_u128(organisation), project)
            }),
            until: until.map(|until| Time::from_millis(until * 200_000)),
            ..node(&[], at)
        }
    })
}

/// Every job fits at the first site with nothing else there: four usual machines in one leaf, domain and rack.
fn sites() -> impl Strategy<Value = Vec<Vec<Node>>> {
    let more = || prop::collection::vec(other_node(), 0..4);
    (more(), more()).prop_map(|(more, other)| {
        let usual = || node(&["a100", "a100", "h100", "h100"], Some(0));
        vec![[vec![usual(), usual(), usual(), usual()], more].concat(), [vec![usual()], other].concat()]
    })
}

#[derive(Debug, Clone)]
struct Running {
    at: usize,
    site: u128,
    places: Vec<Place>,
    since: i64,
    ready: i64,
    end: Option<i64>,
    told: Option<i64>,
}

#[derive(Debug, Default, Clone)]
struct Fate {
    since: i64,
    worked_ms: i64,
    stops: u32,
    begun: bool,
    ended: bool,
    promised: Option<Promise>,
}

struct Day {
    jobs: Vec<Planned>,
    nodes: Vec<Vec<Node>>,
    runs: Vec<Running>,
    fates: Vec<Fate>,
    past: Vec<Run>,
    chain: Vec<Record>,
    last: Option<Snapshot>,
}

fn id(at: usize) -> JobId {
    JobId::from_u128(at as u128)
}

impl Day {
    fn new(jobs: Vec<Planned>, nodes: Vec<Vec<Node>>) -> Self {
        let fates = vec![Fate::default(); jobs.len()];
        Self { jobs, nodes, runs: vec![], fates, past: vec![], chain: vec![], last: None }
    }

    fn item(&self, at: usize) -> Item {
        let fate = &self.fates[at];
        Item { stops: fate.stops, worked_ms: fate.worked_ms.unsigned_abs(), ..self.jobs[at].item.clone() }
    }

    fn bound(&self, run: &Running, now: i64) -> Bound {
        let left = self.jobs[run.at].limit_ms.map(|limit| limit - self.fates[run.at].worked_ms);
        let free_at = left.filter(|_| run.ready <= now).map(|left| Time::from_millis(run.ready + left + END_MS));
        Bound {
            job: left.map(|_| id(run.at)),
            item: self.item(run.at),
            places: run.places.clone(),
            since: Time::from_millis(run.since),
            free_at,
            told: run.told.map(Time::from_millis),
        }
    }

    fn rooms(&self, now: i64) -> Vec<Room> {
        let room = |number: u128| Room {
            site: SiteId::from_u128(number),
            name: format!("home-{number}"),
            alive: true,
            silent_since: None,
            nodes: self.nodes[usize::try_from(number - 1).unwrap()].clone(),
            bound: self.runs.iter().filter(|run| run.site == number).map(|run| self.bound(run, now)).collect(),
            reserved: vec![],
        };
        vec![room(1), room(2)]
    }

    fn snapshot(&self, now: i64) -> Snapshot {
        let runs: BTreeSet<usize> = self.runs.iter().map(|run| run.at).collect();
        let here = |at: &usize| self.jobs[*at].comes <= now && !self.fates[*at].ended && !runs.contains(at);
        let mut here: Vec<usize> = (0..self.jobs.len()).filter(here).collect();
        here.sort_by_key(|at| (self.jobs[*at].comes, *at));
        let waiting = |at: usize| Waiting {
            job: id(at),
            item: self.item(at),
            since: Time::from_millis(self.fates[at].since.max(self.jobs[at].comes)),
            sites: self.jobs[at].sites.iter().map(|number| SiteId::from_u128(*number)).collect(),
            limit_ms: self.jobs[at].limit_ms.map_or(ENDLESS_MS, i64::unsigned_abs),
            promised: self.fates[at].promised,
        };
        let waiting = here.into_iter().map(waiting).collect();
        Snapshot { waiting, rooms: self.rooms(now), past: self.past.clone(), ..Snapshot::default() }
    }

    /// Ends what ends, and lets who has saved wait again.
    fn happen(&mut self, now: i64) {
        for run in std::mem::take(&mut self.runs) {
            let saved = run.told.map(|told| told + SAVE_MS);
            let fate = &mut self.fates[run.at];
            if let Some(end) = run.end.filter(|end| *end <= now && saved.is_none_or(|saved| *end <= saved)) {
                fate.ended = true;
                let Item { organisation, project, sku, gpus, .. } = self.jobs[run.at].item.clone();
                self.past.push(Run {
                    job: id(run.at),
                    organisation,
                    project,
                    sku,
                    gpus,
                    limit_ms: self.jobs[run.at].limit_ms.unwrap().unsigned_abs(),
                    ended: Time::from_millis(end),
                    ran_ms: (end - run.ready).max(0).unsigned_abs(),
                    units: self.jobs[run.at].item.units(),
                });
            } else if let Some(saved) = saved.filter(|saved| *saved <= now) {
                fate.worked_ms += (run.told.unwrap() - run.ready).max(0);
                (fate.since, fate.stops) = (saved, fate.stops + 1);
            } else {
                self.runs.push(run);
            }
        }
    }

    /// One pass; what comes of it, and when something happens next.
    fn pass(&mut self, now: i64) -> Result<Vec<i64>, TestCaseError> {
        let snapshot = self.snapshot(now);
        let decisions = schedule(&snapshot, Time::from_millis(now));
        renamed(&snapshot, now, &decisions)?;
        let at = Time::from_millis(now);
        let record = match (&self.last, self.chain.last()) {
            (Some(before), Some(link)) => {
                Record::since(at, &link.inputs_digest, Change::between(before, &snapshot), &decisions)
            }
            _ => Record::whole(at, snapshot.clone(), &decisions),
        };
        self.chain.push(serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap());
        self.last = Some(snapshot.clone());
        let mut answered = BTreeSet::new();
        let mut moments = Vec::new();
        for decision in decisions {
            let at = usize::try_from(decision.job().as_u128()).unwrap();
            let old = self.fates[at].promised;
            match decision {
                Decision::Start { site, places, job } => {
                    prop_assert!(answered.insert(job));
                    let late = old.is_some_and(|old| now > old.at.as_millis());
                    prop_assert!(!late, "{at} starts at {now}, promised {old:?}");
                    moments.extend(self.start(at, site.as_u128(), places, now)?);
                }
                Decision::Wait { promise, job, .. } => {
                    prop_assert!(answered.insert(job));
                    let kept = old.is_none_or(|old| promise.is_some_and(|new| new.at <= old.at));
                    prop_assert!(kept, "{at}: {old:?} became {promise:?} at {now}");
                    self.fates[at].promised = promise;
                }
                Decision::Never { reason, .. } => prop_assert!(false, "everything fits: {reason}"),
                Decision::Stop { .. } => {
                    let run = self.runs.iter_mut().find(|run| run.at == at).expect("it runs");
                    prop_assert!(run.told.is_none() && run.end.is_some());
                    run.told = Some(now);
                    moments.push(now + SAVE_MS);
                }
            }
        }
        prop_assert_eq!(answered.len(), snapshot.waiting.len());
        self.count()?;
        Ok(moments)
    }

    fn start(&mut self, at: usize, site: u128, places: Vec<Place>, now: i64) -> Result<Vec<i64>, TestCaseError> {
        let (job, fate) = (&self.jobs[at], &self.fates[at]);
        prop_assert!(job.sites.contains(&site), "a site it may not run at");
        prop_assert_eq!(places.len(), job.item.members as usize, "a gang in part");
        let nodes = &self.nodes[usize::try_from(site - 1).unwrap()];
        let on: Vec<&Node> = places.iter().map(|place| &nodes[place.node as usize]).collect();
        if job.item.members > 1 {
            let group = |(node, place): (&&Node, &Place)| match job.item.within {
                None => Some(0),
                Some(Level::Node) => Some(place.node),
                Some(Level::Nvlink) => node.domain,
                Some(Level::Rack) => node.rack,
                Some(Level::Leaf) => node.leaf,
            };
            let groups: BTreeSet<Option<u32>> = on.iter().zip(&places).map(group).collect();
            prop_assert!(groups.len() == 1 && !groups.contains(&None), "outside of its group: {groups:?}");
        }
        let again = if fate.worked_ms > 0 { SAVE_MS } else { 0 };
        let over = job.limit_ms.map(|limit| now + limit - fate.worked_ms + START_MS + END_MS + again);
        for node in on {
            let mine = |(organisation, project): (OrganisationId, Option<ProjectId>)| {
                organisation == job.item.organisation && project.is_none_or(|project| project == job.item.project)
            };
            prop_assert!(node.only_for.is_none_or(mine), "kept for another");
            let in_time = |until: Time| over.is_some_and(|over| over <= until.as_millis());
            prop_assert!(node.until.is_none_or(in_time), "still there when the machine has to be left");
        }
        let ready = now + START_MS * job.ready_milli / 1000;
        let end = |limit: i64| (ready + (limit - fate.worked_ms + END_MS) * job.ends_milli / 1000).max(now + 1);
        let end = job.limit_ms.map(end);
        let fate = &mut self.fates[at];
        (fate.begun, fate.promised) = (true, None);
        self.runs.push(Running { at, site, places, since: now, ready, end, told: None });
        Ok([Some(ready), end].into_iter().flatten().collect())
    }

    /// Counts everything anew.
    fn count(&self) -> Result<(), TestCaseError> {
        for (site, nodes) in (1..).zip(&self.nodes) {
            for (at, node) in (0..).zip(nodes) {
                let runs = self.runs.iter().filter(|run| run.site == site);
                let here: Vec<(&Item, &Place)> = runs
                    .flat_map(|run| run.places.iter().map(|place| (&self.jobs[run.at].item, place)))
                    .filter(|(_, place)| place.node == at)
                    .collect();
                prop_assert!(here.iter().map(|(item, _)| item.cpus_milli).sum::<u32>() <= node.cpus_milli);
                prop_assert!(here.iter().map(|(item, _)| item.memory_bytes).sum::<u64>() <= node.memory_bytes);
                let mut devices: BTreeMap<u8, (u32, BTreeSet<OrganisationId>, BTreeSet<&str>)> = BTreeMap::new();
                for (item, place) in &here {
                    prop_assert_eq!(place.gpus.len(), usize::from(item.gpu_milli > 0), "a part lies on one");
                    for gpu in &place.gpus {
                        let device = devices.entry(*gpu).or_default();
                        device.0 += u32::from(item.gpu_milli);
                        device.1.insert(item.organisation);
                        device.2.extend(item.gpu_model.as_deref());
                    }
                }
                for (used, owners, models) in devices.values() {
                    prop_assert!(*used <= 1000, "{used} thousandths of one");
                    prop_assert!(owners.len() == 1 && models.len() <= 1);
                }
                let whole = here.iter().map(|(item, _)| item.gpus as usize).sum::<usize>();
                prop_assert!(whole + devices.len() <= node.gpus.len(), "accelerators twice");
                for model in MODELS {
                    let of_it = here.iter().filter(|(item, _)| item.gpu_model.as_deref() == Some(model));
                    let whole: u32 = of_it.map(|(item, _)| item.gpus).sum();
                    let shared = devices.values().filter(|device| device.2.contains(model)).count();
                    let there = node.gpus.iter().filter(|gpu| *gpu == model).count();
                    prop_assert!(whole as usize + shared <= there, "a model twice");
                }
                let here = self.runs.iter().filter(|run| run.site == site);
                let here = here.filter(|run| run.places.iter().any(|place| place.node == at));
                let names = here.filter_map(|run| {
                    let item = &self.jobs[run.at].item;
                    Some((item.project, item.apart.as_ref()?))
                });
                let apart: Vec<_> = names.collect();
                prop_assert_eq!(apart.iter().collect::<BTreeSet<_>>().len(), apart.len(), "neighbours");
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<Self, TestCaseError> {
        let mut moments: BTreeSet<i64> = self.jobs.iter().map(|job| job.comes).collect();
        let mut last = 0;
        while let Some(now) = moments.pop_first() {
            self.happen(now);
            moments.extend(self.pass(now)?.into_iter().filter(|at| *at > now));
            // Time alone changes who may be stopped.
            if !self.snapshot(now).waiting.is_empty() && now >= last + 300_000 && now < 100_000_000 {
                last = now;
                moments.insert(now + 300_000);
            }
        }
        let replayed = replay(&self.chain).unwrap();
        prop_assert!(replayed.same, "a record decides otherwise");
        prop_assert_eq!(replayed.snapshot.rooms, self.last.take().unwrap_or_default().rooms);
        Ok(self)
    }
}

/// Machines and racks by other numbers, and sites in another order, change nothing but numbers.
fn renamed(snapshot: &Snapshot, now: i64, decisions: &[Decision]) -> Result<(), TestCaseError> {
    let mut other = snapshot.clone();
    other.rooms.reverse();
    for room in &mut other.rooms {
        let last = u32::try_from(room.nodes.len()).unwrap() - 1;
        room.nodes.reverse();
        for node in &mut room.nodes {
            for number in [&mut node.domain, &mut node.rack, &mut node.leaf] {
                *number = number.map(|number| 99 - number);
            }
        }
        for place in room.bound.iter_mut().flat_map(|bound| &mut bound.places) {
            place.node = last - place.node;
        }
    }
    // Machines that are alike may stand for each other.
    let said = |snapshot: &Snapshot, decisions: Vec<Decision>| -> Vec<String> {
        let word = |decision| match decision {
            Decision::Start { job, site, places } => {
                let room = snapshot.rooms.iter().find(|room| room.site == site).unwrap();
                let look = |place: &Place| {
                    let node = &room.nodes[place.node as usize];
                    let beside =
                        room.bound.iter().filter(|bound| bound.places.iter().any(|other| other.node == place.node));
                    let beside: Vec<_> = beside.map(|bound| (bound.job, bound.since)).collect();
                    let (mut gpus, mut broken) = (node.gpus.clone(), node.gpus_broken.clone());
                    gpus.sort();
                    broken.sort();
                    format!("{gpus:?} {broken:?} {:?} {:?} {beside:?}", node.only_for, node.until)
                };
                let mut looks: Vec<String> = places.iter().map(look).collect();
                looks.sort();
                format!("{job} starts at {site} on {looks:?}")
            }
            other => format!("{other:?}"),
        };
        decisions.into_iter().map(word).collect()
    };
    let again = schedule(&other, Time::from_millis(now));
    prop_assert_eq!(said(snapshot, decisions.to_vec()), said(&other, again), "numbers decide");
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn gangs_are_promised_only_what_is_kept_and_everybody_starts(
        (jobs, nodes) in (prop::collection::vec(planned(true), 1..14), sites())
    ) {
        let day = Day::new(jobs, nodes).run()?;
        prop_assert!(day.fates.iter().all(|fate| fate.begun));
    }

    #[test]
    fn gangs_parts_and_neighbours_are_never_wronged_whatever_the_day_brings(
        (jobs, nodes) in (prop::collection::vec(planned(false), 1..14), sites())
    ) {
        Day::new(jobs, nodes).run()?;
    }
}
