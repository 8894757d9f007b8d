use std::collections::{BTreeMap, BTreeSet};

use gregal_core::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    schedule::{
        Bound, Cause, Decision, END_MS, ENDLESS_MS, Item, Node, Place, QuotaRow, Room, Run, START_MS, Snapshot,
        Waiting, Weight, order,
        record::{Change, Inputs, Irreproducible, RULES, Record, replay},
        schedule, schedule_saying,
    },
    time::Time,
    used::Used,
};
use proptest::prelude::*;

use crate::given::{cases, item};

const GIB: u64 = 1 << 30;
const HOUR_MS: u64 = 3_600_000;

fn site(number: u128) -> SiteId {
    SiteId::from_u128(number)
}

fn waiting(number: u128, cores: u32, sites: &[u128]) -> Waiting {
    Waiting {
        job: JobId::from_u128(number),
        item: item(cores),
        since: Time::default(),
        sites: sites.iter().map(|number| site(*number)).collect(),
        limit_ms: HOUR_MS,
        promised: None,
    }
}

fn gpu_job(number: u128, gpus: u32, model: Option<&str>) -> Waiting {
    let item = Item { sku: format!("gpu.{gpus}"), gpus, gpu_model: model.map(Into::into), ..item(1) };
    Waiting { item, ..waiting(number, 1, &[1]) }
}

fn node(cores: u32, gpus: &[&str]) -> Node {
    Node {
        cpus_milli: cores * 1000,
        memory_bytes: u64::from(cores) * GIB,
        gpus: gpus.iter().map(ToString::to_string).collect(),
        gpus_broken: vec![],
        ..Node::default()
    }
}

fn room(number: u128, cores_free: u32, cores: u32) -> Room {
    Room {
        site: site(number),
        name: format!("home-{number}"),
        alive: true,
        silent_since: None,
        nodes: if cores == 0 { vec![] } else { vec![node(cores, &[])] },
        bound: vec![bound(900 + number, cores - cores_free, None)],
        reserved: vec![],
    }
}

/// What is bound to a site until a time of some milliseconds, if anybody knows.
fn bound(number: u128, cores: u32, free_at: Option<i64>) -> Bound {
    Bound {
        job: Some(JobId::from_u128(number)),
        item: item(cores),
        places: vec![Place::on(0)],
        since: Time::default(),
        free_at: free_at.map(Time::from_millis),
        told: None,
    }
}

/// A room whose accelerators are all there is; of those, some are taken until nobody knows when.
fn gpu_room(total: &[&str], taken: &[&str]) -> Room {
    let holds = |(number, model): (u128, &&str)| {
        let item = Item { cpus_milli: 0, memory_bytes: 0, gpus: 1, gpu_model: Some((*model).into()), ..item(1) };
        Bound { item, ..bound(700 + number, 0, None) }
    };
    let mut room = room(1, 64, 64);
    room.nodes = vec![node(64, total)];
    room.bound.extend((0..).zip(taken).map(holds));
    room
}

fn at(waiting: Vec<Waiting>, rooms: Vec<Room>) -> Snapshot {
    Snapshot { waiting, rooms, ..Snapshot::default() }
}

/// What a pass says: the site's number, or the words.
fn said(waiting: Vec<Waiting>, rooms: Vec<Room>) -> Vec<String> {
    said_of(&at(waiting, rooms))
}

fn said_of(snapshot: &Snapshot) -> Vec<String> {
    let names: BTreeMap<SiteId, String> = snapshot.rooms.iter().map(|room| (room.site, room.name.clone())).collect();
    let word = |decision: Decision| match decision {
        Decision::Start { site, .. } => format!("start at {}", names[&site]),
        Decision::Wait { reason, .. } => format!("wait: {reason}"),
        Decision::Never { reason, .. } => format!("never: {reason}"),
        Decision::Stop { reason, .. } => format!("stop: {reason}"),
    };
    schedule(snapshot, Time::default()).into_iter().map(word).collect()
}

#[test]
fn a_job_takes_the_site_it_fills_best() {
    let job = waiting(1, 2, &[1, 2, 3]);
    assert_eq!(said(vec![job], vec![room(1, 8, 8), room(2, 3, 8), room(3, 1, 8)]), ["start at home-2"]);
}

#[test]
fn work_without_accelerators_stays_away_from_free_ones() {
    let tight = gpu_room(&["H100"], &[]);
    assert_eq!(said(vec![waiting(1, 60, &[1, 2])], vec![tight, room(2, 128, 128)]), ["start at home-2"]);
}

#[test]
fn a_full_site_says_how_much_is_missing() {
    let short = waiting(1, 4, &[1]);
    assert_eq!(
        said(vec![short], vec![room(1, 2, 8)]),
        ["wait: 2 of 4 cores short (2 of 8 free), 2 GiB of 4 GiB memory short (2 GiB of 8 GiB free) at `home-1`"]
    );
    assert_eq!(
        said(
            vec![gpu_job(1, 4, Some("H100"))],
            vec![gpu_room(&["H100", "H100", "H100", "H100", "L40S"], &["H100"; 3])]
        ),
        ["wait: 3 of 4 `H100` accelerators short (1 of 4 free) at `home-1`"]
    );
    let half = Waiting { item: Item { cpus_milli: 1500, memory_bytes: 1, ..item(1) }, ..waiting(1, 1, &[1]) };
    assert_eq!(said(vec![half], vec![room(1, 1, 2)]), ["wait: 0.5 of 1.5 cores short (1 of 2 free) at `home-1`"]);
}

#[test]
fn what_can_never_fit_is_refused_at_once_and_keeps_nothing() {
    assert_eq!(
        said(vec![waiting(1, 16, &[1]), waiting(2, 1, &[1])], vec![room(1, 8, 8)]),
        [
            "never: 8 of 16 cores short (8 of 8 free), 8 GiB of 16 GiB memory short (8 GiB of 8 GiB free) at `home-1`, \
             with nothing else running: ask for less, or for a site that has more",
            "start at home-1",
        ]
    );
    assert!(said(vec![waiting(1, 1, &[])], vec![room(1, 8, 8)])[0].starts_with("never: no site may hold its data"));
    assert!(said(vec![gpu_job(1, 1, Some("H200"))], vec![gpu_room(&["H100"], &[])])[0].starts_with("never"));
    assert!(said(vec![gpu_job(1, 3, None)], vec![gpu_room(&["H100", "L40S"], &[])])[0].starts_with("never"));
}

#[test]
fn a_silent_or_unknown_site_leaves_hope() {
    let dark = Room { alive: false, ..room(1, 8, 8) };
    assert_eq!(said(vec![waiting(1, 2, &[1])], vec![dark.clone()]), ["wait: site `home-1` has never dialled in"]);
    assert!(said(vec![waiting(1, 16, &[1])], vec![dark])[0].starts_with("never"));
    let new = room(1, 0, 0);
    assert_eq!(said(vec![waiting(1, 2, &[1])], vec![new]), ["wait: `home-1` has not said what it has yet"]);
    assert_eq!(said(vec![waiting(1, 2, &[9])], vec![]), ["wait: a site it may run at has not said what it has yet"]);
}

#[test]
fn nobody_overtakes_a_job_that_waits_for_the_same_site() {
    let jobs = vec![waiting(1, 4, &[1]), waiting(2, 1, &[1]), waiting(3, 1, &[1, 2]), waiting(4, 1, &[1])];
    assert_eq!(
        said(jobs, vec![room(1, 2, 4), room(2, 4, 4)]),
        [
            "wait: 2 of 4 cores short (2 of 4 free), 2 GiB of 4 GiB memory short (2 GiB of 4 GiB free) at `home-1`",
            "wait: 1 job ahead of it waits for room at `home-1`",
            "start at home-2",
            "wait: 2 jobs ahead of it wait for room at `home-1`",
        ]
    );
}

#[test]
fn who_waited_longer_goes_first_and_then_who_submitted_first() {
    let early = Waiting { since: Time::from_millis(-1), ..waiting(1, 4, &[1]) };
    let jobs = vec![waiting(9, 4, &[1]), waiting(2, 4, &[1]), early];
    let decisions = schedule(&at(jobs, vec![room(1, 8, 8)]), Time::default());
    let starts: Vec<_> = decisions.iter().filter(|decision| matches!(decision, Decision::Start { .. })).collect();
    assert_eq!(starts.iter().map(|decision| decision.job()).collect::<Vec<_>>(), [1, 9].map(JobId::from_u128));
}

#[test]
fn a_short_job_passes_and_a_long_one_learns_which_limit_would_let_it() {
    let hours = |hours: u64| i64::try_from(hours * HOUR_MS).unwrap();
    // Two of four cores are free; the others will be in ten hours. One that fits beside the promised job may always pass.
    let home = Room { bound: vec![bound(901, 2, Some(hours(10)))], ..room(1, 2, 4) };
    let long = |number| Waiting { limit_ms: 11 * HOUR_MS, ..waiting(number, 1, &[1]) };
    let jobs = vec![waiting(1, 3, &[1]), long(2), long(3)];
    assert_eq!(
        said(jobs.clone(), vec![home.clone()]),
        [
            "wait: 2 of 3 cores short (1 of 4 free), 2 GiB of 3 GiB memory short (1 GiB of 4 GiB free) at `home-1`; \
             starts no later than 1970-01-01T10:00:00.000Z",
            "start at home-1",
            "wait: a job ahead of it was promised the room at `home-1` for 1970-01-01T10:00:00.000Z; \
             a limit of 35640 s or less would let it start now",
        ]
    );
    let short = Waiting { limit_ms: 2 * HOUR_MS, ..waiting(4, 1, &[1]) };
    let decisions = schedule(&at([jobs, vec![short]].concat(), vec![home.clone()]), Time::default());
    let starts = decisions.iter().filter(|decision| matches!(decision, Decision::Start { .. }));
    assert_eq!(starts.map(Decision::job).collect::<Vec<_>>(), [4, 2].map(JobId::from_u128), "the shorter one first");
    // Even to the last instant; not beyond.
    let least = u64::try_from(hours(10) - START_MS - END_MS).unwrap();
    for (limit_ms, word) in [(least, "start at home-1"), (least + 1, "wait: a job ahead")] {
        let jobs = vec![waiting(1, 4, &[1]), Waiting { limit_ms, ..waiting(2, 1, &[1]) }];
        assert!(said(jobs, vec![home.clone()])[1].starts_with(word));
    }
}

#[test]
fn what_has_to_go_by_itself_promises_nothing_and_holds_nobody_up() {
    // Two cores are taken by something that is no job, such as a served model.
    let stands = Bound { job: None, ..bound(0, 2, None) };
    let home = Room { bound: vec![stands], ..room(1, 2, 4) };
    let words = said(vec![waiting(1, 3, &[1]), waiting(2, 1, &[1])], vec![home]);
    assert!(words[0].ends_with("at `home-1`") && words[1] == "start at home-1", "{words:?}");
}

#[test]
fn accelerators_whose_model_the_site_chooses_are_not_promised_twice() {
    let jobs = vec![gpu_job(1, 1, None), gpu_job(2, 1, Some("H100")), gpu_job(3, 1, Some("H100"))];
    let words = said(jobs, vec![gpu_room(&["H100", "H100", "L40S"], &[])]);
    // The first may have got an H100, so one is all that is left for sure.
    assert_eq!(words[..2], ["start at home-1", "start at home-1"]);
    assert!(words[2].starts_with("wait: 1 of 1 `H100` accelerators short"));
}

#[test]
fn a_quota_that_is_used_up_says_how_much_and_what_helps() {
    let row = QuotaRow {
        organisation: OrganisationId::from_u128(1),
        project: None,
        sku: "cpu.1".into(),
        guarantee: 0,
        borrow_max: Some(1),
        lend_max: None,
    };
    let jobs = vec![waiting(1, 1, &[1]), waiting(2, 1, &[1])];
    let snapshot = Snapshot { quotas: vec![row], ..at(jobs, vec![room(1, 8, 8)]) };
    let words = said_of(&snapshot);
    assert_eq!(words[0], "start at home-1");
    assert!(
        words[1].starts_with("wait: 1 of 1 instances of `cpu.1` short within its quota (1 used, 0 its own)"),
        "{words:?}"
    );
}

#[test]
fn a_quota_counts_the_units_of_all_shapes_of_its_family() {
    let of = |number, cores, units| {
        let item = Item { sku: "cpu".into(), units, ..item(cores) };
        Waiting { item, ..waiting(number, cores, &[1]) }
    };
    let row = QuotaRow {
        organisation: OrganisationId::from_u128(1),
        project: None,
        sku: "cpu".into(),
        guarantee: 1,
        borrow_max: Some(4),
        lend_max: None,
    };
    let jobs = vec![of(1, 1, 0), of(2, 2, 3), of(3, 2, 3), of(4, 1, 0)];
    let snapshot = Snapshot { quotas: vec![row], ..at(jobs, vec![room(1, 16, 16)]) };
    let words = said_of(&snapshot);
    let short = "wait: 3 of 3 units of `cpu` short within its quota (5 used, 1 its own)";
    assert!(words.iter().any(|word| word.starts_with(short)), "{words:?}");
    assert_eq!(words.iter().filter(|word| *word == "start at home-1").count(), 3, "1 + 3 + 1 of 5: {words:?}");
}

#[test]
fn how_much_of_a_family_there_is_does_not_go_by_which_of_its_shapes_comes_first() {
    let organisation = OrganisationId::from_u128;
    let of = |owner: u128, cores: u32, family: &str| Item {
        organisation: organisation(owner),
        project: ProjectId::from_u128(owner),
        sku: family.into(),
        ..item(cores)
    };
    let runs = |number, item| Bound { item, ..bound(number, 0, None) };
    let wants = |number, item| Waiting { item, limit_ms: HOUR_MS, ..waiting(number, 0, &[1]) };
    let ran = |number, owner, family: &str| Run {
        job: JobId::from_u128(number),
        organisation: organisation(owner),
        project: ProjectId::from_u128(owner),
        sku: family.into(),
        gpus: 0,
        limit_ms: HOUR_MS,
        ended: Time::from_millis(-1),
        ran_ms: HOUR_MS,
        units: 0,
    };
    // Both used the same number of units. Of one family the site holds 16 units, of the other 4: that was more of it.
    let snapshot = |bound: Vec<Bound>| Snapshot {
        waiting: vec![wants(1, of(1, 4, "few")), wants(2, of(2, 4, "many"))],
        rooms: vec![Room { nodes: vec![node(16, &[])], bound, ..room(1, 0, 0) }],
        past: vec![ran(11, 1, "few"), ran(12, 2, "many")],
        ..Snapshot::default()
    };
    let (small, large) = (runs(21, of(3, 1, "many")), runs(22, of(3, 8, "many")));
    for bound in [vec![small.clone(), large.clone()], vec![large, small]] {
        let first = schedule(&snapshot(bound), Time::default()).into_iter().next();
        let starts =
            |decision: &Decision| matches!(decision, Decision::Start { job, .. } if *job == JobId::from_u128(2));
        assert!(first.as_ref().is_some_and(starts), "{first:?}");
    }
}

#[test]
fn what_was_used_counts_however_many_short_runs_ended_since() {
    let now = Time::from_millis(27 * 24 * 3_600_000 + 1);
    let of = |number: u128| Waiting {
        item: Item {
            organisation: OrganisationId::from_u128(number),
            project: ProjectId::from_u128(number),
            sku: "cpu".into(),
            ..item(1)
        },
        since: now,
        ..waiting(number, 1, &[1])
    };
    let used = |number: u128, days: [(u32, u64); 2]| {
        let none = Used::none(OrganisationId::from_u128(number), "cpu".into());
        Used { days: days.into(), version: 1, ..none }
    };
    // Both ran as much today; the one that stands first ran a thousand times that a week ago.
    let first = |days_one, weight_two| {
        let used = vec![used(1, days_one), used(2, [(20, 0), (27, HOUR_MS)])];
        let weights = vec![Weight { organisation: OrganisationId::from_u128(2), weight: weight_two }];
        let snapshot = Snapshot { used, weights, ..at(vec![of(1), of(2)], vec![room(1, 1, 1)]) };
        schedule(&snapshot, now)[0].job()
    };
    assert_eq!(first([(20, 1000 * HOUR_MS), (27, HOUR_MS)], 1), JobId::from_u128(2));
    assert_eq!(first([(20, 0), (27, HOUR_MS)], 1), JobId::from_u128(1));
    // Who weighs three times as much has used less of its due.
    assert_eq!(first([(20, 0), (27, HOUR_MS)], 3), JobId::from_u128(2));
}

#[test]
fn a_quota_that_was_lowered_below_what_runs_is_looked_at_like_any_other() {
    let end = Some(20 * 3_600_000);
    let runs = |number| Bound { item: Item { preemptible: true, ..item(1) }, ..bound(number, 1, end) };
    let home = Room { bound: vec![runs(901), runs(902)], ..room(1, 8, 8) };
    let urgent = Waiting { item: Item { priority: 1, ..item(1) }, ..waiting(1, 1, &[1]) };
    let row = QuotaRow {
        organisation: OrganisationId::from_u128(1),
        project: None,
        sku: "cpu.1".into(),
        guarantee: 0,
        borrow_max: Some(1),
        lend_max: None,
    };
    let snapshot = Snapshot { quotas: vec![row], ..at(vec![urgent], vec![home]) };
    let decisions = schedule(&snapshot, Time::from_millis(10 * 3_600_000));
    assert!(matches!(decisions[0], Decision::Wait { .. }), "{decisions:?}");
}

#[test]
fn nobody_is_promised_the_end_of_what_has_none() {
    let model = Waiting { limit_ms: ENDLESS_MS, ..waiting(1, 1, &[1]) };
    let job = Waiting { since: Time::from_millis(1), ..waiting(2, 2, &[1]) };
    let home = Room { bound: vec![], ..room(1, 2, 2) };
    let decisions = schedule(&at(vec![model, job], vec![home]), Time::from_millis(2));
    let waits = decisions.iter().find(|decision| decision.job() == JobId::from_u128(2)).unwrap();
    let first = decisions.iter().find(|decision| decision.job() == JobId::from_u128(1)).unwrap();
    // Whichever goes first: nothing ends that the other could wait for.
    let sound = matches!(
        (first, waits),
        (Decision::Start { .. }, Decision::Wait { promise: None, .. })
            | (Decision::Wait { .. }, Decision::Start { .. })
    );
    assert!(sound, "{decisions:?}");
}

#[test]
fn a_job_of_higher_priority_stops_only_what_may_be_stopped() {
    let hours = |hours: i64| Time::from_millis(hours * 3_600_000);
    let may_stop = Bound { item: Item { preemptible: true, ..item(4) }, ..bound(901, 4, Some(20 * 3_600_000)) };
    let urgent = Waiting { item: Item { priority: 1, ..item(2) }, ..waiting(1, 2, &[1]) };
    let decided = |bound: Bound, alive: bool| {
        let home = Room { bound: vec![bound], alive, ..room(1, 0, 4) };
        schedule(&at(vec![urgent.clone()], vec![home]), hours(10))
    };
    let stops = decided(may_stop.clone(), true);
    let Decision::Stop { job, for_job, reason } = &stops[1] else { panic!("{stops:?}") };
    assert_eq!((*job, *for_job), (JobId::from_u128(901), JobId::from_u128(1)));
    assert!(reason.contains("gives way to one of higher priority (this one has 0)"), "{reason}");
    // While it saves its work, nobody else is stopped; so with what stands, is not ready, or is out of sight.
    for (spared, alive) in [
        (Bound { told: Some(hours(10)), ..may_stop.clone() }, true),
        (Bound { job: None, ..may_stop.clone() }, true),
        (Bound { free_at: None, ..may_stop.clone() }, true),
        (Bound { since: hours(10), ..may_stop.clone() }, true),
        (may_stop, false),
    ] {
        assert_eq!(decided(spared.clone(), alive).len(), 1, "{spared:?}");
    }
}

const MODELS: [&str; 2] = ["H100", "L40S"];

/// A site of one node, with one job on it that ends some time.
fn any_room(number: u128) -> impl Strategy<Value = Room> {
    let gpus = prop::collection::vec((prop::sample::select(&MODELS[..]), any::<bool>()), 0..5);
    (prop::bool::weighted(0.8), 0..9u32, 0..9u32, 0..9u64, 0..9u64, gpus).prop_map(
        move |(alive, cpus, cpus_more, memory, memory_more, gpus)| {
            let (broken, healthy): (Vec<_>, Vec<_>) = gpus.into_iter().partition(|(_, broken)| *broken);
            let models = |some: Vec<(&str, bool)>| some.into_iter().map(|(model, _)| model.to_owned()).collect();
            let node = Node {
                cpus_milli: (cpus + cpus_more) * 500,
                memory_bytes: (memory + memory_more) * GIB,
                gpus: models(healthy),
                gpus_broken: models(broken),
                ..Node::default()
            };
            let item = Item { cpus_milli: cpus_more * 500, memory_bytes: memory_more * GIB, ..item(0) };
            let bound = Bound { item, ..bound(900 + number, 0, Some(i64::from(cpus) * 1_000_000)) };
            Room { nodes: vec![node], bound: vec![bound], alive, ..room(number, 0, 0) }
        },
    )
}

fn any_job() -> impl Strategy<Value = Waiting> {
    let sites = prop::sample::subsequence(vec![1u128, 2, 3, 4, 5], 0..=5);
    let model = prop::option::of(prop::sample::select(&MODELS[..]));
    (0..4i64, 0..8u32, 0..8u64, 0..3u32, model, sites, 0..3u128, 0..3u8).prop_map(
        |(since, cpus, memory, gpus, model, sites, organisation, priority)| {
            let item = Item {
                organisation: OrganisationId::from_u128(organisation),
                sku: format!("{cpus}-{memory}-{gpus}"),
                cpus_milli: cpus * 500,
                memory_bytes: memory * GIB,
                gpus,
                gpu_model: model.map(Into::into),
                priority,
                ..item(0)
            };
            Waiting { item, since: Time::from_millis(since), ..waiting(0, 0, &sites) }
        },
    )
}

fn any_past() -> impl Strategy<Value = Vec<Run>> {
    let run =
        (0..20u128, 0..3u128, 0..3u32, 0..100i64, 0..HOUR_MS).prop_map(|(job, organisation, gpus, ended, ran_ms)| {
            Run {
                job: JobId::from_u128(2000 + job),
                organisation: OrganisationId::from_u128(organisation),
                project: ProjectId::from_u128(1),
                sku: "0-0-0".into(),
                gpus,
                limit_ms: HOUR_MS,
                ended: Time::from_millis(ended),
                ran_ms,
                units: 0,
            }
        });
    prop::collection::vec(run, 0..4).prop_map(|runs| {
        let once: BTreeMap<JobId, Run> = runs.into_iter().map(|run| (run.job, run)).collect();
        once.into_values().collect()
    })
}

fn any_used() -> impl Strategy<Value = Vec<Used>> {
    let days = prop::collection::btree_map(0..3_u32, 0..HOUR_MS, 0..3);
    prop::collection::btree_map(0..3_u128, (days, 1..3_u64), 0..3).prop_map(|of| {
        let used = |(number, (days, version))| {
            let none = Used::none(OrganisationId::from_u128(number), "0-0-0".into());
            Used { days, version, ..none }
        };
        of.into_iter().map(used).collect()
    })
}

fn any_quotas() -> impl Strategy<Value = (Vec<QuotaRow>, Vec<Weight>)> {
    let row = (0..3u128, prop::option::of(Just(1u128)), 0..4u32, prop::option::of(0..4u32), prop::option::of(0..4u32));
    let rows = prop::collection::vec((row, 0..3u32), 0..3);
    rows.prop_map(|rows| {
        let weights = rows.iter().map(|((organisation, ..), weight)| Weight {
            organisation: OrganisationId::from_u128(*organisation),
            weight: *weight,
        });
        let weights = weights.collect();
        let row =
            |((organisation, project, guarantee, borrow_max, lend_max), _): ((u128, Option<u128>, u32, _, _), _)| {
                QuotaRow {
                    organisation: OrganisationId::from_u128(organisation),
                    project: project.map(ProjectId::from_u128),
                    sku: "2-2-0".into(),
                    guarantee,
                    borrow_max,
                    lend_max,
                }
            };
        (rows.into_iter().map(row).collect(), weights)
    })
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    // Site 5 is allowed to some and known to nobody.
    let rooms = (any_room(1), any_room(2), any_room(3), any_room(4)).prop_map(|(a, b, c, d)| vec![a, b, c, d]);
    (prop::collection::vec(any_job(), 0..25), rooms, (any_past(), any_used()), any_quotas()).prop_map(
        |(mut waiting, rooms, (past, used), (quotas, weights))| {
            for (at, job) in waiting.iter_mut().enumerate() {
                job.job = JobId::from_u128(1000 + at as u128);
            }
            Snapshot { waiting, rooms, quotas, weights, past, used }
        },
    )
}

/// Jobs that started at each site.
fn started<'a>(snapshot: &'a Snapshot, decisions: &[Decision]) -> BTreeMap<SiteId, Vec<&'a Waiting>> {
    let jobs: BTreeMap<JobId, &Waiting> = snapshot.waiting.iter().map(|job| (job.job, job)).collect();
    let mut at: BTreeMap<SiteId, Vec<&Waiting>> = BTreeMap::new();
    for decision in decisions {
        if let Decision::Start { job, site, .. } = decision {
            at.entry(*site).or_default().push(jobs[job]);
        }
    }
    at
}

fn ever_fits(job: &Waiting, room: &Room) -> bool {
    room.nodes.iter().any(|node| {
        let all = node.gpus.iter().chain(&node.gpus_broken);
        let gpus = all.filter(|model| job.item.gpu_model.as_ref().is_none_or(|wanted| wanted == *model)).count();
        job.item.cpus_milli <= node.cpus_milli
            && job.item.memory_bytes <= node.memory_bytes
            && job.item.gpus as usize <= gpus
    })
}

/// Queues of which some jobs and sites leave, come, change and change places.
fn queues_over_time() -> impl Strategy<Value = Vec<Snapshot>> {
    (snapshots(), snapshots()).prop_flat_map(|(one, other)| {
        let some = move |snapshot: &Snapshot| {
            let jobs = prop::sample::subsequence(snapshot.waiting.clone(), 0..=snapshot.waiting.len()).prop_shuffle();
            let rooms = prop::sample::subsequence(snapshot.rooms.clone(), 0..=snapshot.rooms.len());
            let rest = snapshot.clone();
            (jobs, rooms).prop_map(move |(waiting, rooms)| Snapshot { waiting, rooms, ..rest.clone() }).boxed()
        };
        prop::collection::vec(prop_oneof![3 => some(&one), 1 => some(&other)], 1..6)
    })
}

/// The records of passes over these queues, one after the other.
fn recorded(snapshots: &[Snapshot]) -> Vec<Record> {
    let at = |index: usize| Time::from_millis(i64::try_from(index).unwrap());
    let mut records: Vec<Record> = Vec::new();
    for (index, snapshot) in snapshots.iter().enumerate() {
        let decisions = schedule(snapshot, at(index));
        records.push(match records.last() {
            None => Record::whole(at(index), snapshot.clone(), &decisions),
            Some(before) => {
                let change = Change::between(&snapshots[index - 1], snapshot);
                Record::since(at(index), &before.inputs_digest, change, &decisions)
            }
        });
    }
    records
}

#[test]
fn a_broken_or_edited_chain_is_not_taken_for_the_truth() {
    let queue = |cores: u32| at(vec![waiting(1, cores, &[1])], vec![room(1, 8, 8)]);
    let records = recorded(&[queue(9), queue(4), queue(2)]);
    assert!(records[0].is_whole() && !records[1].is_whole());
    assert!(replay(&records).unwrap().same);
    assert_eq!(replay(&records[1..]).unwrap_err(), Irreproducible::NoBeginning);
    assert_eq!(replay(&[]).unwrap_err(), Irreproducible::NoBeginning);
    let Inputs::Whole(mut edited) = records[0].inputs.clone() else { unreachable!() };
    edited.waiting[0].item.cpus_milli = 1000;
    let edited = Record { inputs: Inputs::Whole(edited), ..records[0].clone() };
    assert_eq!(replay(std::slice::from_ref(&edited)).unwrap_err(), Irreproducible::OtherInputs);
    // Wherever in the chain it is, what comes after it is not believed.
    let with = |place: usize, other: Record| {
        let mut chain = records.clone();
        chain[place] = other;
        replay(&chain)
    };
    assert_eq!(with(0, edited).unwrap_err(), Irreproducible::OtherInputs);
    let Inputs::Since(mut change) = records[1].inputs.clone() else { unreachable!() };
    change.came[0].1.item.cpus_milli = 3000;
    let edited = Record { inputs: Inputs::Since(change.clone()), ..records[1].clone() };
    assert_eq!(with(1, edited).unwrap_err(), Irreproducible::OtherInputs);
    // Nor is it with a digest that agrees with it: the next one knows the digest it was built on.
    let agreed = Record::since(records[1].at, &records[0].inputs_digest, change, &[]);
    assert_eq!(with(1, agreed).unwrap_err(), Irreproducible::OtherInputs);
    let left_out = [records[0].clone(), records[2].clone()];
    assert_eq!(replay(&left_out).unwrap_err(), Irreproducible::OtherInputs);
    // Other decisions than those that come out: told, not hidden.
    let lied = Record { decisions_digest: "0".repeat(64), ..records[0].clone() };
    assert!(!replay(&[lied]).unwrap().same);
}

#[test]
fn causes_say_what_an_owner_would_act_on_and_no_count() {
    let causes = |snapshot: &Snapshot| -> Vec<Vec<Cause>> {
        let waits = |decision: Decision| if let Decision::Wait { causes, .. } = decision { Some(causes) } else { None };
        schedule(snapshot, Time::default()).into_iter().filter_map(waits).collect()
    };
    // Whether it is short of cores, or there are cores and others are ahead, it waits for room.
    let jobs = vec![waiting(1, 8, &[1]), waiting(2, 1, &[1]), waiting(3, 1, &[1])];
    assert_eq!(causes(&at(jobs, vec![room(1, 0, 8)])), vec![vec![Cause::Room]; 3]);
    let silent = Room { alive: false, ..room(2, 8, 8) };
    let jobs = || vec![waiting(1, 4, &[1, 2])];
    assert_eq!(causes(&at(jobs(), vec![room(1, 0, 8), silent])), [[Cause::Room, Cause::Silent]]);
    let unknown = Room { nodes: Vec::new(), ..room(2, 8, 8) };
    assert_eq!(causes(&at(jobs(), vec![room(1, 0, 8), unknown])), [[Cause::Room, Cause::Unknown]]);
    let none = QuotaRow {
        organisation: OrganisationId::from_u128(1),
        project: None,
        sku: "cpu.4".into(),
        guarantee: 0,
        borrow_max: Some(0),
        lend_max: None,
    };
    let short = Snapshot { quotas: vec![none], ..at(jobs(), vec![room(1, 8, 8), room(2, 8, 8)]) };
    assert_eq!(causes(&short), [[Cause::Quota]]);
}

#[test]
fn a_pass_made_by_other_rules_says_so() {
    // As version 2 wrote it.
    let room = r#"{"site":"SITE","name":"a","alive":true,"silent_since":null,"cpus_milli_free":1,"cpus_milli_total":1,
        "memory_bytes_free":1,"memory_bytes_total":1,"gpus_free":[],"gpus_total":[],"bound":[]}"#;
    let room = room.replace("SITE", &site(1).to_string());
    for inputs in
        [format!(r#"{{"whole":{{"waiting":[],"rooms":[{room}]}}}}"#), r#"{"whole":{"waiting":[],"rooms":[]}}"#.into()]
    {
        let written = format!(
            r#"{{"at":{},"rules":2,"inputs":{inputs},"inputs_digest":"x","decisions_digest":"y"}}"#,
            now_json()
        );
        let record: Record = serde_json::from_str(&written).unwrap();
        assert_eq!(replay(std::slice::from_ref(&record)).unwrap_err(), Irreproducible::OtherRules { rules: 2 });
        // What these rules cannot have written is no pass of theirs.
        let claimed = Record { rules: RULES, inputs: Inputs::Other(serde_json::Value::Null), ..record };
        assert_eq!(replay(&[claimed]).unwrap_err(), Irreproducible::NoBeginning);
    }
}

fn now_json() -> String {
    serde_json::to_string(&Time::default()).unwrap()
}

#[test]
fn a_record_holds_only_what_changed() {
    let jobs: Vec<_> = (1..=100).map(|number| waiting(number, 1, &[1])).collect();
    let before = at(jobs.clone(), vec![room(1, 8, 8), room(2, 8, 8)]);
    let after = at(jobs[1..].to_vec(), vec![room(1, 7, 8), room(2, 8, 8)]);
    let Inputs::Since(change) = recorded(&[before, after])[1].inputs.clone() else { unreachable!() };
    assert_eq!((change.left, change.came, change.gone), (vec![JobId::from_u128(1)], vec![], vec![]));
    assert_eq!(change.rooms, [room(1, 7, 8)]);
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_pass_is_made_again_from_its_chain(snapshots in queues_over_time()) {
        let records = recorded(&snapshots);
        for (index, snapshot) in snapshots.iter().enumerate() {
            let again = replay(&records[..=index]).unwrap();
            prop_assert!(again.same);
            prop_assert_eq!(&again.snapshot, snapshot);
            prop_assert_eq!(again.decisions, schedule(snapshot, records[index].at));
        }
    }

    #[test]
    fn what_nobody_asks_to_be_said_is_decided_all_the_same(snapshot in snapshots()) {
        let all = schedule(&snapshot, Time::default());
        let wanted = |job: JobId| job.as_u128().is_multiple_of(2);
        let some = schedule_saying(&snapshot, Time::default(), &|job, _, _| wanted(job));
        let quiet: Vec<Decision> = all.iter().cloned().map(|decision| match decision {
            Decision::Wait { job, causes, promise, .. } if !wanted(job) => {
                Decision::Wait { job, causes, reason: String::new(), promise }
            }
            other => other,
        }).collect();
        prop_assert_eq!(&some, &quiet);
        // Words are no part of what is held to a record.
        let digest = |decisions: &[Decision]| Record::whole(Time::default(), snapshot.clone(), decisions).decisions_digest;
        prop_assert_eq!(digest(&all), digest(&some));
    }

    #[test]
    fn the_order_is_the_one_jobs_are_looked_at_in(snapshot in snapshots()) {
        let decided: Vec<_> = schedule(&snapshot, Time::default()).iter().map(Decision::job).collect();
        prop_assert_eq!(order(&snapshot, Time::default()), decided);
    }

    #[test]
    fn no_pass_gives_out_more_than_is_free(snapshot in snapshots()) {
        for (site, jobs) in started(&snapshot, &schedule(&snapshot, Time::default())) {
            let room = snapshot.rooms.iter().find(|room| room.site == site).unwrap();
            let (node, there) = (&room.nodes[0], &room.bound[0].item);
            prop_assert!(room.alive);
            prop_assert!(jobs.iter().all(|job| job.sites.contains(&site)));
            prop_assert!(jobs.iter().map(|job| job.item.cpus_milli).sum::<u32>() + there.cpus_milli <= node.cpus_milli);
            prop_assert!(jobs.iter().map(|job| job.item.memory_bytes).sum::<u64>() + there.memory_bytes <= node.memory_bytes);
            prop_assert!(jobs.iter().map(|job| job.item.gpus).sum::<u32>() as usize <= node.gpus.len());
            for model in MODELS {
                let of_it = jobs.iter().filter(|job| job.item.gpu_model.as_deref() == Some(model));
                let asked: u32 = of_it.map(|job| job.item.gpus).sum();
                prop_assert!(asked as usize <= node.gpus.iter().filter(|free| *free == model).count());
            }
        }
    }

    #[test]
    fn every_job_gets_exactly_one_decision(snapshot in snapshots()) {
        let decisions = schedule(&snapshot, Time::default());
        let decided: BTreeSet<JobId> = decisions.iter().map(Decision::job).collect();
        prop_assert_eq!(decisions.len(), snapshot.waiting.len());
        prop_assert_eq!(decided, snapshot.waiting.iter().map(|job| job.job).collect::<BTreeSet<_>>());
    }

    #[test]
    fn neither_the_order_of_rooms_nor_the_names_of_jobs_matter((snapshot, rooms) in snapshots().prop_flat_map(|snapshot| {
        let rooms = Just(snapshot.rooms.clone()).prop_shuffle();
        (Just(snapshot), rooms)
    })) {
        let decisions = schedule(&snapshot, Time::default());
        prop_assert_eq!(&decisions, &schedule(&snapshot, Time::default()));
        let shuffled = Snapshot { rooms, ..snapshot.clone() };
        prop_assert_eq!(&decisions, &schedule(&shuffled, Time::default()));
        let mut renamed = snapshot.clone();
        for job in &mut renamed.waiting {
            job.job = other_name(job.job, &snapshot);
        }
        let expected: Vec<Decision> = decisions.into_iter().map(|decision| {
            let job = other_name(decision.job(), &snapshot);
            match decision {
                Decision::Start { site, places, .. } => Decision::Start { job, site, places },
                Decision::Wait { causes, reason, promise, .. } => Decision::Wait { job, causes, reason, promise },
                Decision::Never { reason, .. } => Decision::Never { job, reason },
                Decision::Stop { for_job, reason, .. } => Decision::Stop { job, for_job, reason },
            }
        }).collect();
        prop_assert_eq!(expected, schedule(&renamed, Time::default()));
    }

    #[test]
    fn only_what_no_known_site_could_ever_run_is_refused(snapshot in snapshots()) {
        for decision in schedule(&snapshot, Time::default()) {
            let job = snapshot.waiting.iter().find(|job| job.job == decision.job()).unwrap();
            let hope = job.sites.iter().any(|site| {
                snapshot.rooms.iter().find(|room| room.site == *site).is_none_or(|room| !room.is_known() || ever_fits(job, room))
            });
            prop_assert_eq!(matches!(decision, Decision::Never { .. }), !hope);
        }
    }

    #[test]
    fn nobody_starts_where_someone_before_him_waits_nobody_knows_until_when(mut snapshot in snapshots()) {
        for bound in snapshot.rooms.iter_mut().flat_map(|room| &mut room.bound) {
            bound.free_at = None;
        }
        let mut kept: BTreeSet<SiteId> = BTreeSet::new();
        for decision in schedule(&snapshot, Time::default()) {
            let job = snapshot.waiting.iter().find(|job| job.job == decision.job()).unwrap();
            match decision {
                Decision::Start { site, .. } => prop_assert!(!kept.contains(&site)),
                // Whose own quota is short waits for that, not for room: nobody after him is kept from starting.
                Decision::Wait { reason, causes, .. } if causes == [Cause::Quota] => prop_assert!(!reason.is_empty()),
                Decision::Wait { reason, .. } => {
                    prop_assert!(!reason.is_empty());
                    let could = |room: &&Room| job.sites.contains(&room.site) && room.is_known() && ever_fits(job, room);
                    kept.extend(snapshot.rooms.iter().filter(could).map(|room| room.site));
                }
                Decision::Never { .. } | Decision::Stop { .. } => {}
            }
        }
    }
}

/// Names in the opposite order.
fn other_name(job: JobId, snapshot: &Snapshot) -> JobId {
    let at = snapshot.waiting.iter().position(|waiting| waiting.job == job).unwrap();
    JobId::from_u128(5000 - at as u128)
}
