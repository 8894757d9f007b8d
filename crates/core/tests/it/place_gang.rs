//! Gangs over random networks: all or nothing, where they asked to be, on no more leaves than must be.

use std::{collections::BTreeMap, sync::Arc};

use gregal_core::place::{
    Arrangement, Chance, Cluster, Demand, Experience, GangShort, GpuAsk, Identity, Level, MEMBERS_MAX, NodeSpec, Place,
    Placement, Placer, Policy, Wish,
};
use proptest::prelude::*;

use crate::given::cases;

/// Leaf, rack and directly linked domain of a node, and its cores and GPUs. Racks are within leaves, domains within racks.
type Host = ((Option<u32>, u32, u32), u64, u8);

fn hosts() -> impl Strategy<Value = Vec<Host>> {
    let place = (prop::option::weighted(0.9, 0_u32..4), 0_u32..2, 0_u32..2);
    prop::collection::vec((place, prop::sample::select(vec![8_u64, 16]), 0_u8..=4), 1..20)
}

fn spec(((leaf, rack, nvlink), cores, gpus): Host) -> NodeSpec {
    let rack = leaf.map(|leaf| leaf * 2 + rack);
    let place = Place { leaf, rack, nvlink: rack.map(|rack| rack * 2 + nvlink) };
    NodeSpec { cpu_milli: cores * 1000, memory_mib: 1 << 20, gpus, place, ..NodeSpec::default() }
}

fn demands() -> impl Strategy<Value = Demand> {
    let gpus = prop_oneof![
        Just(GpuAsk::None),
        prop::sample::select(vec![300_u16, 500, 700]).prop_map(GpuAsk::Fraction),
        (1_u8..=4).prop_map(GpuAsk::Whole),
    ];
    (1_u64..6, gpus).prop_map(|(cores, gpus)| Demand { cpu_milli: cores * 1000, gpus, ..Demand::default() })
}

fn wishes() -> impl Strategy<Value = Wish> {
    let levels =
        prop::sample::select(vec![None, Some(Level::Node), Some(Level::Nvlink), Some(Level::Rack), Some(Level::Leaf)]);
    let arrangements = prop::sample::select(vec![Arrangement::Pack, Arrangement::Spread]);
    (levels, arrangements).prop_map(|(within, arrangement)| Wish { within, arrangement })
}

/// A cluster of these hosts on which some demands run already.
fn placer(hosts: &[Host], running: &[Demand]) -> Placer {
    let specs: Vec<NodeSpec> = hosts.iter().copied().map(spec).collect();
    let policy = Policy::Default(Arc::new(Experience::default()));
    let mut placer = Placer::new(Cluster::new(&specs, Identity::Content).unwrap(), &policy);
    for demand in running {
        drop(placer.place(demand));
    }
    placer
}

/// How many members each node holds, found by putting them there until no more goes in.
fn rooms(placer: &Placer, demand: &Demand) -> Vec<u64> {
    let holds = |node: u32| {
        let mut cluster = placer.cluster().clone();
        let mut put = || {
            let free = cluster.gpus_free(node)?.to_vec();
            let gpus = match demand.gpus {
                GpuAsk::None => vec![],
                GpuAsk::Fraction(milli) => vec![(0..).zip(&free).find(|(_, free)| **free >= milli)?.0],
                GpuAsk::Whole(count) => {
                    let idle: Vec<u8> =
                        (0..).zip(&free).filter(|(_, free)| **free == 1000).map(|(gpu, _)| gpu).collect();
                    idle.get(..usize::from(count))?.to_vec()
                }
            };
            cluster.take(demand, &Placement { node, gpus }).ok()
        };
        std::iter::from_fn(&mut put).count() as u64
    };
    (0..placer.cluster().len() as u32).map(holds).collect()
}

/// The number of a node's group at a level, in the test's own words; each node is its own group of the nearest level.
fn group(host: &Host, index: usize, level: Level) -> Option<u64> {
    let place = spec(*host).place;
    match level {
        Level::Node => Some(index as u64),
        Level::Nvlink => place.nvlink.map(u64::from),
        Level::Rack => place.rack.map(u64::from),
        Level::Leaf => place.leaf.map(u64::from),
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_gang_starts_whole_where_it_asked_or_not_at_all(
        hosts in hosts(), running in prop::collection::vec(demands(), 0..12), demand in demands(), wish in wishes(), members in 0_u32..24
    ) {
        let mut placer = placer(&hosts, &running);
        let rooms = rooms(&placer, &demand);
        let mut by_group: BTreeMap<Option<u64>, u64> = BTreeMap::new();
        for (index, (host, room)) in hosts.iter().zip(&rooms).enumerate() {
            match wish.within.map(|level| group(host, index, level)) {
                None => *by_group.entry(None).or_default() += room,
                Some(Some(group)) => *by_group.entry(Some(group)).or_default() += room,
                Some(None) => {}
            }
        }
        let most = by_group.values().max().copied().unwrap_or(0);
        let before = placer.cluster().census();
        match placer.place_gang(members, &demand, wish) {
            Err(short) => {
                prop_assert_eq!(short, GangShort { fit: most, members });
                prop_assert!(most < u64::from(members));
                prop_assert_eq!(placer.cluster().census(), before);
            }
            Ok(placements) => {
                prop_assert_eq!(placements.len(), members as usize);
                if let Some(level) = wish.within {
                    let mut groups = placements.iter().map(|p| group(&hosts[p.node as usize], p.node as usize, level));
                    let first = groups.next();
                    prop_assert!(first != Some(None) && groups.all(|group| Some(group) == first));
                }
                for placement in &placements {
                    placer.release(&demand, placement).unwrap();
                }
                prop_assert_eq!(placer.cluster().census(), before);
            }
        }
    }

    #[test]
    fn a_packed_gang_touches_the_fewest_leaves_and_a_spread_one_shares_them(
        hosts in hosts(), running in prop::collection::vec(demands(), 0..12), demand in demands(), members in 1_u32..24
    ) {
        let world = placer(&hosts, &running);
        let mut rooms_of_leaf: BTreeMap<Option<u32>, u64> = BTreeMap::new();
        for (((leaf, ..), ..), room) in hosts.iter().zip(rooms(&world, &demand)) {
            *rooms_of_leaf.entry(*leaf).or_default() += room;
        }
        let shares = |arrangement| {
            let placements = world.clone().place_gang(members, &demand, Wish { within: None, arrangement }).ok()?;
            let mut shares: BTreeMap<Option<u32>, u64> = BTreeMap::new();
            for placement in &placements {
                *shares.entry(hosts[placement.node as usize].0.0).or_default() += 1;
            }
            Some(shares)
        };
        let Some((packed, spread)) = shares(Arrangement::Pack).zip(shares(Arrangement::Spread)) else { return Ok(()) };
        let mut rooms: Vec<u64> = rooms_of_leaf.values().copied().collect();
        rooms.sort_unstable();
        let mut left = u64::from(members);
        let fewest = rooms.iter().rev().take_while(|room| { let more = left > 0; left = left.saturating_sub(**room); more }).count();
        prop_assert_eq!(packed.len(), fewest);
        let most = spread.values().max().copied().unwrap_or(0);
        for (leaf, room) in &rooms_of_leaf {
            let share = spread.get(leaf).copied().unwrap_or(0);
            prop_assert!(share + 1 >= most || share == *room, "{leaf:?} has {share} of {room}, another {most}");
        }
    }

    #[test]
    fn names_and_order_of_hosts_do_not_move_a_gang(
        hosts in hosts(), demand in demands(), wish in wishes(), members in 1_u32..24, seed in any::<u64>()
    ) {
        // Leaves get other numbers, hosts another order.
        let mut renamed = hosts.clone();
        for ((leaf, ..), ..) in &mut renamed {
            *leaf = leaf.map(|leaf| 3 - leaf);
        }
        Chance::new(seed).shuffle(&mut renamed);
        let left = |hosts: &[Host]| {
            let mut placer = placer(hosts, &[]);
            let placed = placer.place_gang(members, &demand, wish).map(|placements| placements.len());
            (placed, placer.cluster().census())
        };
        prop_assert_eq!(left(&renamed), left(&hosts));
    }
}

#[test]
fn an_absurd_gang_is_refused_with_what_would_fit() {
    let cores = Demand { cpu_milli: 1000, ..Demand::default() };
    let mut placer = placer(&[((Some(0), 0, 0), 8, 1), ((None, 0, 0), 8, 1)], &[]);
    let rack = Wish { within: Some(Level::Rack), ..Wish::default() };
    assert_eq!(placer.place_gang(u32::MAX, &cores, Wish::default()), Err(GangShort { fit: 16, members: u32::MAX }));
    assert_eq!(placer.place_gang(9, &cores, rack), Err(GangShort { fit: 8, members: 9 }));
    // What asks for nothing fits without end, and still a gang has an end.
    let nothing = placer.place_gang(u32::MAX, &Demand::default(), Wish::default());
    assert_eq!(nothing, Err(GangShort { fit: u64::from(MEMBERS_MAX), members: u32::MAX }));
    let too_many_gpus = Demand { gpus: GpuAsk::Whole(2), ..cores };
    assert_eq!(placer.place_gang(0, &too_many_gpus, rack), Ok(vec![]));
    assert_eq!(
        placer.place_gang(1, &Demand { gpus: GpuAsk::Whole(0), ..cores }, rack),
        Err(GangShort { fit: 0, members: 1 })
    );
}
