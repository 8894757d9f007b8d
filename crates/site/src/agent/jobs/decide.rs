//! What to do about an attempt next: facts in, one bounded action out. Nothing is read, started or written here.

use gregal_core::job::{JobEnd, Program};
use gregal_engine::Reason;

use super::state::{AttemptState, StopWhy};

/// Runs an attempt may have: one for each restart of the site's process that it lives through.
pub(crate) const RUNS_MAX: u32 = 20;

/// What control wants of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It should run.
    Run,
    /// It should save its work and end, for others: another attempt goes on with what it leaves.
    MakeRoom,
    /// It should end now.
    End,
}

/// What the engine says of the newest run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It cannot be asked just now, which says nothing about the run.
    Unknown,
    /// It does not know the run, or there is none yet.
    Nothing,
    /// It lives.
    Living,
    /// It is over.
    Exited {
        reason: Reason,
        code: Option<i32>,
        signal: Option<i32>,
        /// Whether its program ever began.
        began: bool,
    },
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing to do now.
    Wait,
    /// Put the inputs where a run finds them.
    Prepare,
    /// Begin this run; beginning it twice is the same act.
    Start { run: u32 },
    /// Ask the run to stop.
    Stop(StopWhy),
    /// Store the model it made, then end well.
    Keep,
    /// End.
    End { end: JobEnd, succeeded: bool, cancelled: bool },
    /// Everything is done; tell control.
    Tell,
}

/// Decides the next step of an attempt.
pub(crate) fn decide(state: &AttemptState, wish: Wish, seen: &Seen) -> Action {
    if state.ended.is_some() {
        return Action::Tell;
    }
    match seen {
        Seen::Unknown => Action::Wait,
        Seen::Nothing if wish != Wish::Run => stopped(None),
        Seen::Nothing if !state.prepared => Action::Prepare,
        // The note of a run is written before it is begun: one that the engine does not know never began.
        Seen::Nothing => Action::Start { run: state.run.max(1) },
        Seen::Living => living(state, wish),
        Seen::Exited { reason, code, signal, began } => exited(state, wish, *reason, *code, *signal, *began),
    }
}

fn living(state: &AttemptState, wish: Wish) -> Action {
    if state.stopping.is_some() {
        Action::Wait
    } else if wish == Wish::End {
        Action::Stop(StopWhy::Cancelled)
    } else if state.metered.billed_ms >= state.limit_ms() {
        Action::Stop(StopWhy::TimedOut)
    } else if wish == Wish::MakeRoom {
        Action::Stop(StopWhy::Preempted)
    } else {
        Action::Wait
    }
}

fn exited(
    state: &AttemptState,
    wish: Wish,
    reason: Reason,
    code: Option<i32>,
    signal: Option<i32>,
    began: bool,
) -> Action {
    // It finished by itself, whatever was asked meanwhile.
    if reason == Reason::Finished {
        return match state.wanted.program {
            Program::Train { .. } => Action::Keep,
            Program::Command { .. } => {
                Action::End { end: end("finished", code, None), succeeded: true, cancelled: false }
            }
        };
    }
    if wish == Wish::End || state.stopping == Some(StopWhy::Cancelled) {
        return stopped(code);
    }
    let timed_out = || failed("timed_out", code, "it used up its time; submit it again with a larger `seconds_max`");
    if state.stopping == Some(StopWhy::TimedOut) {
        return timed_out();
    }
    // SIGTERM that nobody here sent: the machine or the service manager is stopping. The trainer saved its work first.
    let terminated = signal == Some(15) || code == Some(143);
    let interrupted = matches!(reason, Reason::Lost | Reason::Stopped) || (reason == Reason::Failed && terminated);
    // Making room: it would only be begun to be stopped again. What ended otherwise ended by itself, and says so.
    if interrupted && (wish == Wish::MakeRoom || state.stopping == Some(StopWhy::Preempted)) {
        return stopped(code);
    }
    match reason {
        _ if interrupted => again(state, code),
        Reason::TimedOut => timed_out(),
        Reason::OutOfMemory => failed(
            "out_of_memory",
            code,
            "it needed more memory than its SKU has; choose a larger SKU or a smaller batch",
        ),
        Reason::Failed if !began => {
            failed("never_started", code, "its program could not begin; the job's log says why")
        }
        Reason::Failed | Reason::Finished | Reason::Lost | Reason::Stopped => {
            failed("failed", code, "the job's log says why")
        }
    }
}

fn again(state: &AttemptState, code: Option<i32>) -> Action {
    if state.run < RUNS_MAX {
        Action::Start { run: state.run + 1 }
    } else {
        failed("lost", code, "it was interrupted too often")
    }
}

fn stopped(code: Option<i32>) -> Action {
    Action::End { end: end("stopped", code, None), succeeded: false, cancelled: true }
}

fn failed(reason: &str, code: Option<i32>, hint: &str) -> Action {
    Action::End { end: end(reason, code, Some(hint)), succeeded: false, cancelled: false }
}

/// An end as control knows it.
pub(crate) fn end(reason: &str, code: Option<i32>, hint: Option<&str>) -> JobEnd {
    JobEnd { code, reason: reason.to_owned(), hint: hint.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use gregal_api::protocol::WantedAttempt;
    use gregal_core::{
        id::{DatasetId, JobId, OrganisationId, ProjectId},
        job::Billed,
        sku,
        time::Time,
    };

    use super::{super::state::Ended, *};

    fn attempt(run: u32, prepared: bool) -> AttemptState {
        let wanted = WantedAttempt {
            job: JobId::from_u128(1),
            attempt: 1,
            organisation: OrganisationId::from_u128(1),
            project: ProjectId::from_u128(1),
            program: Program::Train {
                dataset: DatasetId::from_u128(1),
                heldout: None,
                base_model: None,
                model_name: "m".into(),
                settings: serde_json::Map::new(),
            },
            inputs: Vec::new(),
            sku: sku::default_skus().remove(0),
            seconds_max: 10,
            billed: Billed::default(),
            cancel: false,
            preempt: false,
            leave_by: None,
        };
        AttemptState { run, prepared, ..AttemptState::new(wanted) }
    }

    fn gone(reason: Reason) -> Seen {
        Seen::Exited { reason, code: None, signal: None, began: true }
    }

    #[test]
    fn an_attempt_is_prepared_started_kept_and_told() {
        assert_eq!(decide(&attempt(0, false), Wish::Run, &Seen::Nothing), Action::Prepare);
        assert_eq!(decide(&attempt(0, true), Wish::Run, &Seen::Nothing), Action::Start { run: 1 });
        assert_eq!(decide(&attempt(1, true), Wish::Run, &Seen::Living), Action::Wait);
        assert_eq!(decide(&attempt(1, true), Wish::Run, &gone(Reason::Finished)), Action::Keep);
        let mut told = attempt(1, true);
        told.ended = Some(Ended {
            at: Time::from_millis(0),
            end: end("finished", Some(0), None),
            succeeded: true,
            cancelled: false,
            product: None,
            heldout: None,
        });
        assert_eq!(decide(&told, Wish::End, &Seen::Living), Action::Tell);
    }

    #[test]
    fn what_cannot_be_asked_is_waited_for_whatever_is_wanted() {
        for wish in [Wish::Run, Wish::MakeRoom, Wish::End] {
            assert_eq!(decide(&attempt(3, true), wish, &Seen::Unknown), Action::Wait);
        }
    }

    #[test]
    fn a_lost_run_is_begun_again_until_its_bound() {
        for reason in [Reason::Lost, Reason::Stopped] {
            assert_eq!(decide(&attempt(1, true), Wish::Run, &gone(reason)), Action::Start { run: 2 });
            let Action::End { end, succeeded, .. } = decide(&attempt(RUNS_MAX, true), Wish::Run, &gone(reason)) else {
                panic!("it is given up")
            };
            assert_eq!((end.reason.as_str(), succeeded), ("lost", false));
        }
        // The same run once more where the note was written and the start did not happen.
        assert_eq!(decide(&attempt(2, true), Wish::Run, &Seen::Nothing), Action::Start { run: 2 });
    }

    #[test]
    fn it_can_be_cancelled_at_every_step() {
        for state in [attempt(0, false), attempt(0, true), attempt(1, true)] {
            assert!(matches!(decide(&state, Wish::End, &Seen::Nothing), Action::End { cancelled: true, .. }));
        }
        assert_eq!(decide(&attempt(1, true), Wish::End, &Seen::Living), Action::Stop(StopWhy::Cancelled));
        let stopping = AttemptState { stopping: Some(StopWhy::Cancelled), ..attempt(1, true) };
        assert_eq!(decide(&stopping, Wish::End, &Seen::Living), Action::Wait);
        for reason in [Reason::Stopped, Reason::Failed, Reason::Lost] {
            assert!(matches!(decide(&stopping, Wish::End, &gone(reason)), Action::End { cancelled: true, .. }));
        }
        assert_eq!(decide(&stopping, Wish::End, &gone(Reason::Finished)), Action::Keep, "it was quicker than the wish");
    }

    #[test]
    fn it_makes_room_at_every_step_and_says_how_it_ended_if_that_was_by_itself() {
        let wish = Wish::MakeRoom;
        for state in [attempt(0, false), attempt(0, true), attempt(1, true)] {
            assert!(matches!(decide(&state, wish, &Seen::Nothing), Action::End { cancelled: true, .. }));
        }
        assert_eq!(decide(&attempt(1, true), wish, &Seen::Living), Action::Stop(StopWhy::Preempted));
        let stopping = AttemptState { stopping: Some(StopWhy::Preempted), ..attempt(1, true) };
        assert_eq!(decide(&stopping, wish, &Seen::Living), Action::Wait);
        let reason = |state, seen| match decide(state, wish, &seen) {
            Action::End { end, .. } => end.reason,
            other => panic!("{other:?}"),
        };
        let terminated = Seen::Exited { reason: Reason::Failed, code: Some(143), signal: None, began: true };
        for state in [&stopping, &attempt(1, true)] {
            for seen in [gone(Reason::Stopped), gone(Reason::Lost), terminated.clone()] {
                assert_eq!(reason(state, seen), "stopped", "it is not begun again only to be stopped");
            }
            assert_eq!(reason(state, gone(Reason::Failed)), "failed");
            assert_eq!(reason(state, gone(Reason::OutOfMemory)), "out_of_memory");
            assert_eq!(decide(state, wish, &gone(Reason::Finished)), Action::Keep, "it was quicker than the wish");
        }
        // What was asked is remembered across a restart that has no newer intent yet.
        assert!(matches!(decide(&stopping, Wish::Run, &gone(Reason::Lost)), Action::End { .. }));
        let mut spent = attempt(1, true);
        spent.metered.billed_ms = 10_000;
        assert_eq!(decide(&spent, wish, &Seen::Living), Action::Stop(StopWhy::TimedOut), "it would end now anyway");
    }

    #[test]
    fn time_used_up_stops_it_and_is_told_as_that() {
        let mut state = attempt(1, true);
        state.metered.billed_ms = 10_000;
        assert_eq!(decide(&state, Wish::Run, &Seen::Living), Action::Stop(StopWhy::TimedOut));
        state.stopping = Some(StopWhy::TimedOut);
        let Action::End { end, .. } = decide(&state, Wish::Run, &gone(Reason::Stopped)) else { panic!("it ends") };
        assert_eq!(end.reason, "timed_out");
    }

    #[test]
    fn a_program_that_never_began_is_told_apart_from_one_that_failed() {
        let exit = |began, code| Seen::Exited { reason: Reason::Failed, code, signal: None, began };
        let reason = |seen| match decide(&attempt(1, true), Wish::Run, &seen) {
            Action::End { end, .. } => end.reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(exit(false, None)), "never_started");
        assert_eq!(reason(exit(true, Some(1))), "failed");
        assert_eq!(decide(&attempt(1, true), Wish::Run, &exit(true, Some(143))), Action::Start { run: 2 });
    }
}
