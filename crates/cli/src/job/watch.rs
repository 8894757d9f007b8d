//! Watching a job: a live bar on a terminal, plain lines elsewhere, and an end that a script can tell by its status.

use gregal_api::job::{JobView, ProgressView};
use gregal_core::job::JobState;
use indicatif::ProgressBar;

use super::{ended_well, facts};
use crate::{context::Cx, failure::Failure, words};

/// How often in a row the cloud may be out of reach before watching is given up.
const MISSES_MAX: u32 = 60;

/// Watches until the job has ended, prints it, and fails if it did not end well.
pub(super) async fn until_end(cx: &mut Cx<'_>, job: JobView) -> Result<(), Failure> {
    let id = job.id.to_string();
    let ended = or_interrupted(&id, look(cx, job, Some(Shown::default()), JobState::is_final)).await?;
    cx.printer().data(&ended, facts)?;
    if let (Some(model), JobState::Succeeded) = (ended.model, ended.state) {
        cx.printer().note(&format!("next: `gregal endpoint create NAME --model {model} --wait`"));
    }
    ended_well(&ended)
}

/// Watches until the job runs, or has ended without.
pub(super) async fn until_started(cx: &mut Cx<'_>, job: JobView) -> Result<JobView, Failure> {
    let id = job.id.to_string();
    let waits = |state| matches!(state, JobState::Queued | JobState::Starting);
    or_interrupted(&id, look(cx, job, Some(Shown::default()), |state| !waits(state))).await
}

/// Waits for the end without a word.
pub(super) async fn quietly_until_end(cx: &mut Cx<'_>, job: JobView) -> Result<JobView, Failure> {
    let id = job.id.to_string();
    or_interrupted(&id, look(cx, job, None, JobState::is_final)).await
}

/// Ctrl-C ends the watching, not the job, and says so.
pub(super) async fn or_interrupted<T>(id: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::yours("stopped watching; the job goes on").hint(format!(
                "`gregal job watch {id}` watches it again, `gregal job cancel {id}` ends it"
            )))
        }
    }
}

async fn look(
    cx: &mut Cx<'_>,
    mut job: JobView,
    mut shown: Option<Shown>,
    there: impl Fn(JobState) -> bool,
) -> Result<JobView, Failure> {
    let id = job.id.to_string();
    let mut misses = 0;
    loop {
        if let Some(shown) = &mut shown {
            shown.update(cx, &job);
        }
        if there(job.state) {
            if let Some(shown) = &mut shown {
                shown.clear();
            }
            return Ok(job);
        }
        tokio::time::sleep(cx.here.poll).await;
        match cx.read::<JobView>("job_read", &[&id]).await {
            Ok(newer) => {
                misses = 0;
                job = newer;
            }
            // The job does not mind that it is not watched: a restart of the control plane must not end the watching.
            Err(failure) if failure.passing && misses < MISSES_MAX => {
                if misses == 0 {
                    cx.printer().note("the control plane does not answer; trying again");
                }
                misses += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// What the person has been told so far.
#[derive(Debug, Default)]
struct Shown {
    state: Option<(JobState, Option<String>)>,
    tenth: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn update(&mut self, cx: &mut Cx<'_>, job: &JobView) {
        // The last step is told before the end it led to.
        if job.state.is_final() {
            self.progress(cx, job);
        }
        let state = (job.state, job.waits_for.clone());
        if self.state.as_ref() != Some(&state) {
            let why = job.waits_for.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            self.say(cx, &format!("job {} {}{why}", job.id, job.state.as_str()));
            self.state = Some(state);
        }
        if !job.state.is_final() {
            self.progress(cx, job);
        }
    }

    fn progress(&mut self, cx: &mut Cx<'_>, job: &JobView) {
        let Some(now) = &job.progress else { return };
        if cx.printer().live() {
            let bar = self.bar.get_or_insert_with(|| cx.printer().bar("{bar:32} {msg}", Some(now.steps)));
            bar.set_length(now.steps);
            bar.set_position(now.step);
            bar.set_message(progress(now));
            return;
        }
        // A line every tenth of the way: enough for a log file, never a flood.
        let tenth = now.step.saturating_mul(10) / now.steps.max(1);
        if self.tenth != Some(tenth) {
            self.tenth = Some(tenth);
            self.say(cx, &progress(now));
        }
    }

    fn say(&self, cx: &mut Cx<'_>, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| cx.printer().note(text)),
            None => cx.printer().note(text),
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Progress in words: step, loss, speed, energy.
pub(super) fn progress(now: &ProgressView) -> String {
    format!(
        "step {}/{}  loss {:.4}  {:.0} tokens/s  {}",
        now.step,
        now.steps,
        now.loss,
        now.tokens_per_s,
        words::kwh(now.energy_mj)
    )
}
