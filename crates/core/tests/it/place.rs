//! Placement over random clusters, watched by a ledger of its own that shares no line with the code.

use std::sync::Arc;

use gregal_core::place::{
    Chance, Cluster, Demand, Experience, GpuAsk, Identity, Models, NodeSpec, Place, PlaceError, Placement, Placer,
    Policy, Workload,
};
use proptest::prelude::*;

use crate::given::cases;

const MODELS: [&str; 3] = ["a100", "h100", "l4"];

fn models() -> Models {
    Models::new(MODELS).unwrap()
}

/// A node of so many cores, GiB and GPUs of a model.
fn node(cores: u64, gib: u64, gpus: u8, model: usize) -> NodeSpec {
    let model = if gpus > 0 { models().id(MODELS[model]) } else { None };
    NodeSpec { cpu_milli: cores * 1000, memory_mib: gib * 1024, gpus, model, place: Place::default() }
}

fn demand(cores: u64, gib: u64, gpus: GpuAsk, allowed: &[&str]) -> Demand {
    let models = models().set(allowed.iter().copied());
    Demand { cpu_milli: cores * 1000, memory_mib: gib * 1024, gpus, models }
}

/// What is asked, in words that the ledger understands without the code.
#[derive(Debug, Clone)]
struct Ask {
    cores: u64,
    gib: u64,
    gpus: GpuAsk,
    allowed: Vec<&'static str>,
}

impl Ask {
    fn demand(&self) -> Demand {
        demand(self.cores, self.gib, self.gpus, &self.allowed)
    }
}

#[derive(Debug, Clone)]
enum Act {
    Place(Ask),
    /// Which of those that run leaves.
    Release(usize),
}

fn nodes() -> impl Strategy<Value = Vec<(u64, u64, u8, usize)>> {
    // Few distinct sizes, so that nodes are often alike.
    let size = (prop::sample::select(vec![4_u64, 8, 16]), prop::sample::select(vec![16_u64, 64]), 0_u8..=4, 0_usize..3);
    prop::collection::vec(size, 1..8)
}

fn ask() -> impl Strategy<Value = Ask> {
    let gpus = prop_oneof![
        1 => Just(GpuAsk::None),
        3 => prop::sample::select(vec![100_u16, 250, 330, 500, 810, 999]).prop_map(GpuAsk::Fraction),
        2 => (1_u8..=4).prop_map(GpuAsk::Whole),
    ];
    (0_u64..6, 0_u64..24, gpus, prop::sample::subsequence(MODELS.to_vec(), 0..=2))
        .prop_map(|(cores, gib, gpus, allowed)| Ask { cores, gib, gpus, allowed })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![3 => ask().prop_map(Act::Place), 1 => (0_usize..100).prop_map(Act::Release)];
    prop::collection::vec(act, 0..60)
}

fn policy() -> impl Strategy<Value = Policy> {
    let history = |asks: Vec<Ask>| Workload::typical(asks.iter().map(Ask::demand), 95);
    prop_oneof![
        any::<u64>().prop_map(|seed| Policy::Random { seed }),
        Just(Policy::BestFit),
        prop::collection::vec(ask(), 0..9).prop_map(move |asks| Policy::Fgd(history(asks))),
        Just(Policy::Default(Arc::new(Experience::default()))),
    ]
}

fn cluster(nodes: &[(u64, u64, u8, usize)], identity: Identity) -> Cluster {
    let specs: Vec<NodeSpec> =
        nodes.iter().map(|(cores, gib, gpus, model)| node(*cores, *gib, *gpus, *model)).collect();
    Cluster::new(&specs, identity).unwrap()
}

/// What is taken of each node, kept apart from the code under test.
struct Ledger {
    nodes: Vec<(u64, u64, Vec<u64>, &'static str)>,
}

impl Ledger {
    fn new(nodes: &[(u64, u64, u8, usize)]) -> Ledger {
        let empty = |(cores, gib, gpus, model): &(u64, u64, u8, usize)| {
            (*cores, *gib, vec![1000; usize::from(*gpus)], MODELS[*model])
        };
        Ledger { nodes: nodes.iter().map(empty).collect() }
    }

    /// Whether any node could take it, by trying each.
    fn fits(&self, ask: &Ask) -> bool {
        self.nodes.iter().any(|(cores, gib, gpus, model)| {
            let named = ask.allowed.is_empty() || (!gpus.is_empty() && ask.allowed.contains(model));
            let gpu = match ask.gpus {
                GpuAsk::None => true,
                GpuAsk::Fraction(milli) => named && gpus.iter().any(|free| *free >= u64::from(milli)),
                GpuAsk::Whole(count) => {
                    named && gpus.iter().filter(|free| **free == 1000).count() >= usize::from(count)
                }
            };
            ask.cores <= *cores && ask.gib <= *gib && gpu
        })
    }

    fn take(&mut self, ask: &Ask, placement: &Placement) {
        let (cores, gib, gpus, model) = &mut self.nodes[placement.node as usize];
        *cores = cores.checked_sub(ask.cores).expect("a node has more cores taken than it has");
        *gib = gib.checked_sub(ask.gib).expect("a node has more memory taken than it has");
        let chosen = placement.gpus.len();
        match ask.gpus {
            GpuAsk::None => assert_eq!(chosen, 0, "no GPU was asked for"),
            GpuAsk::Fraction(_) => assert_eq!(chosen, 1, "a part lies on one GPU"),
            GpuAsk::Whole(count) => assert_eq!(chosen, usize::from(count)),
        }
        if chosen > 0 && !ask.allowed.is_empty() {
            assert!(ask.allowed.contains(model), "{model} is not allowed");
        }
        for gpu in &placement.gpus {
            let free = &mut gpus[usize::from(*gpu)];
            if let GpuAsk::Fraction(milli) = ask.gpus {
                *free = free.checked_sub(u64::from(milli)).expect("a GPU has more taken than it has");
            } else {
                assert_eq!(*free, 1000, "a whole GPU must have been free");
                *free = 0;
            }
        }
    }

    fn give_back(&mut self, ask: &Ask, placement: &Placement) {
        let (cores, gib, gpus, _) = &mut self.nodes[placement.node as usize];
        *cores += ask.cores;
        *gib += ask.gib;
        let part = if let GpuAsk::Fraction(milli) = ask.gpus { u64::from(milli) } else { 1000 };
        for gpu in &placement.gpus {
            gpus[usize::from(*gpu)] += part;
        }
    }
}

/// Does what the acts say and returns what runs in the end.
fn play(
    placer: &mut Placer,
    acts: &[Act],
    mut watch: impl FnMut(&Ask, Option<&Placement>, bool),
) -> Vec<(Ask, Placement)> {
    let mut running = Vec::new();
    for act in acts {
        match act {
            Act::Place(ask) => {
                let placement = placer.place(&ask.demand());
                watch(ask, placement.as_ref(), true);
                running.extend(placement.map(|placement| (ask.clone(), placement)));
            }
            Act::Release(which) if !running.is_empty() => {
                let (ask, placement): (Ask, Placement) = running.swap_remove(which % running.len());
                placer.release(&ask.demand(), &placement).unwrap();
                watch(&ask, Some(&placement), false);
            }
            Act::Release(_) => {}
        }
    }
    running
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn what_is_placed_fits_and_what_fits_is_placed(
        nodes in nodes(), acts in acts(), policy in policy(), identity in prop::sample::select(vec![Identity::Content, Identity::Rank])
    ) {
        let mut ledger = Ledger::new(&nodes);
        let mut placer = Placer::new(cluster(&nodes, identity), &policy);
        play(&mut placer, &acts, |ask, placement, comes| match placement {
            Some(placement) if comes => ledger.take(ask, placement),
            Some(placement) => ledger.give_back(ask, placement),
            None => assert!(!ledger.fits(ask), "{ask:?} fits, and was not placed"),
        });
        for (index, (cores, gib, gpus, _)) in ledger.nodes.iter().enumerate() {
            let content = placer.cluster().content(index as u32).unwrap();
            prop_assert_eq!((content.cpu_milli, content.memory_mib), (cores * 1000, gib * 1024));
            let free: Vec<u64> = placer.cluster().gpus_free(index as u32).unwrap().iter().map(|free| u64::from(*free)).collect();
            prop_assert_eq!(&free, gpus);
        }
    }

    #[test]
    fn placing_and_releasing_leaves_everything_as_it_was(nodes in nodes(), acts in acts(), policy in policy(), ask in ask()) {
        let mut placer = Placer::new(cluster(&nodes, Identity::Content), &policy);
        play(&mut placer, &acts, |_, _, _| {});
        let contents = |placer: &Placer| (0..nodes.len()).map(|node| placer.cluster().content(node as u32).unwrap()).collect::<Vec<_>>();
        let (before, census) = (contents(&placer), placer.cluster().census());
        if let Some(placement) = placer.place(&ask.demand()) {
            placer.release(&ask.demand(), &placement).unwrap();
        }
        prop_assert_eq!(contents(&placer), before);
        prop_assert_eq!(placer.cluster().census(), census);
    }

    #[test]
    fn what_was_kept_up_to_date_chooses_as_what_is_built_anew(
        nodes in nodes(), acts in acts(), policy in policy(), asks in prop::collection::vec(ask(), 1..6)
    ) {
        prop_assume!(!matches!(policy, Policy::Random { .. }));
        let mut placer = Placer::new(cluster(&nodes, Identity::Content), &policy);
        // Asked early, so that a ranking stands that must then follow all that happens.
        for ask in &asks {
            drop(placer.choose(&ask.demand()));
        }
        let running = play(&mut placer, &acts, |_, _, _| {});
        let mut anew = cluster(&nodes, Identity::Content);
        for (ask, placement) in &running {
            anew.take(&ask.demand(), placement).unwrap();
        }
        prop_assert_eq!(anew.census(), placer.cluster().census());
        let mut anew = Placer::new(anew, &policy);
        for ask in &asks {
            prop_assert_eq!(anew.choose(&ask.demand()), placer.choose(&ask.demand()));
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn names_and_order_of_nodes_change_nothing(nodes in nodes(), asks in prop::collection::vec(ask(), 1..40), seed in any::<u64>()) {
        let history = Workload::typical(asks.iter().map(Ask::demand), 95);
        let fill = |nodes: &[(u64, u64, u8, usize)]| {
            let specs: Vec<NodeSpec> = nodes.iter().map(|(cores, gib, gpus, model)| node(*cores, *gib, *gpus, *model)).collect();
            let experience = Arc::new(Experience::rehearsed(&specs, &history));
            let mut placer = Placer::new(cluster(nodes, Identity::Content), &Policy::Default(Arc::clone(&experience)));
            let placed: Vec<bool> = asks.iter().map(|ask| placer.place(&ask.demand()).is_some()).collect();
            (experience, placed, placer.cluster().census())
        };
        let mut renamed = nodes.clone();
        Chance::new(seed).shuffle(&mut renamed);
        prop_assert_eq!(fill(&renamed), fill(&nodes));
    }
}

#[test]
fn a_placement_that_cannot_be_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::new(&[node(8, 64, 2, 0)], Identity::Content).unwrap();
    let half = demand(1, 1, GpuAsk::Fraction(600), &[]);
    let on = |node, gpus: &[u8]| Placement { node, gpus: gpus.to_vec() };
    cluster.take(&half, &on(0, &[0])).unwrap();
    let before = cluster.census();
    let whole = demand(1, 1, GpuAsk::Whole(2), &[]);
    let refused = [
        (half, on(1, &[0]), PlaceError::NoNode(1)),
        (half, on(0, &[0]), PlaceError::NoRoom(0)),
        (half, on(0, &[2]), PlaceError::NoRoom(0)),
        (half, on(0, &[0, 1]), PlaceError::NoRoom(0)),
        (demand(1, 1, GpuAsk::Fraction(300), &[]), on(0, &[0, 1]), PlaceError::NoRoom(0)),
        (demand(1, 1, GpuAsk::Fraction(300), &[]), on(0, &[]), PlaceError::NoRoom(0)),
        (demand(1, 1, GpuAsk::None, &[]), on(0, &[1]), PlaceError::NoRoom(0)),
        (whole, on(0, &[0, 1]), PlaceError::NoRoom(0)),
        (whole, on(0, &[1, 1]), PlaceError::NoRoom(0)),
        (demand(1, 1, GpuAsk::Whole(1), &["h100"]), on(0, &[1]), PlaceError::NoRoom(0)),
        (demand(8, 1, GpuAsk::None, &[]), on(0, &[]), PlaceError::NoRoom(0)),
        (demand(1, 64, GpuAsk::None, &[]), on(0, &[]), PlaceError::NoRoom(0)),
        (demand(1, 1, GpuAsk::Fraction(1000), &[]), on(0, &[1]), PlaceError::Unsound),
        (demand(1, 1, GpuAsk::Fraction(0), &[]), on(0, &[1]), PlaceError::Unsound),
        (demand(1, 1, GpuAsk::Whole(0), &[]), on(0, &[]), PlaceError::Unsound),
    ];
    for (demand, placement, why) in refused {
        assert_eq!(cluster.take(&demand, &placement), Err(why), "{demand:?} {placement:?}");
    }
    let never_taken = [
        (half, on(0, &[1])),
        (demand(2, 1, GpuAsk::None, &[]), on(0, &[])),
        (demand(1, 2, GpuAsk::None, &[]), on(0, &[])),
        (Demand { cpu_milli: u64::MAX, ..half }, on(0, &[0])),
    ];
    for (demand, placement) in never_taken {
        assert_eq!(cluster.give_back(&demand, &placement), Err(PlaceError::NeverTaken(0)), "{demand:?} {placement:?}");
    }
    assert_eq!(cluster.census(), before);
    let crowded = Cluster::new(&[node(8, 64, 17, 0)], Identity::Content);
    assert_eq!(crowded.map(|_| ()), Err(PlaceError::TooManyGpus { node: 0, gpus: 17 }));
}

#[test]
fn an_absurd_demand_fits_nowhere() {
    let mut placer = Placer::new(cluster(&[(8, 64, 4, 0)], Identity::Content), &Policy::BestFit);
    let absurd = [
        Demand { cpu_milli: u64::MAX, ..Demand::default() },
        Demand { memory_mib: u64::MAX, ..Demand::default() },
        demand(0, 0, GpuAsk::Whole(255), &[]),
        demand(0, 0, GpuAsk::Fraction(u16::MAX), &[]),
        demand(1, 1, GpuAsk::Whole(1), &["a model nobody has"]),
    ];
    for demand in absurd {
        assert_eq!(placer.place(&demand), None, "{demand:?}");
    }
}

#[test]
fn a_rehearsal_teaches_the_same_whatever_the_order_of_nodes() {
    // A large node with a job that needs no GPU has as much left as a small one, and another past.
    let mut specs: Vec<NodeSpec> = (0..30).map(|index| node([16, 32][index % 2], 64, 4, 0)).collect();
    let parts = [160, 320, 470, 650, 810].map(|milli| demand(3, 0, GpuAsk::Fraction(milli), &[]));
    let others = [demand(5, 0, GpuAsk::Whole(1), &[]), demand(16, 0, GpuAsk::None, &[])];
    let history = Workload::typical([&parts[..], &others[..]].concat(), 100);
    let learned = Experience::rehearsed(&specs, &history);
    assert_ne!(learned, Experience::default());
    for seed in 0..4 {
        Chance::new(seed).shuffle(&mut specs);
        assert!(Experience::rehearsed(&specs, &history) == learned, "order {seed} taught another thing");
    }
}

#[test]
fn a_rehearsal_keeps_scarce_models_for_those_who_need_them() {
    // Half the jobs take any GPU, half only an l4; there is room for all of them only if the first stay off the l4s.
    let specs: Vec<NodeSpec> = (0..40).map(|index| node(32, 64, 4, if index < 20 { 2 } else { 1 })).collect();
    let (any, picky) = (demand(1, 1, GpuAsk::Whole(1), &[]), demand(1, 1, GpuAsk::Whole(1), &["l4"]));
    let history = Workload::typical([any, picky], 100);
    let mut arrivals = [[any; 80], [picky; 80]].concat();
    Chance::new(1).shuffle(&mut arrivals);
    let failures = |experience: Experience| {
        let mut placer =
            Placer::new(Cluster::new(&specs, Identity::Content).unwrap(), &Policy::Default(Arc::new(experience)));
        arrivals.iter().filter(|demand| placer.place(demand).is_none()).count()
    };
    let (learned, green) = (failures(Experience::rehearsed(&specs, &history)), failures(Experience::default()));
    assert_eq!(learned, 0);
    assert!(green > 0, "the task is too easy to show anything");
}
