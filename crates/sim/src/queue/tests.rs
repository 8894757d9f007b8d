//! Replays small enough to work out by hand, and what must hold in all.

use gregal_core::queue::{Config, Ground, Policy, Quota, Share, ShareId, Sku, Slot};
use proptest::prelude::*;

use super::{
    Class, Fairness, Format, Load, Options, Report, Scenario, ScenarioError, Trace, latency, replay, witness::Witness,
};

fn trace(rows: &str) -> Trace {
    Trace::read(&format!("submit_s,run_s,gpus,queue,limit_s\n{rows}"), Format::Csv).unwrap()
}

fn run(rows: &str, policy: &str, nodes: u32, gpus_per_node: u32) -> Report {
    let options = Options::named(policy, nodes, gpus_per_node).unwrap();
    replay(&trace(rows), &options, &mut || 0).unwrap()
}

#[test]
fn backfill_passes_who_ends_before_the_reserved_start() {
    // The second needs the whole node at 10; the third ends at 10, the fourth would not.
    let rows = "0,10,6,a,\n1,5,8,a,\n2,8,2,a,\n3,9,1,a,\n";
    let waits = |policy| run(rows, policy, 1, 8).wait_s;
    assert_eq!((waits("fifo").mean, waits("fifo").max), ((9 + 13 + 12) / 4, 13));
    // The fourth starts at 15: the second runs from 10 to 15.
    assert_eq!((waits("fifo-easy").mean, waits("fifo-easy").max), ((9 + 12) / 4, 12));
    assert_eq!(run(rows, "fifo-promise", 1, 8).promises, 2);
}

#[test]
fn stopping_pays_for_saving_and_loading() {
    // Four hours of one accelerator's work sink the first a level; the second comes at the fifth hour.
    let report = run("0,36000,1,a,\n18000,60,1,a,\n", "default", 1, 1);
    assert_eq!((report.preemptions, report.preemptions_of_one_max, report.overhead_gpu_s), (1, 1, 120));
    // The second waits for the first's checkpoint; the first for that, the second's run and its own loading.
    assert_eq!((report.wait_s.p50, report.wait_s.max, report.makespan_s), (60, 180, 36_180));
}

#[test]
fn what_can_never_run_is_refused_and_the_rest_goes_on() {
    let report = run("0,10,9,a,\n0,10,8,a,\n", "default", 1, 8);
    assert_eq!((report.refused, report.finished, report.wait_s.max), (1, 1, 0));
}

#[test]
fn fairness_is_counted_as_its_authors_do() {
    // Four jobs on two accelerators: alone each would have half a share, twice its time.
    let fairness = Fairness::of(&[(20, 10), (21, 10), (22, 10), (60, 10)], 2);
    assert!((fairness.worst - 3.0).abs() < 1e-9 && (fairness.unfair_percent - 50.0).abs() < 1e-9, "{fairness:?}");
}

#[test]
fn a_scenario_borrows_and_passes_no_limit() {
    let class = Class { name: "work".into(), count: 20, gpus: 3, run_ms: 100, every_ms: 1, priority: 1 };
    let scenario =
        Scenario { cohorts: 2, queues: 2, guarantee: 4, borrow_max: Some(2), lend_max: None, classes: vec![class] };
    let admission = scenario.run(&mut || 0).unwrap();
    assert_eq!((admission.admitted, admission.refused, admission.violations), (80, 0, 0));
    // A cohort's 8 units hold 2 of 3 units at a time, whosever they are: 40 workloads, 2 by 2.
    assert!((admission.makespan_s - 2.0).abs() < 1e-9, "{admission:?}");
    assert_eq!(Scenario { guarantee: 0, ..scenario }.run(&mut || 0), Err(ScenarioError::Size));
    assert!(Scenario::named("kueue-15000").is_some() && Scenario::named("x").is_none());
}

#[test]
fn a_witness_sees_what_goes_wrong() {
    let quota = |guarantee, borrow_max| vec![Quota { guarantee, borrow_max, lend_max: None }];
    let shares = vec![
        Share { parent: None, weight: 1, quotas: quota(8, None) },
        Share { parent: Some(ShareId(0)), weight: 1, quotas: quota(2, Some(1)) },
    ];
    let config =
        Config { ground: Ground::Uniform(vec![Sku { nodes: 2, gpus_per_node: 4 }]), shares, policy: Policy::default() };
    let violations = |takes: &[(u32, u32, u32)]| {
        let mut witness = Witness::new(&config);
        for (share, node, gpus) in takes {
            witness.takes(ShareId(*share), &[Slot { node: *node, gpus: *gpus }], *gpus);
        }
        witness.violations
    };
    assert_eq!(violations(&[(0, 0, 4), (1, 1, 3)]), 0);
    assert_eq!(violations(&[(0, 0, 3), (0, 0, 2)]), 1, "a node has 4");
    assert_eq!(violations(&[(1, 1, 4)]), 1, "the share has 2 and borrows 1");
    assert_eq!(violations(&[(0, 7, 1)]), 1, "there is no such node");
}

#[test]
fn latency_is_measured_over_a_full_cluster() {
    let load = Load { nodes: 4, gpus_per_node: 8, queued: 100, rounds: 5, seed: 1, policy: "default".into() };
    let measured = latency(load.clone(), &mut || 0).unwrap().unwrap();
    assert!(measured.running > 0 && measured.waiting >= 95, "{measured:?}");
    assert_eq!(latency(Load { policy: "x".into(), ..load }, &mut || 0), Ok(None));
}

proptest! {
    #[test]
    fn every_replay_ends_keeps_limits_and_promises_and_repeats_itself(
        (rows, policy) in (
            prop::collection::vec((0_u32..20_000, 0_u32..60_000, 1_u32..20, 0_u8..3), 1..40),
            prop::sample::select(Policy::NAMES.to_vec()),
        )
    ) {
        let lines: Vec<String> = rows.iter().map(|(at, run, gpus, queue)| format!("{at},{run},{gpus},{queue},")).collect();
        let rows = lines.join("
");
        let report = run(&rows, policy, 3, 4);
        prop_assert_eq!(report.finished + report.refused, rows.lines().count());
        prop_assert_eq!((report.violations, report.late_promises), (0, 0));
        prop_assert_eq!(&run(&rows, policy, 3, 4), &report);
    }
}
