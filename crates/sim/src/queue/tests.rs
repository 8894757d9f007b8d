//! Replays small enough to work out by hand, and what must hold in all.

use gregal_core::queue::{Config, Ground, Policy, Quota, Share, ShareId, Sku, Slot};
use proptest::prelude::*;

use super::{
    Class, Fairness, Format, Load, Moment, Options, Replayed, Report, Scenario, ScenarioError, Trace, latency, plots,
    replay, witness::Witness,
};
use crate::{Absence, NodeKind, Watch, Why};

fn trace(rows: &str) -> Trace {
    Trace::read(&format!("submit_s,run_s,gpus,queue,limit_s\n{rows}"), Format::Csv).unwrap()
}

fn uniform(nodes: u32, gpus_per_node: u32) -> Vec<NodeKind> {
    vec![NodeKind { model: None, nodes, gpus_per_node }]
}

fn run(rows: &str, policy: &str, nodes: u32, gpus_per_node: u32) -> Report {
    let options = Options::named(policy, uniform(nodes, gpus_per_node)).unwrap();
    replay(&trace(rows), &options, &mut || 0).unwrap().report
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
            witness.takes(ShareId(*share), 0, &[Slot::whole(*node, *gpus)], *gpus);
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
    assert_eq!((measured.state_bytes, measured.state_bytes_per_job), (None, None), "a closure weighs nothing");
    assert_eq!(latency(Load { policy: "x".into(), ..load }, &mut || 0), Ok(None));
}

fn replayed(rows: &str, options: &Options) -> Replayed {
    replay(&trace(rows), options, &mut || 0).unwrap()
}

fn away(from_s: u64, until_s: u64, nodes: u32, why: Why) -> Absence {
    Absence { from: from_s * 1000, until: until_s * 1000, nodes, why }
}

#[test]
fn nodes_that_go_down_cost_the_work_done_on_them() {
    // Two nodes, a job on each. The second goes down at 4 s and comes back at 10 s; its job begins anew then, as the first node
    // is taken for 20 s.
    let rows = "0,20,4,a,\n0,10,4,a,\n";
    let mut options = Options::named("fifo", uniform(2, 4)).unwrap();
    options.absences = vec![away(4, 10, 1, Why::Down)];
    let Replayed { report, course, .. } = replayed(rows, &options);
    assert_eq!((report.finished, report.interruptions, report.lost_gpu_s), (2, 1, 16));
    assert_eq!((report.wait_s.max, report.makespan_s, report.violations), (10, 20, 0));
    // 120 useful accelerator-seconds of 8 times 20, less 4 times 6.
    assert!((report.utilisation - 120.0 / 136.0).abs() < 1e-9, "{report:?}");
    let seen: Vec<_> = course.moments.iter().map(|at| (at.at_ms / 1000, at.taken, at.away, at.waiting)).collect();
    assert_eq!(seen, [(0, 8, 0, 0), (4, 4, 4, 1), (10, 8, 0, 0), (20, 0, 0, 0)]);
}

#[test]
fn nodes_that_are_reserved_let_work_be_saved_first() {
    // One node; the default policy counts 60 s to save work and 60 s to load it again.
    let mut options = Options::named("default", uniform(1, 2)).unwrap();
    options.absences = vec![away(1000, 2000, 1, Why::Reserved)];
    let report = replayed("0,3000,2,a,\n", &options).report;
    // 940 s were worked and saved by 1,000; at 2,000 it loads for 60 s and works the other 2,060.
    assert_eq!((report.interruptions, report.lost_gpu_s, report.overhead_gpu_s), (1, 0, 240));
    assert_eq!((report.makespan_s, report.wait_s.max, report.preemptions), (4120, 1120, 0));
    // A policy that stops nothing counts nothing for it.
    options = Options { absences: options.absences, ..Options::named("fifo", uniform(1, 2)).unwrap() };
    let report = replayed("0,3000,2,a,\n", &options).report;
    assert_eq!((report.makespan_s, report.overhead_gpu_s, report.lost_gpu_s), (4000, 0, 0));
}

#[test]
fn what_is_being_saved_is_lost_when_its_node_goes_down() {
    // As above the first is told to stop at 18,000 s and has saved its work at 18,060; at 18,030 its node goes down.
    let mut options = Options::named("default", uniform(1, 1)).unwrap();
    options.absences = vec![away(18_030, 20_000, 1, Why::Down)];
    let report = replayed("0,36000,1,a,\n18000,60,1,a,\n", &options).report;
    assert_eq!((report.preemptions, report.interruptions, report.lost_gpu_s), (2, 1, 18_000));
    // The first goes all anew, and is stopped for the second once more: saving, the second's run, loading.
    assert_eq!((report.makespan_s, report.finished, report.violations), (20_000 + 36_000 + 180, 2, 0));
}

#[test]
fn a_reservation_takes_what_is_used_least() {
    // At 5 s only the second job runs, on the last node. Reserved, the free node goes; down, the last one.
    let mut options = Options::named("fifo", uniform(2, 4)).unwrap();
    let mut of = |absences| {
        options.absences = absences;
        let report = replayed("0,2,4,a,\n0,20,4,a,\n6,10,4,a,\n", &options).report;
        assert_eq!(report.violations, 0);
        (report.interruptions, report.makespan_s)
    };
    let (reserved, down) = (away(5, 50, 1, Why::Reserved), away(5, 50, 1, Why::Down));
    assert_eq!(of(vec![reserved]), (0, 30));
    assert_eq!(of(vec![down]), (1, 35));
    assert_eq!(of(vec![reserved, down]), (1, 70), "both nodes are gone until 50");
}

#[test]
fn nodes_that_leave_when_all_is_over_change_nothing() {
    let mut options = Options::named("default", uniform(1, 4)).unwrap();
    let without = replayed("0,10,4,a,\n", &options);
    options.absences = vec![away(20, 30, 1, Why::Down)];
    assert_eq!(replayed("0,10,4,a,\n", &options), without);
}

#[test]
fn a_job_runs_on_the_model_it_asks_for() {
    let kinds = crate::read_nodes("gpus,model,count\n8,h100,1\n4,l40s,2\n").unwrap();
    let read = |rows: &str| Trace::read(&format!("submit_s,run_s,gpus,model\n{rows}"), Format::Csv).unwrap();
    let options = Options::named("fifo-promise", kinds).unwrap();
    // Both l40s jobs fit side by side, the second on h100 waits, and 9 of a kind are nowhere.
    let trace = read("0,10,8,h100\n0,10,4,h100\n0,10,4,l40s\n0,10,4,l40s\n0,1,9,l40s\n");
    let report = replay(&trace, &options, &mut || 0).unwrap().report;
    assert_eq!((report.finished, report.refused, report.makespan_s, report.violations), (4, 1, 20, 0));
    for (rows, line) in [("0,1,1,h100\n0,1,1,tpu\n", 3), ("0,1,1,\n", 2)] {
        let said = replay(&read(rows), &options, &mut || 0).unwrap_err().to_string();
        assert_eq!(said, format!("line {line}: `model` is none of: h100, l40s"));
    }
    // Nodes whose model has no name take all.
    let options = Options::named("fifo", uniform(1, 8)).unwrap();
    assert_eq!(replay(&read("0,10,8,h100\n"), &options, &mut || 0).unwrap().report.finished, 1);
}

#[test]
fn plots_say_what_the_figures_say() {
    // One accelerator, three jobs of 10 s: two wait for the first ten seconds, one for the next.
    let run = replayed("0,10,1,a,\n0,10,1,a,\n0,10,1,a,\n", &Options::named("fifo", uniform(1, 1)).unwrap());
    let drawn = plots(&[("fifo", &run)]);
    let names: Vec<_> = drawn.iter().map(|plot| plot.name).collect();
    assert_eq!(names, ["utilisation", "queue", "fragmentation", "waits"]);
    let at = |plot: usize, x: f64| {
        let points = &drawn[plot].curves[0].points;
        points.iter().rev().find(|point| point.0 <= x).unwrap().1
    };
    let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
    for (time, taken, waiting) in [(5.0, 1.0, 2.0), (15.0, 1.0, 1.0), (25.0, 1.0, 0.0)] {
        near(at(0, time), taken);
        near(at(1, time), waiting);
        near(at(2, time), 0.0);
    }
    // One of three did not wait at all, two waited for 10 s at most.
    near(at(3, 1.0), 100.0 / 3.0);
    near(at(3, 12.0), 200.0 / 3.0);
    near(at(3, 60.0), 100.0);
    assert!(drawn[0].description.contains("fifo: 100.0 %"), "{}", drawn[0].description);
}

#[test]
fn a_span_of_time_shows_its_mean_and_its_longest_queue() {
    // 1,000 s in 350 spans of 2,858 ms. In the first, a second accelerator is taken for a second, and one waits so long.
    let run = replayed("0,1000,1,a,\n0,1,1,a,\n0,1,1,a,\n", &Options::named("fifo", uniform(1, 2)).unwrap());
    let drawn = plots(&[("fifo", &run)]);
    let first = |plot: usize| drawn[plot].curves[0].points[0].1;
    assert!((first(0) - (1.0 + 2000.0 / 2858.0)).abs() < 1e-9 && (first(1) - 1.0).abs() < 1e-9, "{:?}", first(0));
}

#[test]
fn idle_is_what_lies_free_while_somebody_waits() {
    // 3 of 4 accelerators are taken, and the second job needs 2: one lies idle for 10 s, then two for 10 s while nobody waits.
    let run = replayed("0,10,3,a,\n0,10,2,a,\n", &Options::named("fifo", uniform(1, 4)).unwrap());
    let drawn = plots(&[("fifo", &run)]);
    let points = &drawn[2].curves[0].points;
    assert!((points[0].1 - 1.0).abs() < 1e-9 && points[points.len() - 1].1.abs() < 1e-9, "{points:?}");
    // 10 of 80 accelerator-seconds.
    assert!(drawn[2].description.contains("fifo: 12.5 % of all"), "{}", drawn[2].description);
}

/// A watch that grows by a mebibyte each time it is asked.
struct Scales(u64);

impl Watch for Scales {
    fn nanos(&mut self) -> u64 {
        0
    }

    fn memory_bytes(&mut self) -> Option<u64> {
        self.0 += 1 << 20;
        Some(self.0)
    }
}

#[test]
fn the_state_is_weighed_when_it_is_full() {
    let load = Load { nodes: 1, gpus_per_node: 8, queued: 100, rounds: 1, seed: 1, policy: "steady".into() };
    let measured = latency(load, &mut Scales(7)).unwrap().unwrap();
    assert_eq!(measured.state_bytes, Some(1 << 20), "weighed before and after, and at no other time");
    // What runs counts as well; the one round that followed changed little.
    let (per_job, jobs) = (measured.state_bytes_per_job.unwrap(), (measured.running + measured.waiting) as u64);
    assert!(per_job.abs_diff((1 << 20) / jobs) <= per_job / 50, "{measured:?}");
}

proptest! {
    #[test]
    fn whatever_leaves_everything_still_ends_within_limits(
        rows in prop::collection::vec((0_u32..20_000, 0_u32..60_000, 1_u32..12), 1..30),
        absences in prop::collection::vec((0_u64..40_000, 1_u64..50_000, 1_u32..4, any::<bool>()), 1..4),
        policy in prop::sample::select(Policy::NAMES.to_vec()),
    ) {
        let lines: Vec<String> = rows.iter().map(|(at, run, gpus)| format!("{at},{run},{gpus},a,")).collect();
        let mut options = Options::named(policy, uniform(3, 4)).unwrap();
        let why = |down| if down { Why::Down } else { Why::Reserved };
        options.absences =
            absences.iter().map(|(from, lasts, nodes, down)| away(*from, from + lasts, *nodes, why(*down))).collect();
        let found = replayed(&lines.join("\n"), &options);
        prop_assert_eq!((found.report.finished, found.report.violations), (rows.len(), 0));
        let over = |at: &Moment| at.taken + at.away > 12;
        prop_assert!(!found.course.moments.iter().any(over), "{:?}", found.course);
        prop_assert_eq!(&replayed(&lines.join("\n"), &options), &found);
    }
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
