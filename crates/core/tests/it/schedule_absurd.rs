//! Snapshots that no sound cloud would make: absurd amounts, times out of order, names twice or of nothing, machines that
//! vanished under what runs on them. A pass answers all the same, once a job, and the same each time.

use std::collections::BTreeMap;

use gregal_core::{
    id::{JobId, OrganisationId, ProjectId, SiteId},
    place::Level,
    schedule::{
        Block, Bound, Decision, ENDLESS_MS, Item, Node, Place, Promise, QuotaRow, Room, Run, Snapshot, Waiting, Weight,
        order,
        record::{Record, replay},
        schedule,
    },
    time::Time,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::given::cases;

const NAMES: [&str; 3] = ["", "h100", "a-model-nobody-has"];

fn number() -> impl Strategy<Value = u32> {
    select(vec![0, 1, 2, 8, 999, 1000, 1001, 64_000, 1 << 30, u32::MAX - 1, u32::MAX])
}

fn amount() -> impl Strategy<Value = u64> {
    select(vec![0, 1, 1000, 1 << 30, 1 << 40, u64::MAX >> 1, u64::MAX - 1, u64::MAX])
}

fn moment() -> impl Strategy<Value = Time> {
    select(vec![i64::MIN, -1, 0, 1, 999_999, 1_000_000, 1_000_001, 1 << 42, i64::MAX - 1, i64::MAX])
        .prop_map(Time::from_millis)
}

fn id<T: std::fmt::Debug>(of: fn(u128) -> T) -> impl Strategy<Value = T> {
    (0_u128..4).prop_map(move |number| of(if number == 3 { u128::MAX } else { number }))
}

fn name() -> impl Strategy<Value = String> {
    select(NAMES.to_vec()).prop_map(str::to_owned)
}

prop_compose! {
    fn item()(
        (organisation, project, sku) in (id(OrganisationId::from_u128), id(ProjectId::from_u128), name()),
        (cpus_milli, memory_bytes, gpus, gpu_model) in (number(), amount(), number(), option::of(name())),
        (priority, preemptible, stops, worked_ms) in (any::<u8>(), any::<bool>(), number(), amount()),
        (units, members, spread) in (number(), number(), any::<bool>()),
        within in option::of(select(vec![Level::Node, Level::Nvlink, Level::Rack, Level::Leaf])),
        (gpu_milli, apart) in (select(vec![0, 1, 500, 999, 1000, u16::MAX]), option::of(name())),
    ) -> Item {
        Item {
            organisation, project, sku, cpus_milli, memory_bytes, gpus, gpu_model, priority, preemptible, stops, worked_ms, units,
            members, within, spread, gpu_milli, apart,
        }
    }
}

prop_compose! {
    fn job()(
        (job, item, since, sites) in (id(JobId::from_u128), item(), moment(), vec(id(SiteId::from_u128), 0..4)),
        limit_ms in prop_oneof![amount(), Just(ENDLESS_MS)],
        promised in option::of((moment(), id(SiteId::from_u128)).prop_map(|(at, site)| Promise { at, site })),
    ) -> Waiting {
        Waiting { job, item, since, sites, limit_ms, promised }
    }
}

prop_compose! {
    fn bound()(
        (job, item, since) in (option::of(id(JobId::from_u128)), item(), moment()),
        places in vec((number(), vec(any::<u8>(), 0..3)).prop_map(|(node, gpus)| Place { node, gpus }), 0..3),
        (free_at, told) in (option::of(moment()), option::of(moment())),
    ) -> Bound {
        Bound { job, item, places, since, free_at, told }
    }
}

prop_compose! {
    fn node()(
        (cpus_milli, memory_bytes, gpus, gpus_broken) in (number(), amount(), vec(name(), 0..4), vec(name(), 0..2)),
        (domain, rack, leaf) in (option::of(number()), option::of(number()), option::of(number())),
        only_for in option::of((id(OrganisationId::from_u128), option::of(id(ProjectId::from_u128)))),
        until in option::of(moment()),
    ) -> Node {
        Node { cpus_milli, memory_bytes, gpus, gpus_broken, domain, rack, leaf, only_for, until }
    }
}

prop_compose! {
    fn room()(
        (site, name, alive) in (id(SiteId::from_u128), name(), any::<bool>()),
        (silent_since, nodes, bound) in (option::of(moment()), vec(node(), 0..4), vec(bound(), 0..4)),
        reserved in vec((item(), moment(), moment()).prop_map(|(item, from, until)| Block { item, from, until }), 0..3),
    ) -> Room {
        Room { site, name, alive, silent_since, nodes, bound, reserved }
    }
}

prop_compose! {
    fn run()(
        (job, organisation, project, sku) in
            (id(JobId::from_u128), id(OrganisationId::from_u128), id(ProjectId::from_u128), name()),
        (gpus, limit_ms, ended, ran_ms, units) in (number(), amount(), moment(), amount(), number()),
    ) -> Run {
        Run { job, organisation, project, sku, gpus, limit_ms, ended, ran_ms, units }
    }
}

prop_compose! {
    fn quota()(
        (organisation, project, sku) in (id(OrganisationId::from_u128), option::of(id(ProjectId::from_u128)), name()),
        (guarantee, borrow_max, lend_max) in (number(), option::of(number()), option::of(number())),
    ) -> QuotaRow {
        QuotaRow { organisation, project, sku, guarantee, borrow_max, lend_max }
    }
}

prop_compose! {
    fn snapshot()(
        (waiting, rooms, past) in (vec(job(), 0..6), vec(room(), 0..4), vec(run(), 0..4)),
        quotas in vec(quota(), 0..4),
        weights in vec((id(OrganisationId::from_u128), number()).prop_map(|(organisation, weight)| Weight { organisation, weight }), 0..3),
    ) -> Snapshot {
        Snapshot { waiting, rooms, quotas, weights, past, ..Snapshot::default() }
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn no_snapshot_makes_a_pass_panic_or_speak_twice_of_a_job(snapshot in snapshot(), now in moment(), later in moment()) {
        let decisions = schedule(&snapshot, now);
        prop_assert_eq!(&decisions, &schedule(&snapshot, now));
        let mut spoken: BTreeMap<JobId, u32> = BTreeMap::new();
        for decision in &decisions {
            match decision {
                Decision::Start { job, site, places } => {
                    *spoken.entry(*job).or_default() += 1;
                    let room = snapshot.rooms.iter().rfind(|room| room.site == *site);
                    let nodes = room.map_or(0, |room| room.nodes.len());
                    prop_assert!(places.iter().all(|place| (place.node as usize) < nodes), "{:?}", decision);
                }
                Decision::Wait { job, .. } | Decision::Never { job, .. } => *spoken.entry(*job).or_default() += 1,
                Decision::Stop { .. } => {}
            }
        }
        for job in &snapshot.waiting {
            prop_assert_eq!(spoken.get(&job.job), Some(&1), "{} in {:?}", job.job, decisions);
        }
        // A clock that goes back is a time like any other.
        drop(schedule(&snapshot, later));
        drop(order(&snapshot, now));
        let records = [Record::whole(now, snapshot.clone(), &decisions)];
        prop_assert!(replay(&records).is_ok_and(|again| again.same));
    }
}
