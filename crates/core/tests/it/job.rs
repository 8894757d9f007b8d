use gregal_core::{
    id::{HoldId, JobId, KeyId, OrganisationId, ProjectId, SiteId},
    job::{Job, JobEnd, JobMove, JobState, Program},
    schedule::{Cause, Promise},
    time::Time,
};
use proptest::prelude::*;

use crate::given::cases;

const PROMISE: Promise = Promise { at: Time::from_millis(9), site: SiteId::from_u128(1) };

const STATES: [JobState; 8] = [
    JobState::Queued,
    JobState::Starting,
    JobState::Running,
    JobState::Stopping,
    JobState::Cancelling,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
];

fn job(state: JobState) -> Job {
    let attempt = u32::from(state != JobState::Queued);
    Job {
        id: JobId::from_u128(1),
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        submitted_by: KeyId::from_u128(1),
        name: "a job".into(),
        program: Program::Command { argv: vec!["true".into()], inputs: vec![], network: false },
        sku: "cpu.1".into(),
        seconds_max: 60,
        priority: gregal_core::job::PRIORITY_DEFAULT,
        preemptible: true,
        stops: 0,
        stopped_for: None,
        told_at: None,
        stopped_at: None,
        ready_at: None,
        state,
        promised: None,
        waits_for: (state == JobState::Queued).then(|| "room".into()),
        waits_causes: Vec::new(),
        site: (attempt > 0).then(|| SiteId::from_u128(1)),
        attempt,
        hold: HoldId::from_u128(1),
        reservation: None,
        billed: gregal_core::job::Billed::default(),
        progress: None,
        heldout: None,
        end: None,
        model: None,
        created_at: Time::default(),
        started_at: None,
        ended_at: None,
        version: 5,
    }
}

fn end(state: JobState) -> JobMove {
    let end = JobEnd { code: None, reason: "stopped".into(), hint: None };
    JobMove::End { end, state, at: Time::from_millis(99) }
}

fn bind(site: u128) -> JobMove {
    JobMove::Bind { site: SiteId::from_u128(site) }
}

fn ready(at: i64) -> JobMove {
    JobMove::Ready { at: Time::from_millis(at) }
}

fn requeue() -> JobMove {
    JobMove::Requeue { why: "the site was lost".into(), at: Time::from_millis(7) }
}

fn preempt() -> JobMove {
    JobMove::Preempt { why: "a job of higher priority".into() }
}

fn moves() -> Vec<JobMove> {
    let mut moves = vec![
        bind(1),
        ready(7),
        requeue(),
        preempt(),
        JobMove::Wait { why: "4 cores".into(), causes: vec![Cause::Room], promise: Some(PROMISE) },
        JobMove::AskCancel,
    ];
    moves.extend(STATES.map(end));
    moves
}

/// Every legal move there is; all others must be refused.
const LEGAL: [(JobState, &str, JobState); 21] = [
    (JobState::Queued, "bind", JobState::Starting),
    (JobState::Queued, "wait", JobState::Queued),
    (JobState::Queued, "end", JobState::Failed),
    (JobState::Queued, "end", JobState::Cancelled),
    (JobState::Starting, "ready", JobState::Running),
    (JobState::Starting, "requeue", JobState::Queued),
    (JobState::Starting, "ask_cancel", JobState::Cancelling),
    (JobState::Starting, "end", JobState::Failed),
    (JobState::Starting, "preempt", JobState::Stopping),
    (JobState::Running, "preempt", JobState::Stopping),
    // What ends by itself while it makes room has ended; a cancel during it wins.
    (JobState::Stopping, "requeue", JobState::Queued),
    (JobState::Stopping, "ask_cancel", JobState::Cancelling),
    (JobState::Stopping, "end", JobState::Succeeded),
    (JobState::Stopping, "end", JobState::Failed),
    (JobState::Running, "requeue", JobState::Queued),
    (JobState::Running, "ask_cancel", JobState::Cancelling),
    (JobState::Running, "end", JobState::Succeeded),
    (JobState::Running, "end", JobState::Failed),
    // A job that ends by itself while it is being asked to stop says how it really ended.
    (JobState::Cancelling, "end", JobState::Succeeded),
    (JobState::Cancelling, "end", JobState::Failed),
    (JobState::Cancelling, "end", JobState::Cancelled),
];

#[test]
fn every_state_makes_its_legal_moves_and_refuses_all_others() {
    for state in STATES {
        for step in moves() {
            let (name, to) = (step.name(), step.leads_to());
            let legal = LEGAL.contains(&(state, name, to));
            match job(state).apply(step) {
                Ok(after) => {
                    assert!(legal, "{state:?} made `{name}` to {to:?}");
                    assert_eq!((after.state, after.version), (to, 6));
                }
                Err(refused) => {
                    assert!(!legal, "{state:?} refused `{name}` to {to:?}: {refused}");
                    assert_eq!((refused.from, refused.to, refused.by), (state, to, name));
                }
            }
        }
    }
}

#[test]
fn a_refusal_names_the_move_and_the_rule() {
    let refused = job(JobState::Succeeded).apply(JobMove::AskCancel).unwrap_err();
    assert_eq!(refused.to_string(), "a succeeded job does not move to cancelling by `ask_cancel`: it has ended");
}

#[test]
fn each_bind_is_a_new_attempt_and_old_observations_are_fenced_off() {
    let first = job(JobState::Queued).apply(bind(1)).unwrap();
    assert_eq!((first.attempt, first.waits_for.as_deref()), (1, None));
    assert!(first.accepts(1) && !first.accepts(0) && !first.accepts(2));
    let waiting = first.apply(ready(10)).unwrap().apply(requeue()).unwrap();
    assert_eq!(waiting.waits_for.as_deref(), Some("the site was lost"));
    assert!(!waiting.accepts(1), "nothing is observed of a job that waits");
    assert_eq!(waiting.stopped_at, None, "it was lost, so it waits since it was asked for");
    let second = waiting.apply(bind(1)).unwrap();
    assert!(second.accepts(2) && !second.accepts(1));
    let running = second.apply(ready(20)).unwrap();
    assert_eq!(running.started_at, Some(Time::from_millis(10)), "first ready counts");
    let ended = running.apply(end(JobState::Succeeded)).unwrap();
    assert_eq!(ended.ended_at, Some(Time::from_millis(99)));
    assert!(!ended.accepts(2));
}

#[test]
fn a_job_is_not_moved_away_from_its_data() {
    let pinned = Job { site: Some(SiteId::from_u128(1)), ..job(JobState::Queued) };
    assert_eq!(pinned.apply(bind(2)).unwrap_err().why, "its data is at another site");
    assert!(pinned.apply(bind(1)).is_ok());
}

#[test]
fn a_job_that_had_its_attempts_is_ended_instead_of_queued() {
    let last = Job { attempt: Job::ATTEMPTS_MAX, ..job(JobState::Running) };
    assert_eq!(last.apply(requeue()).unwrap_err().why, "it has had its attempts");
    assert!(last.apply(end(JobState::Failed)).is_ok());
    let queued = Job { attempt: Job::ATTEMPTS_MAX, ..job(JobState::Queued) };
    assert!(queued.apply(bind(1)).is_err());
}

#[test]
fn a_job_stopped_for_others_waits_again_and_keeps_its_attempts() {
    let mut now = job(JobState::Queued);
    for stops in 1..=3 * Job::ATTEMPTS_MAX {
        let running = now.apply(bind(1)).unwrap().apply(ready(7)).unwrap();
        assert_eq!((running.stopped_for.as_deref(), running.stops), (None, stops - 1));
        let stopping = running.apply(preempt()).unwrap();
        assert_eq!((stopping.stopped_for.as_deref(), stopping.stops), (Some("a job of higher priority"), stops - 1));
        assert!(stopping.accepts(stops), "its site still has to prove the end");
        now = stopping.apply(requeue()).unwrap();
        assert_eq!((now.stops, now.attempt, now.site), (stops, stops, Some(SiteId::from_u128(1))));
        assert_eq!((now.stopped_at, running.ready_at), (Some(Time::from_millis(7)), Some(Time::from_millis(7))));
        assert_eq!(now.apply(bind(1)).unwrap().ready_at, None, "the next attempt is not ready yet");
    }
    // Losing it counts as before: three times, and it is given up.
    for _ in 1..Job::ATTEMPTS_MAX {
        now = now.apply(bind(1)).unwrap().apply(requeue()).unwrap();
    }
    assert_eq!(now.apply(bind(1)).unwrap().apply(requeue()).unwrap_err().why, "it has had its attempts");
}

#[test]
fn a_job_from_before_priorities_is_in_the_middle_and_left_alone() {
    let mut row = serde_json::to_value(job(JobState::Running)).unwrap();
    for new in ["priority", "preemptible", "stops", "stopped_for"] {
        row.as_object_mut().unwrap().remove(new).unwrap();
    }
    let old: Job = serde_json::from_value(row).unwrap();
    assert_eq!((old.priority, old.preemptible, old.stops, old.stopped_for), (4, false, 0, None));
}

/// Mostly lost, stopped and bound again, so that histories run out of attempts.
fn step() -> impl Strategy<Value = JobMove> {
    let again = prop::sample::select(vec![bind(1), ready(7), requeue(), preempt()]);
    prop_oneof![9 => again, 1 => prop::sample::select(moves())]
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn no_history_binds_too_often_or_leaves_an_end(steps in prop::collection::vec(step(), 0..40)) {
        let mut now = job(JobState::Queued);
        let (mut binds, mut accepted) = (0, 0);
        for step in steps {
            let is_bind = matches!(step, JobMove::Bind { .. });
            let Ok(next) = now.apply(step) else { continue };
            prop_assert!(!now.state.is_final());
            prop_assert_eq!(next.waits_for.is_some(), next.state == JobState::Queued);
            prop_assert!(next.promised.is_none() || next.state == JobState::Queued);
            prop_assert_eq!(next.ended_at.is_some(), next.state.is_final());
            prop_assert!(next.state != JobState::Succeeded || next.attempt > 0);
            binds += u32::from(is_bind);
            accepted += 1;
            now = next;
        }
        prop_assert_eq!((now.attempt, now.version), (binds, 5 + accepted));
        prop_assert!(binds <= Job::ATTEMPTS_MAX + now.stops);
    }
}
