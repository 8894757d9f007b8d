//! Small tales with known ends.

use super::{
    super::{Ask, Config, ConfigError, Decision, Ground, Policy, Queue, Reason, Refusal, ShareId, Sku, Stage},
    world::{policy, quota, share},
};
use crate::id::JobId;

fn ask(job: u128, gpus: u32, limit_ms: u64) -> Ask {
    let job = JobId::from_u128(job);
    Ask { job, share: ShareId(0), sku: 0, gpus, shape: 0, limit_ms: Some(limit_ms), priority: 0, preemptible: true }
}

fn queue(nodes: u32, gpus_per_node: u32, policy: Policy) -> Queue {
    let shares = vec![share(None, vec![quota(nodes * gpus_per_node, None, None)])];
    Queue::new(Config { ground: Ground::Uniform(vec![Sku { nodes, gpus_per_node }]), shares, policy }).unwrap()
}

fn started(decisions: &[Decision]) -> Vec<JobId> {
    let start = |decision: &Decision| if let Decision::Start { job, .. } = decision { Some(*job) } else { None };
    decisions.iter().filter_map(start).collect()
}

fn id(job: u128) -> JobId {
    JobId::from_u128(job)
}

#[test]
fn a_short_job_passes_a_promised_one_and_a_long_one_does_not() {
    let mut queue = queue(1, 4, policy("fifo-promise"));
    queue.submit(ask(1, 3, 50), 0).unwrap();
    queue.submit(ask(2, 4, 50), 0).unwrap();
    queue.submit(ask(3, 1, 51), 0).unwrap();
    queue.submit(ask(4, 1, 50), 0).unwrap();
    let decisions = queue.pass(0);
    assert_eq!(started(&decisions), [id(1), id(4)]);
    assert!(decisions.contains(&Decision::Promise { job: id(2), at_ms: 50 }));
    assert_eq!(
        queue.reason(id(3)),
        Some(Reason::Gpus { asked: 1, fits: 0, free: 0, total: 4, by_limits_ms: Some(50), promised_ms: None })
    );
    queue.finish(id(4), 10).unwrap();
    assert!(queue.pass(10).is_empty());
    let reason = queue.reason(id(3)).unwrap();
    assert_eq!(reason, Reason::Promised { at_ms: 50, limit_ms: 40 });
    assert!(reason.to_string().contains("would delay a job that was promised"), "{reason}");
    queue.finish(id(1), 50).unwrap();
    assert_eq!(started(&queue.pass(50)), [id(2)]);
}

#[test]
fn who_may_not_pass_a_promise_keeps_nothing_from_who_may() {
    // Where running jobs make room, a job that does not start may claim some; this one must not claim what it may not use.
    let mut queue = queue(1, 4, policy("live"));
    queue.submit(Ask { preemptible: false, ..ask(1, 3, 50) }, 0).unwrap();
    assert_eq!(started(&queue.pass(0)), [id(1)]);
    queue.submit(ask(2, 4, 50), 0).unwrap();
    assert!(queue.pass(0).contains(&Decision::Promise { job: id(2), at_ms: 50 }));
    queue.submit(ask(3, 1, 90), 0).unwrap();
    queue.submit(ask(4, 1, 50), 0).unwrap();
    assert_eq!(started(&queue.pass(0)), [id(4)]);
}

#[test]
fn a_start_too_far_ahead_is_not_promised_and_nothing_is_kept_for_it() {
    let passes = |within| {
        let mut queue = queue(1, 4, Policy { promise_within_ms: within, ..policy("fifo-promise") });
        for (job, gpus, limit_ms) in [(1, 3, 60), (2, 4, 60), (3, 1, 61)] {
            queue.submit(ask(job, gpus, limit_ms), 0).unwrap();
        }
        let decisions = queue.pass(0);
        let promised = decisions.iter().any(|decision| matches!(decision, Decision::Promise { .. }));
        (promised, started(&decisions))
    };
    assert_eq!(passes(Some(60)), (true, vec![id(1)]));
    assert_eq!(passes(Some(59)), (false, vec![id(1), id(3)]));
}

#[test]
fn strict_first_come_first_served_lets_nobody_pass() {
    let mut queue = queue(1, 4, policy("fifo"));
    for (job, gpus) in [(1, 3), (2, 4), (3, 1)] {
        queue.submit(ask(job, gpus, 10), 0).unwrap();
    }
    assert_eq!(started(&queue.pass(0)), [id(1)]);
    assert_eq!(queue.reason(id(3)), Some(Reason::Ahead { jobs: 1 }));
    assert_eq!(queue.reason(id(1)), None, "it runs");
}

#[test]
fn a_job_that_worked_long_saves_its_work_for_a_new_one_and_is_left_alone_longer_each_time() {
    let mut queue = queue(1, 1, policy("default"));
    queue.submit(ask(1, 1, 100), 0).unwrap();
    queue.pass(0);
    queue.submit(ask(2, 1, 100), 10).unwrap();
    assert_eq!(queue.pass(10), [Decision::Stop { job: id(1), for_job: id(2) }]);
    assert!(matches!(queue.record(id(1)).unwrap().stage, Stage::Stopping { told_ms: 10, .. }));
    assert!(queue.pass(11).is_empty(), "its accelerator is being freed: nobody else is told to stop");
    queue.stopped(id(1), 10, 13).unwrap();
    assert_eq!(started(&queue.pass(13)), [id(2)]);
    queue.finish(id(2), 20).unwrap();
    assert_eq!(started(&queue.pass(20)), [id(1)]);
    queue.submit(ask(3, 1, 100), 21).unwrap();
    assert!(queue.pass(33).is_empty(), "14 ms are protected after one stop, 13 are over");
    assert_eq!(queue.pass(34), [Decision::Stop { job: id(1), for_job: id(3) }]);
}

#[test]
fn a_run_that_ends_before_its_work_is_saved_is_not_stopped() {
    let stopped_at = |now_ms: u64| {
        let mut queue = queue(1, 1, policy("default"));
        queue.submit(ask(1, 1, 100), 0).unwrap();
        queue.pass(0);
        queue.submit(Ask { priority: 1, ..ask(2, 1, 100) }, now_ms).unwrap();
        queue.pass(now_ms).contains(&Decision::Stop { job: id(1), for_job: id(2) })
    };
    // Saving takes 3 ms, and its limit ends it at 100 ms: what was promised then must not wait for the saving.
    assert_eq!([96, 97, 99].map(stopped_at), [true, false, false]);
}

#[test]
fn what_can_never_start_is_refused_with_what_there_is() {
    let shares = vec![share(None, vec![quota(8, None, None)]), share(Some(0), vec![quota(2, Some(1), None)])];
    let skus = vec![Sku { nodes: 1, gpus_per_node: 8 }];
    let mut queue = Queue::new(Config { ground: Ground::Uniform(skus), shares, policy: Policy::default() }).unwrap();
    assert_eq!(queue.submit(ask(1, 9, 1), 0), Err(Refusal::TooBig { asked: 9, most: 8 }));
    assert_eq!(queue.submit(ask(1, 0, 1), 0), Err(Refusal::Nothing));
    let mine = |job, gpus| Ask { share: ShareId(1), ..ask(job, gpus, 1) };
    assert_eq!(queue.submit(mine(1, 4), 0), Err(Refusal::OverQuota { asked: 4, most: 3 }));
    assert_eq!(queue.submit(Ask { sku: 1, ..ask(1, 1, 1) }, 0), Err(Refusal::Unknown));
    queue.submit(mine(1, 2), 0).unwrap();
    assert_eq!(queue.submit(mine(1, 1), 0), Err(Refusal::Duplicate));
    queue.submit(mine(2, 2), 0).unwrap();
    queue.pass(0);
    let reason = queue.reason(id(2)).unwrap();
    assert_eq!(reason, Reason::Quota { asked: 2, available: 1, used: 2, owned: 2 });
    assert!(reason.to_string().starts_with("1 of 2 GPUs short within the quota (2 used, 2 its own)"), "{reason}");
    assert_eq!(queue.finish(id(2), 0).unwrap_err(), Refusal::Stage);
    assert_eq!(queue.cancel(id(9), 0).unwrap_err(), Refusal::NoSuchJob);
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let mut queue = queue(1, 2, policy("default"));
    queue.submit(ask(1, 2, 10), 0).unwrap();
    queue.pass(0);
    queue.submit(ask(2, 2, 10), 0).unwrap();
    let mut snapshot = queue.snapshot();
    snapshot.records[1].stage = snapshot.records[0].stage.clone();
    let wrong = Queue::of_snapshot(snapshot).unwrap_err();
    assert_eq!(wrong, ConfigError::Snapshot { seq: 1, what: "holds what is not free" });
    let mut snapshot = queue.snapshot();
    snapshot.records[1].ask.job = id(1);
    assert!(Queue::of_snapshot(snapshot).is_err());
}

#[test]
fn a_clock_that_goes_back_counts_as_the_latest_time_seen() {
    let mut queue = queue(1, 1, policy("default"));
    queue.submit(ask(1, 1, 10), 100).unwrap();
    queue.pass(50);
    assert!(matches!(queue.record(id(1)).unwrap().stage, Stage::Running { since_ms: 100, .. }));
}

#[test]
fn who_used_less_lately_goes_first_among_alike() {
    let mut policy = policy("steady");
    policy.fairness_milli = 1000;
    let shares = vec![share(None, vec![quota(1, None, None)]), share(Some(0), vec![]), share(Some(0), vec![])];
    let mut queue =
        Queue::new(Config { ground: Ground::Uniform(vec![Sku { nodes: 1, gpus_per_node: 1 }]), shares, policy })
            .unwrap();
    let of = |share, job| Ask { share: ShareId(share), ..ask(job, 1, 10) };
    queue.submit(of(2, 1), 0).unwrap();
    queue.pass(0);
    queue.finish(id(1), 50).unwrap();
    queue.submit(of(1, 2), 50).unwrap();
    queue.pass(50);
    // Both have run 50 ms in the end, the first share's job more lately.
    queue.submit(of(1, 3), 60).unwrap();
    queue.submit(of(2, 4), 60).unwrap();
    queue.finish(id(2), 100).unwrap();
    assert_eq!(started(&queue.pass(100)), [id(4)]);
}
