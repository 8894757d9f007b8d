use super::*;
use crate::{Absence, Why};

/// Twelve nodes of three kinds, two of which differ by model alone.
fn nodes() -> Vec<String> {
    let kinds = ["32000,131072,4,A", "32000,131072,4,B", "64000,262144,8,A"];
    (0..12).map(|index| format!("n{index},{}", kinds[index % 3])).collect()
}

fn pods() -> Vec<String> {
    let shapes =
        ["4000,8192,1,500,", "2000,4096,1,1000,", "8000,16384,2,1000,B", "1000,1024,0,0,", "3000,1024,1,330,A|C"];
    (0..60).map(|index| format!("p{index},{}", shapes[index % 5])).collect()
}

fn text(header: &str, lines: &[String]) -> String {
    format!("{header}\n{}\n", lines.join("\n"))
}

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model";
const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec";

fn trace(nodes: &[String]) -> Trace {
    read_openb(&text(NODES, nodes), &text(PODS, &pods())).unwrap()
}

fn options(policy: PackPolicy, seed: u64) -> PackOptions {
    PackOptions { policy, seed, load_milli: 1300, add_nodes: 0, absences: Vec::new() }
}

fn run(trace: &Trace, policy: PackPolicy, seed: u64) -> PackOutcome {
    let mut nanos = 0;
    let mut clock = || {
        nanos += 1000;
        nanos
    };
    pack(trace, &options(policy, seed), &mut clock).unwrap()
}

const POLICIES: [PackPolicy; 4] = [PackPolicy::Random, PackPolicy::BestFit, PackPolicy::Fgd, PackPolicy::Default];

#[test]
fn a_seed_gives_one_digest_and_another_seed_another() {
    let trace = trace(&nodes());
    for policy in POLICIES {
        let outcome = run(&trace, policy, 1);
        assert_eq!(run(&trace, policy, 1), outcome, "{policy:?}");
        assert_ne!(run(&trace, policy, 2).digest, outcome.digest, "{policy:?}");
    }
}

#[test]
fn pods_come_until_the_load_is_met_and_what_is_placed_stays() {
    let trace = trace(&nodes());
    for policy in POLICIES {
        let outcome = run(&trace, policy, 7);
        assert_eq!((outcome.nodes, outcome.gpus, outcome.pods), (12, 64, outcome.placed.len()));
        let last = outcome.steps.last().unwrap();
        // The next pod would have gone past the load, and none asks for more than two GPUs.
        assert!(last.arrived_milli <= 64 * 1300 && last.arrived_milli + 2000 > 64 * 1300, "{last:?}");
        let placed = outcome.placed.iter().filter(|(_, placement)| placement.is_some());
        let milli: u64 = placed.map(|(demand, _)| demand.gpus.milli()).sum();
        assert_eq!(milli, last.allocated_milli);
        assert!(milli <= 64_000);
        assert_eq!(outcome.failed, outcome.placed.iter().filter(|(_, placement)| placement.is_none()).count());
        assert!(outcome.steps.is_sorted_by_key(|step| (step.arrived_milli, step.allocated_milli)));
    }
}

#[test]
fn more_pods_than_the_load_are_cut_down_to_it() {
    let few = trace(&nodes()[..2]);
    let outcome = run(&few, PackPolicy::BestFit, 1);
    assert!(outcome.steps.last().unwrap().arrived_milli <= 8 * 1300);
    assert!(outcome.pods < pods().len());
}

#[test]
fn the_default_does_as_well_whatever_nodes_are_called_and_wherever_they_stand() {
    let straight = run(&trace(&nodes()), PackPolicy::Default, 3);
    let mut turned = nodes();
    turned.reverse();
    let turned: Vec<String> = turned.iter().map(|line| format!("other-{line}")).collect();
    let turned = run(&trace(&turned), PackPolicy::Default, 3);
    assert!(turned.steps == straight.steps, "the order of nodes changed what was placed");
    assert_eq!(turned.failed, straight.failed);
}

#[test]
fn the_report_says_what_scripts_read() {
    let outcome = run(&trace(&nodes()), PackPolicy::BestFit, 5);
    let report = serde_json::to_value(&outcome).unwrap();
    assert_eq!((&report["policy"], &report["seed"]), (&"best-fit".into(), &5.into()));
    // Nobody leaves: what is taken grows with the load. At the end, it is within what is taken by the last pod.
    let [at_100, at_130] = ["100", "130"].map(|mark| report["allocated_percent"][mark].as_f64().unwrap());
    let last = outcome.steps.last().unwrap().allocated_milli as f64 / 640.0;
    assert!(0.0 < at_100 && at_100 <= at_130 && (last - 1.0..=last).contains(&at_130), "{at_100} {at_130} {last}");
    assert_eq!(report["failed"], outcome.failed);
    // The clock of this test moves on by a microsecond each time it is read.
    assert_eq!((&report["decision_us"]["p50"], &report["decision_us"]["p99"]), (&1.0.into(), &1.0.into()));
    assert_eq!(report["digest"].as_str().map(str::len), Some(64));
    assert!(report["tie_rule"].is_string());
}

#[test]
fn bad_files_are_refused_by_line() {
    let good_nodes = text(NODES, &nodes());
    let pods_of = |line: &str| format!("{PODS}\np0,1,1,1,1000,\n{line}\n");
    let said = |nodes: &str, pods: &str| read_openb(nodes, pods).unwrap_err().to_string();
    let cases = [
        ("p1,1,1", "pods: line 3: expected 6 fields, found 3"),
        ("p1,-1,1,1,1000,", "pods: line 3: `cpu_milli` is not thousandths of a core"),
        ("p1,1,99999999999999999999,1,1000,", "pods: line 3: `memory_mib` is not MiB of memory"),
        ("p1,1,1,17,1000,", "pods: line 3: `num_gpu` is not a count of GPUs a node can have"),
        ("p1,1,1,1,1001,", "pods: line 3: `gpu_milli` is not thousandths of one GPU, 0 to 1000"),
        ("p1,1,1,2,500,", "pods: line 3: `gpu_milli` is not 1000, or 1 to 999 where `num_gpu` is 1"),
        ("p1,1,1,1,0,", "pods: line 3: `gpu_milli` is not 1000, or 1 to 999 where `num_gpu` is 1"),
    ];
    for (line, why) in cases {
        assert_eq!(said(&good_nodes, &pods_of(line)), why);
    }
    let good_pods = text(PODS, &pods());
    let nodes_of = |line: &str| format!("{NODES}\n{line}\n");
    assert_eq!(
        said(&nodes_of("n,1,1,17,A"), &good_pods),
        "nodes: line 2: `gpu` is not a count of GPUs a node can have"
    );
    assert_eq!(said(&nodes_of("n,1,1,1,"), &good_pods), "nodes: line 2: `model` is not the model of the node's GPUs");
    assert_eq!(said(&nodes_of("n,1,1,0,"), &good_pods), "nodes: none has a GPU, and the load is counted in GPUs");
    assert_eq!(
        said(&good_nodes, &format!("{PODS}\np,1,1,0,0,\n")),
        "pods: none has a GPU, and the load is counted in GPUs"
    );
    assert_eq!(said("sn,cpu_milli\nn,1\n", &good_pods), "nodes: line 1: the header has no column `gpu`");
    assert_eq!(said("", &good_pods), "nodes: expected 1 to 1000000 lines after the header, found 0");
    let many: Vec<String> = (0..65).map(|index| format!("n{index},1,1,1,model-{index}")).collect();
    assert_eq!(said(&text(NODES, &many), &good_pods), "nodes: more than 64 models");
}

#[test]
fn five_columns_are_enough_for_pods() {
    let trace =
        read_openb(&text(NODES, &nodes()), "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,4000,8192,1,500\n").unwrap();
    assert_eq!(trace.pods.len(), 1);
    assert!(run(&trace, PackPolicy::Default, 1).allocated_percent.contains_key(&130));
}

#[test]
fn policies_and_loads_are_read_as_people_write_them() {
    for policy in POLICIES {
        let name = serde_json::to_value(policy).unwrap();
        assert_eq!(name.as_str().unwrap().parse(), Ok(policy));
    }
    assert!("worst-fit".parse::<PackPolicy>().unwrap_err().contains("`best-fit`"));
    let loads = [("1.3", Some(1300)), ("1", Some(1000)), ("0.05", Some(50)), ("100", Some(100_000)), ("1.3001", None)];
    let bad = ["", "0", "-1", "1e3", ".5", "1.", "100.001", "99999999999999999999"].map(|text| (text, None));
    for (text, load) in loads.into_iter().chain(bad) {
        assert_eq!(load_milli(text), load, "{text}");
    }
}

#[test]
fn what_the_mean_pod_cannot_use_is_counted() {
    // One node of 2 GPUs; pods of 0.6 of a GPU and of a whole one, as many of each, without other needs.
    let nodes = ["n,0,0,2,A".to_owned()];
    let pods = ["p,0,0,1,600,".to_owned(), "q,0,0,1,1000,".to_owned()];
    let trace = read_openb(&text(NODES, &nodes), &text(PODS, &pods)).unwrap();
    let outcome = run(&trace, PackPolicy::BestFit, 1);
    // Both fit: 0.4 of a GPU are left, too small for either; later pods find no room.
    assert_eq!(outcome.steps.first().map(|step| step.unusable_milli > 0), Some(outcome.steps[0].arrived_milli == 600));
    let last = outcome.steps.last().unwrap();
    assert_eq!((last.allocated_milli, last.unusable_milli), (1600, 400));
    assert_eq!(outcome.unusable_percent[&100], Hundredths(2000));
    let json = serde_json::to_value(&outcome).unwrap();
    assert_eq!((&json["unusable_percent"]["100"], &json["displaced"]), (&20.0.into(), &0.into()));
}

#[test]
fn nodes_that_leave_displace_their_pods_and_come_back_empty() {
    // Four nodes with a GPU each, and whole GPUs: at 50 % the last two leave, at 100 % they are back.
    let nodes: Vec<String> = (0..4).map(|node| format!("n{node},0,0,1,A")).collect();
    let trace = read_openb(&text(NODES, &nodes), &text(PODS, &["p,0,0,1,1000,".to_owned()])).unwrap();
    let absence = |why| Absence { from: 500, until: 1000, nodes: 2, why };
    let of = |why| {
        let options = PackOptions { load_milli: 2000, absences: vec![absence(why)], ..options(PackPolicy::BestFit, 1) };
        pack(&trace, &options, &mut || 0).unwrap()
    };
    let taken =
        |outcome: &PackOutcome| -> Vec<u64> { outcome.steps.iter().map(|step| step.allocated_milli / 1000).collect() };
    // The first two go to the first two nodes, which stay; the next two find nothing; then two find the nodes that are back.
    let down = of(Why::Down);
    assert_eq!((taken(&down), down.displaced, down.failed), (vec![1, 2, 2, 2, 3, 4, 4, 4], 0, 4));
    assert_eq!(taken(&of(Why::Reserved)), taken(&down), "those that are free are set aside");
    // Were all to leave, the two that stand would be displaced and fail.
    let all = PackOptions {
        load_milli: 2000,
        absences: vec![Absence { nodes: 4, ..absence(Why::Down) }],
        ..options(PackPolicy::BestFit, 1)
    };
    let all = pack(&trace, &all, &mut || 0).unwrap();
    assert_eq!((taken(&all), all.displaced, all.failed), (vec![1, 2, 0, 0, 1, 2, 3, 4], 2, 4));
}

#[test]
fn added_nodes_are_like_those_there_are_and_the_load_stays_the_same() {
    let trace = trace(&nodes());
    let more = PackOptions { add_nodes: 6, ..options(PackPolicy::BestFit, 3) };
    let (with, without) = (pack(&trace, &more, &mut || 0).unwrap(), run(&trace, PackPolicy::BestFit, 3));
    // Every second of twelve: two of each kind.
    assert_eq!((with.nodes, with.gpus, with.pods), (18, 64 + 2 * (4 + 4 + 8), without.pods));
    assert!(with.failed < without.failed && with.allocated_percent[&130] > without.allocated_percent[&130]);
}

#[test]
fn plots_of_packing_go_as_far_as_the_load() {
    let outcome = run(&trace(&nodes()), PackPolicy::Default, 1);
    let drawn = plots(&[("default", &outcome), ("again", &outcome)]);
    assert_eq!(drawn.iter().map(|plot| plot.name).collect::<Vec<_>>(), ["allocated", "fragmentation"]);
    for plot in &drawn {
        assert_eq!(plot.curves.len(), 2);
        let (first, last) = (plot.curves[0].points[0], *plot.curves[0].points.last().unwrap());
        assert!(first.0 < 5.0 && (126.0..=130.0).contains(&last.0), "{first:?} {last:?}");
    }
    let at_130 = outcome.allocated_percent[&130];
    assert!(
        drawn[0]
            .description
            .contains(&format!("default: {} % at 100 %, {at_130} % at 130 %", outcome.allocated_percent[&100]))
    );
}
