//! Members that start together, parts of accelerators, neighbours and kept machines: tales with known ends.

use gregal_core::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    place::Level,
    schedule::{
        Bound, Decision, END_MS, ENDLESS_MS, Item, Node, Place, QuotaRow, Room, Run, START_MS, Snapshot, Waiting,
        schedule,
    },
    time::Time,
};

use crate::given;

const HOUR_MS: i64 = 3_600_000;
const GIB: u64 = 1 << 30;

fn item(cores: u32, gpus: u32) -> Item {
    Item { sku: format!("{cores}-{gpus}"), memory_bytes: GIB, gpus, ..given::item(cores) }
}

fn gang(members: u32, gpus: u32) -> Item {
    Item { members, ..item(1, gpus) }
}

fn part(gpu_milli: u16) -> Item {
    Item { gpu_milli, sku: "part".into(), ..item(1, 0) }
}

fn job(number: u128, item: Item) -> Waiting {
    Waiting {
        job: JobId::from_u128(number),
        item,
        since: Time::from_millis(i64::try_from(number).unwrap()),
        sites: vec![SiteId::from_u128(1)],
        limit_ms: HOUR_MS.unsigned_abs(),
        promised: None,
    }
}

fn bound(number: u128, item: Item, nodes: &[u32], free_at: Option<i64>) -> Bound {
    Bound {
        job: Some(JobId::from_u128(number)),
        item,
        places: nodes.iter().map(|node| Place::on(*node)).collect(),
        since: Time::default(),
        free_at: free_at.map(Time::from_millis),
        told: None,
    }
}

/// A machine with so many accelerators, in a rack.
fn machine(gpus: usize, rack: u32) -> Node {
    Node {
        cpus_milli: 32_000,
        memory_bytes: 64 * GIB,
        gpus: vec!["h100".into(); gpus],
        rack: Some(rack),
        leaf: Some(rack / 2),
        ..Node::default()
    }
}

fn room(nodes: Vec<Node>, bound: Vec<Bound>) -> Room {
    Room {
        site: SiteId::from_u128(1),
        name: "paris-1".into(),
        alive: true,
        silent_since: None,
        nodes,
        bound,
        reserved: Vec::new(),
    }
}

fn at(waiting: Vec<Waiting>, room: Room) -> Snapshot {
    Snapshot { waiting, rooms: vec![room], ..Snapshot::default() }
}

fn decided(waiting: Vec<Waiting>, room: Room) -> Vec<Decision> {
    schedule(&at(waiting, room), Time::from_millis(10 * HOUR_MS))
}

/// The nodes of a start, or the words.
fn said(waiting: Vec<Waiting>, room: Room) -> Vec<String> {
    let word = |decision| match decision {
        Decision::Start { places, .. } => {
            let place = |place: &Place| {
                let parts: Vec<String> = place.gpus.iter().map(|gpu| format!("/{gpu}")).collect();
                format!("{}{}", place.node, parts.concat())
            };
            format!("start on {}", places.iter().map(place).collect::<Vec<_>>().join(" "))
        }
        Decision::Wait { reason, .. } => format!("wait: {reason}"),
        Decision::Never { reason, .. } => format!("never: {reason}"),
        Decision::Stop { job, .. } => format!("stop {}", job.as_u128()),
    };
    decided(waiting, room).into_iter().map(word).collect()
}

#[test]
fn all_members_start_in_the_rack_they_fill_best_or_none_does() {
    let nodes = || [machine(4, 0), machine(4, 0), machine(4, 2), machine(4, 2), machine(4, 2), machine(4, 4)].to_vec();
    let in_rack = |members| job(1, Item { within: Some(Level::Rack), ..gang(members, 4) });
    assert_eq!(said(vec![in_rack(2)], room(nodes(), vec![])), ["start on 0 1"]);
    assert_eq!(said(vec![in_rack(3)], room(nodes(), vec![])), ["start on 2 3 4"]);
    let busy = bound(9, item(1, 1), &[3], None);
    assert_eq!(
        said(vec![in_rack(3)], room(nodes(), vec![busy.clone()])),
        ["wait: 1 of 3 machines short in any one rack at `paris-1`"]
    );
    assert_eq!(said(vec![job(1, gang(5, 4))], room(nodes(), vec![busy.clone()])), ["start on 0 1 2 4 5"]);
    assert_eq!(said(vec![job(1, gang(6, 4))], room(nodes(), vec![busy])), ["wait: 1 of 6 machines short at `paris-1`"]);
}

#[test]
fn what_no_group_could_ever_hold_is_refused_at_once() {
    let nodes = || vec![machine(8, 0), machine(8, 0), machine(8, 0), machine(8, 1)];
    let asks = |members, within| job(1, Item { within, ..gang(members, 8) });
    let hint = ": ask for less, or for a site that has more";
    for (asked, words) in [
        (
            asks(4, Some(Level::Rack)),
            "asks for 4 machines of 8 accelerators in one rack; the largest rack at `paris-1` has 3",
        ),
        (asks(5, None), "asks for 5 machines of 8 accelerators; `paris-1` has 4"),
        (
            asks(2, Some(Level::Node)),
            "asks for room for 2 machines of 8 accelerators on one machine; the largest at `paris-1` has room for 1",
        ),
        (
            asks(2, Some(Level::Nvlink)),
            "asks for 2 machines of 8 accelerators in one domain of linked accelerators; `paris-1` has not said in which \
             domain of linked accelerators its machines are",
        ),
    ] {
        assert_eq!(said(vec![asked], room(nodes(), vec![])), [format!("never: {words}{hint}")]);
    }
    assert!(said(vec![job(1, part(1000))], room(nodes(), vec![]))[0].starts_with("never: asks for a part"));
    // A machine that is broken, or another's for now, leaves hope.
    let mut broken = nodes();
    broken[3].gpus_broken = std::mem::take(&mut broken[3].gpus);
    broken[2].only_for = Some((OrganisationId::from_u128(7), None));
    assert_eq!(said(vec![asks(4, None)], room(broken, vec![])), ["wait: 2 of 4 machines short at `paris-1`"]);
}

#[test]
fn members_pack_on_few_machines_or_spread_over_many() {
    let nodes = || vec![machine(8, 0), machine(8, 0), machine(8, 1), machine(4, 2)];
    let on = |item: Item| said(vec![job(1, item)], room(nodes(), vec![]));
    assert_eq!(on(gang(4, 1)), ["start on 3 3 3 3"], "the machine they fill best");
    assert_eq!(on(gang(6, 2)), ["start on 0 0 0 0 1 1"]);
    assert_eq!(on(Item { spread: true, ..gang(4, 1) }), ["start on 0 1 2 3"]);
    assert_eq!(on(Item { spread: true, ..gang(6, 4) }), ["start on 0 0 1 2 2 3"], "racks alike, too");
    assert_eq!(on(Item { spread: true, within: Some(Level::Rack), ..gang(3, 1) }), ["start on 0 0 1"]);
    assert_eq!(on(Item { within: Some(Level::Node), ..gang(2, 4) }), ["start on 2 2"], "alone in its rack");
}

#[test]
fn a_gang_is_promised_when_the_last_of_its_machines_is_free_and_nobody_delays_it() {
    let nodes = vec![machine(4, 0), machine(4, 0), machine(4, 2), machine(4, 2)];
    let now = 10 * HOUR_MS;
    let until = |number, node, hours| bound(number, item(1, 4), &[node], Some(now + hours * HOUR_MS));
    let runs = vec![until(8, 0, 2), until(9, 2, 5)];
    let big = job(1, Item { within: Some(Level::Rack), ..gang(2, 4) });
    let hours = |number, hours: i64| Waiting { limit_ms: (hours * HOUR_MS).unsigned_abs(), ..job(number, item(1, 4)) };
    // In two hours the first rack is free. Until then one machine of it idles, as does one that the gang has no use for.
    let words = said(vec![big.clone(), hours(2, 3), hours(3, 3)], room(nodes.clone(), runs.clone()));
    let start = Time::from_millis(now + 2 * HOUR_MS);
    assert_eq!(
        words,
        [
            format!("wait: 1 of 2 machines short in any one rack at `paris-1`; starts no later than {start}"),
            "start on 3".into(),
            format!(
                "wait: a job ahead of it was promised the room at `paris-1` for {start}; a limit of 6840 s or less would \
                 let it start now"
            ),
        ]
    );
    let words = said(vec![big, hours(2, 1), hours(3, 1)], room(nodes, runs));
    assert_eq!(
        words.iter().filter(|words| words.starts_with("start on")).count(),
        2,
        "both are over before: {words:?}"
    );
}

#[test]
fn a_gang_stops_the_cheapest_runs_on_several_machines_and_no_more() {
    let nodes = vec![machine(4, 0), machine(4, 0), machine(4, 1), machine(4, 1)];
    let run = |number, gpus, nodes: &[u32]| {
        let item = Item { preemptible: true, members: u32::try_from(nodes.len()).unwrap(), ..item(1, gpus) };
        bound(number, item, nodes, Some(30 * HOUR_MS))
    };
    // The first rack costs 3 + 2 accelerators' work; the second one run of 2 x 2.
    let runs = vec![run(901, 3, &[0]), run(902, 2, &[1]), run(903, 2, &[2, 3])];
    let urgent = |within| job(1, Item { priority: 1, within, ..gang(2, 4) });
    assert_eq!(said(vec![urgent(Some(Level::Rack))], room(nodes.clone(), runs.clone()))[1..], ["stop 903"]);
    assert_eq!(said(vec![urgent(None)], room(nodes.clone(), runs[..2].to_vec())), ["start on 2 3"]);
    // Nobody is stopped for a gang that would not fit all the same.
    let (fixed, all) = (bound(904, item(1, 1), &[3], Some(30 * HOUR_MS)), Item { priority: 1, ..gang(4, 4) });
    assert_eq!(said(vec![job(1, all)], room(nodes, [runs, vec![fixed]].concat())).len(), 1);
}

#[test]
fn a_quota_counts_every_member() {
    let row = QuotaRow {
        organisation: OrganisationId::from_u128(1),
        project: None,
        sku: "1-2".into(),
        guarantee: 0,
        borrow_max: Some(7),
        lend_max: None,
    };
    let nodes = vec![machine(8, 0), machine(8, 0)];
    let said = |waiting| {
        let snapshot = Snapshot { quotas: vec![row.clone()], ..at(waiting, room(nodes.clone(), vec![])) };
        let decisions = schedule(&snapshot, Time::from_millis(10 * HOUR_MS));
        decisions.into_iter().find_map(|decision| match decision {
            Decision::Wait { reason, .. } => Some(reason),
            _ => None,
        })
    };
    assert_eq!(said(vec![job(1, gang(3, 2))]), None);
    let words = said(vec![job(1, gang(4, 2))]).unwrap();
    assert!(words.starts_with("1 of 8 accelerators of `1-2` short within its quota (0 used, 0 its own)"), "{words}");
    let counted = Item { units: 3, ..gang(3, 2) };
    assert!(said(vec![job(1, counted)]).unwrap().starts_with("2 of 9 units"));
    // What runs counts with all of its members, too.
    let running = room(nodes.clone(), vec![bound(9, gang(3, 2), &[0, 0, 1], Some(30 * HOUR_MS))]);
    let snapshot = Snapshot { quotas: vec![row.clone()], ..at(vec![job(1, gang(1, 2))], running) };
    let decisions = schedule(&snapshot, Time::from_millis(10 * HOUR_MS));
    assert!(matches!(&decisions[0], Decision::Wait { reason, .. } if reason.contains("(6 used")), "{decisions:?}");
}

#[test]
fn parts_share_accelerators_and_whole_ones_never_do() {
    let parts = |sizes: &[u16]| (1..).zip(sizes).map(|(number, milli)| job(number, part(*milli))).collect::<Vec<_>>();
    let on = |waiting: Vec<Waiting>, bound| said(waiting, room(vec![machine(2, 0)], bound));
    assert_eq!(
        on(parts(&[500, 300, 300, 200]), vec![]),
        ["start on 0/0", "start on 0/0", "start on 0/1", "start on 0/0"]
    );
    assert_eq!(
        on(parts(&[600, 600, 600]), vec![])[2],
        "wait: 200 of 600 thousandths of one of the accelerators short (400 free on one) at `paris-1`; \
         starts no later than 1970-01-01T11:06:00.000Z"
    );
    // A whole one next to a part, and a part next to whole ones.
    assert_eq!(on([parts(&[100]), vec![job(2, item(1, 2))]].concat(), vec![])[0], "start on 0/0");
    let mixed = on([vec![job(1, item(1, 1))], vec![job(2, part(700)), job(3, part(400))]].concat(), vec![]);
    assert!(mixed[2].starts_with("wait: 100 of 400 thousandths"), "{mixed:?}");
    // Members of one job, each a part.
    assert_eq!(on(vec![job(1, Item { members: 4, ..part(500) })], vec![]), ["start on 0/0 0/0 0/1 0/1"]);
    assert!(
        on(vec![job(1, Item { members: 5, ..part(500) })], vec![])[0].starts_with("never: asks for 5 machines of 500")
    );
}

#[test]
fn parts_of_other_organisations_and_those_that_may_lie_on_a_broken_one_are_not_joined() {
    let there =
        Bound { places: vec![Place { node: 0, gpus: vec![3] }], ..bound(9, part(200), &[], Some(30 * HOUR_MS)) };
    let other = Item { organisation: OrganisationId::from_u128(2), ..part(200) };
    let on = |item, node| said(vec![job(1, item)], room(vec![node], vec![there.clone()]));
    assert_eq!(on(part(200), machine(2, 0)), ["start on 0/3"]);
    assert_eq!(on(other, machine(2, 0)), ["start on 0/0"]);
    let broken = |healthy| Node { gpus_broken: vec!["h100".into()], ..machine(healthy, 0) };
    assert_eq!(on(part(200), broken(2)), ["start on 0/0"]);
    assert!(on(part(200), broken(1))[0].starts_with("wait: 200 of 200 thousandths"), "nothing goes to what is broken");
}

#[test]
fn what_keeps_apart_never_shares_a_machine() {
    let apart = |name: &str| Item { apart: Some(name.into()), ..item(1, 0) };
    let one = || machine(0, 0);
    let twice = || vec![job(1, apart("web")), job(2, apart("web"))];
    let words = said(twice(), room(vec![one(), one()], vec![]));
    assert!(words.contains(&"start on 0".into()) && words.contains(&"start on 1".into()), "{words:?}");
    let words = said(twice(), room(vec![one()], vec![]));
    assert_eq!(
        words[1],
        "wait: runs apart from all that is named `web` in its project, which is on every machine with room at `paris-1`; \
         starts no later than 1970-01-01T11:06:00.000Z"
    );
    let stands = Bound { job: None, ..bound(9, apart("web"), &[0], None) };
    let on = |item| said(vec![job(1, item)], room(vec![one(), one()], vec![stands.clone()]));
    assert_eq!(on(apart("web")), ["start on 1"]);
    assert_eq!(on(apart("db")), ["start on 0"]);
    assert_eq!(on(Item { project: ProjectId::from_u128(2), ..apart("web") }), ["start on 0"]);
}

#[test]
fn a_kept_machine_is_for_its_owner_and_for_what_has_ended_in_time() {
    let now = 10 * HOUR_MS;
    let kept = |owner: u128, project: Option<u128>| {
        let owner = (OrganisationId::from_u128(owner), project.map(ProjectId::from_u128));
        vec![Node { only_for: Some(owner), ..machine(0, 0) }]
    };
    let mine = || job(1, item(1, 0));
    assert_eq!(said(vec![mine()], room(kept(1, None), vec![])), ["start on 0"]);
    assert_eq!(said(vec![mine()], room(kept(1, Some(1)), vec![])), ["start on 0"]);
    for nodes in [kept(2, None), kept(1, Some(2))] {
        assert_eq!(
            said(vec![mine()], room(nodes, vec![])),
            ["wait: the machines at `paris-1` are kept for others now"]
        );
    }
    let until = |at| vec![Node { until: Some(Time::from_millis(at)), ..machine(0, 0) }];
    let enough = now + HOUR_MS + START_MS + END_MS;
    assert_eq!(said(vec![mine()], room(until(enough), vec![])), ["start on 0"]);
    assert!(
        said(vec![mine()], room(until(enough - 1), vec![]))[0]
            .starts_with("wait: the machines at `paris-1` are free only for what has ended by")
    );
    let endless = Waiting { limit_ms: ENDLESS_MS, ..mine() };
    assert!(said(vec![endless], room(until(i64::MAX), vec![]))[0].starts_with("wait"));
    // A shorter one like it goes where the longer one may not.
    let short = Waiting { limit_ms: HOUR_MS.unsigned_abs() - 1000, ..job(2, item(1, 0)) };
    let words = said(vec![mine(), short], room(until(enough - 1), vec![]));
    assert!(words.contains(&"start on 0".into()), "{words:?}");
}

#[test]
fn nobody_is_promised_an_accelerator_that_may_be_gone_once_its_parts_are() {
    let now = 10 * HOUR_MS;
    let node =
        Node { cpus_milli: 4000, gpus: ["a100", "a100", "h100", "h100"].map(Into::into).into(), ..machine(0, 0) };
    let a100 = |cores: u32, milli| Item { gpu_model: Some("a100".into()), cpus_milli: cores * 1000, ..part(milli) };
    let until = |number, item, hours: i64| bound(number, item, &[0], Some(now + hours * HOUR_MS));
    // Two of any model: by what they were given, one may be left of what the part lies on, or none.
    let rest = [until(8, item(0, 2), 6), until(9, Item { cpus_milli: 3000, ..item(0, 0) }, 2)];
    let shared = Bound { places: vec![Place { node: 0, gpus: vec![0] }], ..until(7, a100(1, 250), 5) };
    let promise = |bound| match decided(vec![job(1, a100(2, 250))], room(vec![node.clone()], bound)).remove(0) {
        Decision::Wait { promise, .. } => promise.map(|promise| promise.at.as_millis() - now),
        other => panic!("{other:?}"),
    };
    assert_eq!(promise([rest.to_vec(), vec![shared]].concat()), Some(6 * HOUR_MS));
    assert_eq!(promise(rest.to_vec()), Some(6 * HOUR_MS), "whoever shares it may end early");
}

/// Two jobs of one accelerator come to three machines, then three of four: how many of those start.
fn whole_ones_left(past: &[Run]) -> usize {
    let mut home = room(vec![machine(4, 0), machine(4, 1), machine(6, 2)], vec![]);
    let mut started = 0;
    for (number, gpus) in [(1, 1), (2, 1), (3, 4), (4, 4), (5, 4)] {
        let waiting = vec![job(number, item(1, gpus))];
        let snapshot = Snapshot { past: past.to_vec(), ..at(waiting, home.clone()) };
        for decision in schedule(&snapshot, Time::from_millis(10 * HOUR_MS)) {
            let Decision::Start { places, .. } = decision else { continue };
            home.bound.push(Bound { places, ..bound(number, item(1, gpus), &[], Some(30 * HOUR_MS)) });
            started += usize::from(gpus == 4);
        }
    }
    started
}

#[test]
fn small_jobs_leave_whole_what_is_usually_taken_whole() {
    let ran = |number| Run {
        job: JobId::from_u128(number),
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        sku: "1-4".into(),
        gpus: 4,
        limit_ms: HOUR_MS.unsigned_abs(),
        ended: Time::from_millis(9 * HOUR_MS),
        ran_ms: 1,
        units: 0,
    };
    // The least left over is on a machine of four, and the next whole one does not fit there any more.
    assert_eq!(whole_ones_left(&[]), 2);
    // Where whole ones are usual, the small ones go to the machine of six, which four fit on all the same.
    assert_eq!(whole_ones_left(&(100..104).map(ran).collect::<Vec<_>>()), 3);
}

#[test]
fn who_cannot_use_a_kept_machine_in_time_may_still_have_room_made_on_another() {
    let kept = Node { until: Some(Time::from_millis(10 * HOUR_MS + 1)), ..machine(4, 0) };
    let run = bound(901, Item { preemptible: true, ..item(1, 4) }, &[1], Some(30 * HOUR_MS));
    let urgent = job(1, Item { priority: 1, ..item(1, 4) });
    assert_eq!(said(vec![urgent], room(vec![kept, machine(4, 1)], vec![run]))[1..], ["stop 901"]);
}

#[test]
fn room_that_is_being_freed_is_claimed_once() {
    let run = |number, node| bound(number, Item { preemptible: true, ..item(1, 4) }, &[node], Some(30 * HOUR_MS));
    let told = Bound { told: Some(Time::from_millis(10 * HOUR_MS)), ..run(901, 0) };
    let urgent = |number| job(number, Item { priority: 1, ..item(1, 4) });
    let home = || room(vec![machine(4, 0), machine(4, 1)], vec![told.clone(), run(902, 1)]);
    let stops =
        |waiting| said(waiting, home()).into_iter().filter(|words| words.starts_with("stop")).collect::<Vec<_>>();
    assert_eq!(stops(vec![urgent(1)]), [""; 0], "it waits for the one that is told");
    assert_eq!(stops(vec![urgent(1), urgent(2)]), ["stop 902"], "the other needs one more");
}

#[test]
fn a_quota_that_somebody_was_promised_is_kept_while_nobody_knows_until_when() {
    let now = 10 * HOUR_MS;
    let quota = QuotaRow {
        organisation: OrganisationId::from_u128(1),
        project: None,
        sku: "1-4".into(),
        guarantee: 0,
        borrow_max: Some(4),
        lend_max: None,
    };
    let other = Item { organisation: OrganisationId::from_u128(2), ..item(2, 4) };
    // At its site runs what is not ready yet; the other site is free, and the quota allows one of the two.
    let starting = room(vec![machine(4, 0)], vec![bound(9, other, &[0], None)]);
    let site = SiteId::from_u128(2);
    let free = Room { site, name: "lyon-1".into(), ..room(vec![machine(4, 0)], vec![]) };
    let promised =
        Some(gregal_core::schedule::Promise { at: Time::from_millis(now + HOUR_MS), site: SiteId::from_u128(1) });
    let first = Waiting { promised, ..job(1, item(1, 4)) };
    let second = Waiting { sites: vec![site], ..job(2, item(1, 4)) };
    let starts = |waiting| {
        let snapshot = Snapshot {
            rooms: vec![starting.clone(), free.clone()],
            quotas: vec![quota.clone()],
            ..at(waiting, free.clone())
        };
        let decisions = schedule(&snapshot, Time::from_millis(now));
        decisions.iter().any(|decision| matches!(decision, Decision::Start { .. }))
    };
    assert!(starts(vec![second.clone()]));
    assert!(!starts(vec![first, second]), "the quota was promised to the first");
}

#[test]
fn who_waits_for_quota_that_is_coming_back_keeps_what_is_left_of_it_and_nothing_else() {
    let now = 10 * HOUR_MS;
    let of = |organisation, gpus| Item {
        organisation: OrganisationId::from_u128(organisation),
        sku: "h100".into(),
        ..item(1, gpus)
    };
    let quota = QuotaRow {
        organisation: OrganisationId::from_u128(1),
        project: None,
        sku: "h100".into(),
        guarantee: 0,
        borrow_max: Some(3),
        lend_max: None,
    };
    // Two of the three are used at the other site, by what is not ready yet.
    let starting = room(vec![machine(2, 0)], vec![bound(9, of(1, 2), &[0], None)]);
    let here = Room { site: SiteId::from_u128(2), name: "lyon-1".into(), ..room(vec![machine(4, 0)], vec![]) };
    let is_at = |job| Waiting { sites: vec![here.site], ..job };
    let promise = gregal_core::schedule::Promise { at: Time::from_millis(now + 2 * HOUR_MS), site: here.site };
    let first = is_at(Waiting { promised: Some(promise), ..job(1, of(1, 3)) });
    let decided = |second: Waiting| {
        let snapshot = Snapshot {
            rooms: vec![starting.clone(), here.clone()],
            quotas: vec![quota.clone()],
            ..at(vec![first.clone(), is_at(second)], here.clone())
        };
        schedule(&snapshot, Time::from_millis(now))
    };
    let starts = |second| matches!(decided(second)[1], Decision::Start { .. });
    let long = |item| Waiting { limit_ms: 10 * HOUR_MS.unsigned_abs(), ..job(2, item) };
    assert!(!starts(long(of(1, 1))), "it would still have what the first was promised");
    assert!(starts(job(2, of(1, 1))), "over by then");
    assert!(starts(long(of(2, 1))), "nobody's quota but its own");
    let said = |decision: &Decision| matches!(decision, Decision::Wait { promise: Some(same), .. } if *same == promise);
    assert!(said(&decided(long(of(2, 1)))[0]), "what was said stands");
}
