//! Whole days of mixed sites under the live scheduler: jobs come, are ready late, end at any time up to their limits, save
//! their work when told; something stands; quotas and priorities differ. What holds is counted anew from the world alone.

use std::collections::{BTreeMap, BTreeSet};

use gregal_core::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    schedule::{
        Bound, Decision, END_MS, Item, Node, Place, Promise, QuotaRow, Room, Run, START_MS, Snapshot, Waiting, schedule,
    },
    time::Time,
};
use proptest::prelude::*;

use crate::given::{cases, item};

/// How long saving takes at most, and how long a run is left alone: what the live policy counts with.
const SAVE_MS: i64 = 60_000;
const PROTECTED_MS: i64 = 600_000;
const MODELS: [&str; 2] = ["a100", "h100"];

/// A job of a day.
#[derive(Debug, Clone)]
struct Planned {
    comes: i64,
    organisation: u128,
    cores: u32,
    gpus: u32,
    model: Option<&'static str>,
    limit_ms: i64,
    /// How much of what is allowed it takes to be ready, and of its limit to end, in thousandths.
    ready_milli: i64,
    ends_milli: i64,
    priority: u8,
    preemptible: bool,
    sites: Vec<u128>,
}

fn planned(calm: bool) -> impl Strategy<Value = Planned> {
    let sites = prop::sample::subsequence(vec![1u128, 2], 1..=2);
    let who = (0..3u128, if calm { 0..1u8 } else { 0..3u8 }, prop::bool::weighted(if calm { 0.0 } else { 0.7 }));
    let what = (1..=4u32, 0..3u32, prop::option::of(prop::sample::select(&MODELS[..])));
    (0..200i64, who, what, 1..60i64, 0..=1000i64, 0..=1000i64, sites).prop_map(
        |(
            comes,
            (organisation, priority, preemptible),
            (cores, gpus, model),
            limit,
            ready_milli,
            ends_milli,
            sites,
        )| {
            Planned {
                comes: comes * 100_000,
                organisation,
                cores,
                gpus,
                model: model.filter(|_| gpus > 0),
                limit_ms: limit * 200_000,
                ready_milli,
                ends_milli,
                priority,
                preemptible,
                sites,
            }
        },
    )
}

/// Every site can run every job with nothing else there: 4 cores and 2 accelerators of each model on one node at least.
fn nodes() -> impl Strategy<Value = Vec<Vec<Node>>> {
    let more = prop::collection::vec((1..6u32, prop::collection::vec(prop::sample::select(&MODELS[..]), 0..3)), 0..2);
    prop::collection::vec(more, 2).prop_map(|sites| {
        let node = |cores: u32, gpus: Vec<&str>| Node {
            cpus_milli: cores * 1000,
            memory_bytes: u64::from(cores) << 30,
            gpus: gpus.into_iter().map(Into::into).collect(),
            gpus_broken: vec![],
            ..Node::default()
        };
        let site = |more: Vec<(u32, Vec<&str>)>| {
            let mut nodes = vec![node(4, vec!["a100", "a100", "h100", "h100"])];
            nodes.extend(more.into_iter().map(|(cores, gpus)| node(cores, gpus)));
            nodes
        };
        sites.into_iter().map(site).collect()
    })
}

fn quotas() -> impl Strategy<Value = Vec<QuotaRow>> {
    let row = (0..3u128, 0..3u32, 0..2u32, 2..4u32, prop::option::of(0..4u32));
    prop::collection::vec(row, 0..4).prop_map(|rows| {
        let once: BTreeMap<(u128, u32), _> = rows.into_iter().map(|row| ((row.0, row.1), row)).collect();
        let row = |(organisation, gpus, guarantee, borrow_max, lend_max)| QuotaRow {
            organisation: OrganisationId::from_u128(organisation),
            project: None,
            sku: format!("gpu.{gpus}"),
            guarantee,
            borrow_max: Some(borrow_max),
            lend_max,
        };
        once.into_values().map(row).collect()
    })
}

#[derive(Debug, Clone)]
struct Running {
    at: usize,
    site: u128,
    node: u32,
    since: i64,
    ready: i64,
    /// When it ends by itself.
    end: i64,
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
    quotas: Vec<QuotaRow>,
    /// Cores of something that stands on each site's last node.
    stands: Vec<u32>,
    runs: Vec<Running>,
    fates: Vec<Fate>,
    past: Vec<Run>,
}

fn id(at: usize) -> JobId {
    JobId::from_u128(at as u128)
}

fn site(number: u128) -> SiteId {
    SiteId::from_u128(number)
}

impl Day {
    fn item(&self, at: usize) -> Item {
        let (job, fate) = (&self.jobs[at], &self.fates[at]);
        Item {
            organisation: OrganisationId::from_u128(job.organisation),
            project: ProjectId::from_u128(job.organisation),
            sku: format!("gpu.{}", job.gpus),
            // Few cores, much memory, so that either may be what is missing.
            memory_bytes: u64::from(5 - job.cores) << 30,
            gpus: job.gpus,
            gpu_model: job.model.map(Into::into),
            priority: job.priority,
            preemptible: job.preemptible,
            stops: fate.stops,
            worked_ms: fate.worked_ms.unsigned_abs(),
            ..item(job.cores)
        }
    }

    fn bound(&self, run: &Running, now: i64) -> Bound {
        let left = self.jobs[run.at].limit_ms - self.fates[run.at].worked_ms;
        Bound {
            job: Some(id(run.at)),
            item: self.item(run.at),
            places: vec![Place::on(run.node)],
            since: Time::from_millis(run.since),
            free_at: (run.ready <= now).then(|| Time::from_millis(run.ready + left + END_MS)),
            told: run.told.map(Time::from_millis),
        }
    }

    fn rooms(&self, now: i64) -> Vec<Room> {
        let room = |number: u128| {
            let place = usize::try_from(number - 1).unwrap();
            let mut bound: Vec<Bound> =
                self.runs.iter().filter(|run| run.site == number).map(|run| self.bound(run, now)).collect();
            let stands = self.stands[place];
            let last = u32::try_from(self.nodes[place].len() - 1).unwrap();
            if stands > 0 && last > 0 {
                let item = Item {
                    organisation: OrganisationId::from_u128(9),
                    project: ProjectId::from_u128(9),
                    sku: "served".into(),
                    memory_bytes: 1,
                    preemptible: true,
                    ..item(stands)
                };
                bound.push(Bound {
                    job: None,
                    item,
                    places: vec![Place::on(last)],
                    since: Time::default(),
                    free_at: None,
                    told: None,
                });
            }
            Room {
                site: site(number),
                name: format!("home-{number}"),
                alive: true,
                silent_since: None,
                nodes: self.nodes[place].clone(),
                bound,
                reserved: vec![],
            }
        };
        vec![room(1), room(2)]
    }

    fn snapshot(&self, now: i64) -> Snapshot {
        let runs: BTreeSet<usize> = self.runs.iter().map(|run| run.at).collect();
        let mut here: Vec<usize> = (0..self.jobs.len())
            .filter(|at| self.jobs[*at].comes <= now && !self.fates[*at].ended && !runs.contains(at))
            .collect();
        here.sort_by_key(|at| (self.jobs[*at].comes, *at));
        let waiting = here.into_iter().map(|at| Waiting {
            job: id(at),
            item: self.item(at),
            since: Time::from_millis(self.fates[at].since.max(self.jobs[at].comes)),
            sites: self.jobs[at].sites.iter().map(|number| site(*number)).collect(),
            limit_ms: self.jobs[at].limit_ms.unsigned_abs(),
            promised: self.fates[at].promised,
        });
        let waiting = waiting.collect();
        Snapshot {
            waiting,
            rooms: self.rooms(now),
            quotas: self.quotas.clone(),
            past: self.past.clone(),
            ..Snapshot::default()
        }
    }

    /// Ends what ends, and lets who has saved wait again.
    fn happen(&mut self, now: i64) {
        for run in std::mem::take(&mut self.runs) {
            let saved = run.told.map(|told| told + SAVE_MS);
            if run.end <= now && saved.is_none_or(|saved| run.end <= saved) {
                self.fates[run.at].ended = true;
                let job = &self.jobs[run.at];
                self.past.push(Run {
                    job: id(run.at),
                    organisation: OrganisationId::from_u128(job.organisation),
                    project: ProjectId::from_u128(job.organisation),
                    sku: format!("gpu.{}", job.gpus),
                    gpus: job.gpus,
                    limit_ms: job.limit_ms.unsigned_abs(),
                    ended: Time::from_millis(run.end),
                    ran_ms: (run.end - run.ready).max(0).unsigned_abs(),
                    units: 0,
                });
            } else if let Some(saved) = saved.filter(|saved| *saved <= now) {
                let fate = &mut self.fates[run.at];
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
        let mut shuffled = snapshot.clone();
        shuffled.rooms.reverse();
        shuffled.past.reverse();
        shuffled.quotas.reverse();
        prop_assert_eq!(&schedule(&shuffled, Time::from_millis(now)), &decisions, "the order of facts changes nothing");
        let told: BTreeSet<JobId> = snapshot.waiting.iter().map(|job| job.job).collect();
        let mut moments = Vec::new();
        let mut answered = BTreeSet::new();
        for decision in decisions {
            let at = (0..self.jobs.len())
                .find(|at| id(*at) == decision.job())
                .expect("a job of the day, nothing that stands");
            let old = self.fates[at].promised;
            match decision {
                Decision::Start { site: place, places, job } => {
                    prop_assert_eq!(places.len(), 1);
                    let node = places[0].node;
                    prop_assert!(answered.insert(job) && told.contains(&job));
                    prop_assert!(
                        old.is_none_or(|old| now <= old.at.as_millis()),
                        "{at} starts at {now}, promised {old:?}"
                    );
                    let number = if place == site(1) { 1 } else { 2 };
                    prop_assert!(self.jobs[at].sites.contains(&number), "a site it may not run at");
                    let (job, fate) = (&self.jobs[at], &mut self.fates[at]);
                    let left = job.limit_ms - fate.worked_ms;
                    let ready = now + START_MS * job.ready_milli / 1000;
                    let end = (ready + (left + END_MS) * job.ends_milli / 1000).max(now + 1);
                    (fate.begun, fate.promised) = (true, None);
                    self.runs.push(Running { at, site: number, node, since: now, ready, end, told: None });
                    moments.extend([ready, end]);
                }
                Decision::Wait { promise, job, reason, .. } => {
                    prop_assert!(answered.insert(job) && told.contains(&job) && !reason.is_empty());
                    let kept = old.is_none_or(|old| promise.is_some_and(|new| new.at <= old.at));
                    prop_assert!(kept, "{at}: {old:?} became {promise:?} at {now}");
                    self.fates[at].promised = promise;
                }
                Decision::Never { .. } => prop_assert!(false, "everything fits"),
                Decision::Stop { reason, .. } => {
                    let run = self.runs.iter_mut().find(|run| run.at == at).expect("it runs");
                    prop_assert!(self.jobs[at].preemptible && run.told.is_none() && run.ready <= now);
                    let protected = PROTECTED_MS << self.fates[at].stops.min(6);
                    prop_assert!(now - run.since >= protected, "stopped within its protected time");
                    prop_assert!(reason.contains("gives way"));
                    run.told = Some(now);
                    moments.push(now + SAVE_MS);
                }
            }
        }
        prop_assert_eq!(answered.len(), told.len());
        self.count()?;
        Ok(moments)
    }

    /// Counts everything anew.
    fn count(&self) -> Result<(), TestCaseError> {
        for room in self.rooms(i64::MAX) {
            for (at, node) in (0..).zip(&room.nodes) {
                let here: Vec<&Item> = room
                    .bound
                    .iter()
                    .filter(|bound| bound.places == [Place::on(at)])
                    .map(|bound| &bound.item)
                    .collect();
                prop_assert!(here.iter().map(|item| item.cpus_milli).sum::<u32>() <= node.cpus_milli, "cores twice");
                prop_assert!(
                    here.iter().map(|item| item.memory_bytes).sum::<u64>() <= node.memory_bytes + 1,
                    "memory twice"
                );
                prop_assert!(
                    here.iter().map(|item| item.gpus).sum::<u32>() as usize <= node.gpus.len(),
                    "accelerators twice"
                );
                for model in MODELS {
                    let of_it = here.iter().filter(|item| item.gpu_model.as_deref() == Some(model));
                    let used: u32 = of_it.map(|item| item.gpus).sum();
                    prop_assert!(
                        used as usize <= node.gpus.iter().filter(|gpu| *gpu == model).count(),
                        "a model twice"
                    );
                }
            }
        }
        for row in &self.quotas {
            let of_it = self.runs.iter().map(|run| &self.jobs[run.at]).filter(|job| {
                OrganisationId::from_u128(job.organisation) == row.organisation
                    && format!("gpu.{}", job.gpus) == row.sku
            });
            let used: u32 = of_it.map(|job| job.gpus.max(1)).sum();
            let most = row.guarantee + row.borrow_max.unwrap();
            prop_assert!(used <= most, "{used} used of {most}: {row:?}");
        }
        Ok(())
    }

    fn run(mut self) -> Result<Self, TestCaseError> {
        let mut moments: BTreeSet<i64> = self.jobs.iter().map(|job| job.comes).collect();
        let mut last = 0;
        while let Some(now) = moments.pop_first() {
            prop_assert!(now < 1_000_000_000, "the day goes on for ever");
            self.happen(now);
            moments.extend(self.pass(now)?.into_iter().filter(|at| *at > now));
            // Time alone changes who may be stopped.
            let waits = self.snapshot(now).waiting.len();
            if waits > 0 && now >= last + 300_000 {
                last = now;
                moments.insert(now + 300_000);
            }
        }
        Ok(self)
    }
}

fn day(jobs: Vec<Planned>, nodes: Vec<Vec<Node>>, quotas: Vec<QuotaRow>, stands: Vec<u32>) -> Day {
    let fates = vec![Fate::default(); jobs.len()];
    Day { jobs, nodes, quotas, stands, runs: vec![], fates, past: vec![] }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_promised_start_is_kept_never_moved_back_and_everybody_starts(
        (jobs, nodes) in (prop::collection::vec(planned(true), 1..18), nodes())
    ) {
        let day = day(jobs, nodes, vec![], vec![0, 0]).run()?;
        prop_assert!(day.fates.iter().all(|fate| fate.begun));
    }

    #[test]
    fn nothing_is_used_twice_and_nobody_is_wronged_whatever_the_day_brings(
        (jobs, nodes, quotas, stands) in (
            prop::collection::vec(planned(false), 1..18), nodes(), quotas(), prop::collection::vec(0..2u32, 2))
    ) {
        let day = day(jobs, nodes, quotas, stands).run()?;
        prop_assert!(day.fates.iter().all(|fate| fate.ended), "somebody never ends");
    }
}

/// A job of organisation, accelerators and priority that comes then and may run so long at these sites.
fn job((comes, limit_ms): (i64, i64), (organisation, gpus, priority): (u128, u32, u8), sites: &[u128]) -> Planned {
    let (ready_milli, ends_milli, preemptible) = (0, 0, false);
    let sites = sites.to_vec();
    Planned {
        comes,
        organisation,
        cores: 1,
        gpus,
        model: None,
        limit_ms,
        ready_milli,
        ends_milli,
        priority,
        preemptible,
        sites,
    }
}

/// Two at a time of one organisation's accelerators, on a machine with four and one with none beside it.
fn small_cloud(jobs: Vec<Planned>, gpus: [&[usize]; 2]) -> Day {
    let node = |gpus: &usize| Node {
        cpus_milli: 4000,
        memory_bytes: 4 << 30,
        gpus: ["a100", "a100", "h100", "h100"].map(str::to_owned)[..*gpus].to_vec(),
        ..Node::default()
    };
    let quota = |gpus: u32| QuotaRow {
        organisation: OrganisationId::from_u128(2),
        project: None,
        sku: format!("gpu.{gpus}"),
        guarantee: 0,
        borrow_max: Some(2),
        lend_max: None,
    };
    day(jobs, gpus.map(|nodes| nodes.iter().map(node).collect()).to_vec(), vec![quota(1), quota(2)], vec![0, 0])
}

// Worlds that broke a promise once, as they were found.

fn ends(job: Planned, ready_milli: i64, ends_milli: i64) -> Planned {
    Planned { ready_milli, ends_milli, ..job }
}

fn movable(job: Planned, ready_milli: i64, ends_milli: i64) -> Planned {
    Planned { preemptible: true, ..ends(job, ready_milli, ends_milli) }
}

#[test]
fn what_is_promised_counts_with_the_quota_of_who_is_next_and_is_never_over_already() {
    let of_two = vec![
        job((0, 200_000), (0, 0, 0), &[2]),
        job((4_300_000, 200_000), (0, 0, 1), &[2]),
        movable(job((4_000_000, 1_400_000), (0, 0, 0), &[1]), 268, 534),
        movable(job((2_800_000, 9_200_000), (0, 2, 0), &[2]), 801, 640),
        movable(job((3_400_000, 11_400_000), (2, 2, 0), &[1, 2]), 0, 486),
        movable(job((3_400_000, 8_000_000), (0, 2, 0), &[2]), 0, 521),
        job((12_100_000, 200_000), (2, 2, 1), &[2]),
        ends(job((3_400_000, 8_200_000), (2, 2, 0), &[2]), 0, 156),
        job((7_000_000, 200_000), (0, 0, 1), &[1, 2]),
    ];
    small_cloud(of_two, [&[4], &[4]]).run().unwrap();
    let claimed = vec![
        job((9_400_000, 200_000), (0, 0, 0), &[1]),
        job((8_900_000, 200_000), (2, 2, 1), &[1]),
        movable(job((8_700_000, 600_000), (2, 2, 0), &[2]), 334, 909),
        ends(job((1_700_000, 10_800_000), (0, 0, 0), &[1]), 544, 694),
    ];
    small_cloud(claimed, [&[4, 0], &[4]]).run().unwrap();
}

#[test]
fn what_is_promised_counts_with_quota_that_comes_back_nobody_knows_when() {
    // The room is free before the quota is: somebody else's long job took it.
    let let_go = vec![
        ends(job((100_000, 9_200_000), (2, 2, 2), &[2]), 0, 775),
        job((100_000, 8_000_000), (2, 2, 2), &[2]),
        ends(job((5_600_000, 8_600_000), (0, 0, 0), &[2]), 30, 1),
        ends(job((100_000, 200_000), (2, 2, 0), &[1]), 19, 0),
        ends(job((100_000, 200_000), (0, 0, 0), &[2]), 1, 0),
    ];
    small_cloud(let_go, [&[4], &[4]]).run().unwrap();
    // The same a little earlier: by ten seconds in the end.
    let a_little = vec![
        ends(job((15_300_000, 6_400_000), (0, 0, 2), &[1]), 351, 264),
        job((16_200_000, 4_600_000), (0, 0, 0), &[1]),
        movable(job((15_200_000, 1_000_000), (2, 2, 1), &[1]), 0, 850),
        movable(job((4_000_000, 11_400_000), (2, 2, 0), &[2]), 352, 974),
    ];
    small_cloud(a_little, [&[4], &[4]]).run().unwrap();
    // What holds the quota gets ready, and until then only a later end is known.
    let later = vec![
        ends(job((3_400_000, 4_400_000), (0, 0, 0), &[2]), 592, 729),
        ends(job((3_800_000, 2_800_000), (0, 0, 1), &[1]), 203, 713),
        ends(job((5_200_000, 10_800_000), (2, 1, 1), &[1]), 0, 421),
        job((6_200_000, 200_000), (0, 0, 0), &[2]),
        ends(job((6_200_000, 200_000), (2, 1, 0), &[1]), 58, 0),
        job((6_300_000, 8_800_000), (2, 1, 0), &[2]),
        movable(job((3_300_000, 11_800_000), (0, 0, 0), &[1]), 116, 385),
    ];
    small_cloud(later, [&[4, 1], &[4]]).run().unwrap();
    // Who was promised a start elsewhere is looked at first, and takes what is kept here.
    let elsewhere = vec![
        job((8_400_000, 200_000), (2, 1, 2), &[1, 2]),
        ends(job((2_700_000, 6_400_000), (2, 0, 0), &[2]), 577, 642),
        ends(job((7_100_000, 200_000), (2, 1, 0), &[1]), 201, 0),
        movable(job((4_700_000, 11_000_000), (2, 1, 0), &[1, 2]), 0, 340),
        movable(job((2_700_000, 8_600_000), (1, 0, 0), &[2]), 238, 158),
    ];
    small_cloud(elsewhere, [&[4], &[4]]).run().unwrap();
}
