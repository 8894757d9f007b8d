//! What is reserved, as the live scheduler keeps it: others are gone by then, promises count with it, and room beside it is used.

use std::collections::BTreeMap;

use gregal_core::{
    id::{JobId, SiteId},
    reservation::calendar::{Facts, Free, Need, Taken, Wanted, book},
    schedule::{
        Block, Bound, Decision, END_MS, ENDLESS_MS, Item, Node, Place, Promise, Room, START_MS, Snapshot, Waiting,
        schedule,
    },
    sku::Sku,
    time::Time,
};
use proptest::prelude::*;

use crate::given::{self, cases};

const HOUR: i64 = 3_600_000;
const CLEAN: i64 = 300_000;
const STEP: i64 = HOUR / 4;
const CORES: u32 = 8;

fn at(hours: i64) -> Time {
    Time::from_millis(hours * HOUR)
}

fn item(cores: u32, members: u32) -> Item {
    Item { memory_bytes: 1, priority: 4, members, ..given::item(cores) }
}

fn job(number: u128, cores: u32, limit_ms: u64) -> Waiting {
    Waiting {
        job: JobId::from_u128(number),
        item: item(cores, 1),
        since: Time::default(),
        sites: vec![SiteId::from_u128(1)],
        limit_ms,
        promised: None,
    }
}

fn hours(hours: u64) -> u64 {
    hours * HOUR.unsigned_abs()
}

fn runs(number: u128, cores: u32, until: Option<i64>) -> Bound {
    Bound {
        job: Some(JobId::from_u128(number)),
        item: item(cores, 1),
        places: vec![Place::on(0)],
        since: Time::default(),
        free_at: until.map(at),
        told: None,
    }
}

/// So many cores from one hour until another, as the scheduler is told of them before they begin.
fn block(cores: u32, from: i64, until: i64) -> Block {
    Block { item: item(1, cores), from: at(from).plus_millis(-CLEAN), until: at(until).plus_millis(CLEAN) }
}

fn room(bound: Vec<Bound>, reserved: Vec<Block>) -> Room {
    let node = Node { cpus_milli: CORES * 1000, memory_bytes: 1 << 30, ..Node::default() };
    Room {
        site: SiteId::from_u128(1),
        name: "lyon".into(),
        alive: true,
        silent_since: None,
        nodes: vec![node],
        bound,
        reserved,
    }
}

fn said(waiting: Vec<Waiting>, room: Room) -> Vec<String> {
    said_at(0, waiting, room)
}

fn said_at(now: i64, waiting: Vec<Waiting>, room: Room) -> Vec<String> {
    let snapshot = Snapshot { waiting, rooms: vec![room], ..Snapshot::default() };
    let words = |decision: Decision| match decision {
        Decision::Start { job, .. } => format!("{} starts", job.as_u128()),
        Decision::Wait { job, reason, .. } => format!("{} waits: {reason}", job.as_u128()),
        Decision::Never { job, reason } => format!("{} never: {reason}", job.as_u128()),
        Decision::Stop { job, .. } => format!("{} stops", job.as_u128()),
    };
    schedule(&snapshot, at(now)).into_iter().map(words).collect()
}

#[test]
fn what_would_be_there_too_long_waits_and_learns_the_limit_that_would_let_it_start() {
    // All but two cores are reserved from four o'clock on.
    let home = || room(vec![], vec![block(6, 4, 6)]);
    let told = said(vec![job(1, 4, hours(4))], home());
    assert_eq!(
        told,
        [
            "1 waits: room at `lyon` is reserved from 1970-01-01T03:55:00.000Z on; a limit of 13740 s or less would let it \
          start now; starts no later than 1970-01-01T06:05:00.000Z"
        ]
    );
    // As told: five minutes of starting and one of ending are counted in.
    assert_eq!(said(vec![job(1, 4, 13_740_000)], home()), ["1 starts"]);
    assert!(said(vec![job(1, 4, 13_741_000)], home())[0].starts_with("1 waits"));
    // What is left over is used, by what has no end too.
    assert_eq!(said(vec![job(1, 2, ENDLESS_MS)], home()), ["1 starts"]);
    let both = said(vec![job(1, 2, ENDLESS_MS), job(2, 1, ENDLESS_MS), job(3, 5, hours(1))], home());
    assert!(both.contains(&"1 starts".to_owned()) && both.contains(&"3 starts".to_owned()), "{both:?}");
    assert!(!both.contains(&"2 starts".to_owned()), "{both:?}");
}

#[test]
fn what_runs_until_then_is_gone_then_and_an_end_that_nobody_knows_is_none() {
    let known = room(vec![runs(9, 4, Some(3))], vec![block(4, 4, 6)]);
    assert_eq!(said(vec![job(1, 4, hours(10))], known), ["1 starts"], "beside what is reserved there is room for it");
    let blind = room(vec![runs(9, 4, None)], vec![block(4, 4, 6)]);
    let told = said(vec![job(1, 4, hours(10)), job(2, 4, hours(2))], blind);
    assert!(told.contains(&"2 starts".to_owned()) && !told.contains(&"1 starts".to_owned()), "{told:?}");
}

#[test]
fn nobody_is_stopped_for_a_start_that_what_is_reserved_forbids() {
    let low = Bound { item: Item { preemptible: true, priority: 0, ..item(8, 1) }, ..runs(9, 8, Some(8)) };
    let urgent = |limit| Waiting { item: Item { priority: 9, ..item(8, 1) }, ..job(1, 8, limit) };
    let told = said_at(5, vec![urgent(hours(10))], room(vec![low.clone()], vec![block(8, 9, 11)]));
    assert!(told.len() == 1 && told[0].starts_with("1 waits"), "{told:?}");
    let told = said_at(5, vec![urgent(hours(1))], room(vec![low], vec![block(8, 9, 11)]));
    assert!(told.contains(&"9 stops".to_owned()), "{told:?}");
}

#[test]
fn while_it_is_used_the_reason_says_when_it_ends() {
    let stands = Bound { job: None, places: vec![Place::on(0); 6], ..runs(0, 1, Some(2)) };
    let told = said(vec![job(1, 4, hours(1))], room(vec![stands], vec![]));
    let due = "1 waits: 2 of 4 cores short (2 of 8 free) at `lyon`; reserved room there is free again at \
               1970-01-01T02:00:00.000Z; starts no later than 1970-01-01T02:00:00.000Z";
    assert_eq!(told, [due]);
}

/// Blocks that can be booked one after another, as cores, beginning and end in hours.
fn booked(asked: &[(u32, i64, i64)]) -> Vec<(u32, i64, i64)> {
    let one = Sku {
        name: "cpu.1".into(),
        cpus_milli: 1000,
        memory_bytes: 1,
        gpus: 0,
        gpu_model: None,
        gpu_milli: 0,
        family: None,
        units: None,
    };
    let all = Free { cpus_milli: u64::from(CORES) * 1000, memory_bytes: 1 << 30, ..Free::default() };
    let (mut facts, mut booked) = (Facts { all, taken: Vec::new() }, Vec::new());
    for (count, from, length) in asked.iter().copied() {
        let wanted = Wanted { sku: &one, count, from: at(from), until: at(from + length), clean_ms: 300_000 };
        if book(&facts, wanted, at(0)).is_ok() {
            let until = Some(wanted.until.plus_millis(CLEAN));
            facts.taken.push(Taken {
                need: Need::of(&one, count),
                from: wanted.from,
                until,
                reservation: None,
                stands: false,
            });
            booked.push((count, from, from + length));
        }
    }
    booked
}

proptest! {
    #![proptest_config(cases(96))]

    /// Days in which everything runs as long as it may: when a reservation begins, nobody is in its room; and whoever was
    /// promised a start has it by then.
    #[test]
    fn whatever_comes_what_is_reserved_is_clear_when_it_begins_and_promises_are_kept(
        asked in prop::collection::vec((1_u32..=CORES, 2_i64..60, 1_i64..10), 1..6),
        jobs in prop::collection::vec((0_i64..40, 1_u32..=CORES, 1_i64..16), 1..24),
    ) {
        let blocks = booked(&asked);
        let mut running: Vec<(u128, u32, i64, i64)> = Vec::new();
        let mut promised: BTreeMap<u128, Promise> = BTreeMap::new();
        let mut started: BTreeMap<u128, i64> = BTreeMap::new();
        for now in (0..80 * HOUR).step_by(usize::try_from(STEP).unwrap()) {
            let bound = running.iter().filter(|(.., end)| *end > now).map(|(number, cores, _, end)| {
                Bound { free_at: Some(Time::from_millis(*end)), ..runs(*number, *cores, None) }
            });
            let is_begun = |(_, from, until): &&(u32, i64, i64)| from * HOUR <= now && now < until * HOUR + CLEAN;
            let stands = blocks.iter().filter(is_begun).map(|(cores, _, until)| Bound {
                job: None,
                places: vec![Place::on(0); *cores as usize],
                free_at: Some(at(*until).plus_millis(CLEAN)),
                ..runs(0, 1, None)
            });
            let coming = blocks.iter().filter(|(_, from, _)| from * HOUR > now);
            let reserved = coming.map(|(cores, from, until)| block(*cores, *from, *until)).collect();
            let waiting = jobs.iter().zip(1_u128..).filter(|((comes, ..), number)| comes * HOUR <= now && !started.contains_key(number));
            let waiting = waiting.map(|((comes, cores, limit), number)| Waiting {
                since: at(*comes),
                promised: promised.get(&number).copied(),
                ..job(number, *cores, hours(limit.unsigned_abs()))
            });
            let snapshot = Snapshot {
                waiting: waiting.collect(),
                rooms: vec![room(bound.chain(stands).collect(), reserved)],
                ..Snapshot::default()
            };
            for decision in schedule(&snapshot, Time::from_millis(now)) {
                let number = decision.job().as_u128();
                match decision {
                    Decision::Start { .. } => {
                        let (_, cores, limit) = jobs[usize::try_from(number - 1).unwrap()];
                        running.push((number, cores, now, now + limit * HOUR + START_MS + END_MS));
                        started.insert(number, now);
                    }
                    Decision::Wait { promise, .. } => {
                        let old = promised.get(&number);
                        let kept = old.is_none_or(|old| promise.is_some_and(|new| new.at <= old.at));
                        prop_assert!(kept, "{number}: {old:?} became {promise:?} at {now}; {blocks:?}");
                        promised.extend(promise.map(|promise| (number, promise)));
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        let cores_at = |time: i64| {
            let jobs = running.iter().filter(|(_, _, start, end)| *start <= time && time < *end).map(|(_, cores, ..)| cores);
            let held = |(_, from, until): &&(u32, i64, i64)| from * HOUR - CLEAN <= time && time < until * HOUR;
            jobs.chain(blocks.iter().filter(held).map(|(cores, ..)| cores)).sum::<u32>()
        };
        for (_, from, until) in &blocks {
            for time in (from * HOUR - CLEAN..until * HOUR).step_by(300_000) {
                prop_assert!(cores_at(time) <= CORES, "{} cores at {time} of {blocks:?}: {running:?}", cores_at(time));
            }
        }
        for (number, promise) in &promised {
            let Some(start) = started.get(number) else { continue };
            prop_assert!(*start < promise.at.as_millis() + STEP, "job {number} promised {promise:?} started at {start}; {blocks:?}");
        }
    }
}
