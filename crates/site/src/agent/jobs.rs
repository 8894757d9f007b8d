//! Jobs at this site: one task an attempt, which looks, decides, and takes one bounded step, until the end is told.

pub(crate) mod attempt;
mod bill;
pub(crate) mod decide;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod train;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gregal_api::protocol::{AttemptPhase, AttemptRef, Intent, ObservedAttempt, PROGRESS_POINTS_MAX};
use gregal_core::{id::JobId, job::Progress};

use self::state::{AttemptState, JobFolder};
use crate::{durable, error::Error, site::Shared};

/// Progress points of one attempt that wait for control; the oldest ones are thinned out beyond.
const POINTS_WAITING_MAX: usize = 2_000;
/// Folders of ended jobs that are kept for their logs.
const FOLDERS_KEPT_MAX: usize = 1_000;

/// What control is told of an attempt, and what the agent must remember of it.
#[derive(Debug)]
struct Entry {
    phase: AttemptPhase,
    points: VecDeque<Progress>,
    runs: u32,
    acknowledged: bool,
    gpus: Vec<String>,
}

/// Every attempt this site knows.
#[derive(Debug)]
pub(crate) struct Jobs {
    folder: PathBuf,
    table: Mutex<BTreeMap<AttemptRef, Entry>>,
}

impl Jobs {
    /// Opens the folder and reads what was kept: the attempts to be carried on. `spooled` is the number of the usage
    /// spool's next record.
    pub(crate) fn open(folder: &Path, spooled: u64) -> Result<(Self, Vec<AttemptState>), Error> {
        let reading = Error::io("could not read", folder);
        let load = || -> std::io::Result<Vec<AttemptState>> {
            durable::private_folder(folder)?;
            let mut states = Vec::new();
            for entry in std::fs::read_dir(folder)? {
                let job = entry?.file_name().to_string_lossy().parse::<JobId>();
                if let Ok(job) = job {
                    states.extend(JobFolder::new(folder, job).load()?);
                }
            }
            Ok(states)
        };
        let mut states = load().map_err(reading)?;
        for state in &mut states {
            // A spool that was lost counts from the beginning: what it will never reach must not be waited for.
            state.spooled_until = state.spooled_until.min(spooled);
        }
        let jobs = Self { folder: folder.to_owned(), table: Mutex::default() };
        for state in &states {
            jobs.begin(state);
        }
        let live = states.into_iter().filter(|state| !state.acknowledged).collect();
        Ok((jobs, live))
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<AttemptRef, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn folder_of(&self, job: JobId) -> JobFolder {
        JobFolder::new(&self.folder, job)
    }

    /// Takes an attempt into the books; false if it is there already.
    pub(crate) fn begin(&self, state: &AttemptState) -> bool {
        let mut table = self.table();
        if table.contains_key(&state.reference()) {
            return false;
        }
        let phase = match state.since {
            Some(since) => AttemptPhase::Running { since },
            None => AttemptPhase::Starting,
        };
        let (acknowledged, runs) = (state.acknowledged, state.run);
        table.insert(state.reference(), Entry { phase, points: VecDeque::new(), runs, acknowledged, gpus: Vec::new() });
        true
    }

    /// Whether another attempt of a job may still be at work here: two never share its folder.
    pub(crate) fn has_other_live(&self, of: AttemptRef) -> bool {
        let ended = |entry: &Entry| matches!(entry.phase, AttemptPhase::Ended { .. }) || entry.acknowledged;
        self.table().iter().any(|(other, entry)| other.job == of.job && other.attempt != of.attempt && !ended(entry))
    }

    /// Whether anything of a job may still write to its log.
    pub(crate) fn is_live(&self, job: JobId) -> bool {
        let ended = |entry: &Entry| matches!(entry.phase, AttemptPhase::Ended { .. }) || entry.acknowledged;
        self.table().iter().any(|(attempt, entry)| attempt.job == job && !ended(entry))
    }

    pub(crate) fn set_phase(&self, of: AttemptRef, phase: AttemptPhase) {
        if let Some(entry) = self.table().get_mut(&of) {
            if matches!(phase, AttemptPhase::Ended { .. }) {
                entry.gpus.clear();
            }
            entry.phase = phase;
        }
    }

    pub(crate) fn set_runs(&self, of: AttemptRef, runs: u32) {
        if let Some(entry) = self.table().get_mut(&of) {
            entry.runs = runs;
        }
    }

    pub(crate) fn add_points(&self, of: AttemptRef, points: impl Iterator<Item = Progress>) {
        let mut table = self.table();
        let Some(entry) = table.get_mut(&of) else { return };
        entry.points.extend(points);
        if entry.points.len() > POINTS_WAITING_MAX {
            // Every other old point still draws the same curve.
            let newest = entry.points.len() - 1;
            let mut at = 0;
            entry.points.retain(|_| {
                at += 1;
                at % 2 == 0 || at > newest
            });
        }
    }

    /// Grants accelerators to an attempt; none while others hold them.
    pub(crate) fn take_gpus(
        &self,
        of: AttemptRef,
        count: usize,
        all: &[gregal_core::site::Accelerator],
    ) -> Option<Vec<String>> {
        let mut table = self.table();
        let taken: Vec<&String> =
            table.iter().filter(|(other, _)| **other != of).flat_map(|(_, entry)| &entry.gpus).collect();
        let free = all.iter().filter(|gpu| gpu.healthy && !taken.contains(&&gpu.uuid)).map(|gpu| gpu.uuid.clone());
        let granted: Vec<String> = free.take(count).collect();
        if granted.len() < count {
            return None;
        }
        table.get_mut(&of)?.gpus.clone_from(&granted);
        Some(granted)
    }

    /// What control is told.
    pub(crate) fn observed(&self) -> Vec<ObservedAttempt> {
        let observe = |(of, entry): (&AttemptRef, &Entry)| ObservedAttempt {
            job: of.job,
            attempt: of.attempt,
            phase: entry.phase.clone(),
            progress: entry.points.iter().take(PROGRESS_POINTS_MAX).copied().collect(),
        };
        self.table().iter().filter(|(_, entry)| !entry.acknowledged).map(observe).collect()
    }

    /// Whether some attempt is at work, so that control wants to hear often.
    pub(crate) fn is_busy(&self) -> bool {
        let live = |entry: &Entry| !entry.acknowledged && !matches!(entry.phase, AttemptPhase::Ended { .. });
        self.table().values().any(live)
    }

    /// Control has what it was told.
    pub(crate) fn told(&self, observed: &[ObservedAttempt]) {
        let mut table = self.table();
        for one in observed {
            let of = AttemptRef { job: one.job, attempt: one.attempt };
            if let Some(entry) = table.get_mut(&of) {
                let told = one.progress.len().min(entry.points.len());
                entry.points.drain(..told);
            }
        }
    }

    /// Control has recorded an end; true if that is news. The caller cleans up.
    pub(crate) fn acknowledge(&self, of: AttemptRef) -> Option<u32> {
        let mut table = self.table();
        let entry = table.get_mut(&of).filter(|entry| !entry.acknowledged)?;
        if !matches!(entry.phase, AttemptPhase::Ended { .. }) {
            return None;
        }
        entry.acknowledged = true;
        Some(entry.runs)
    }

    /// Takes acknowledged attempts that no intent names any more out of the books, and ended ones that a newer attempt
    /// replaced. Answers them, and whether another attempt goes on with what they left.
    pub(crate) fn forget(&self, intent: &Intent) -> Vec<(AttemptRef, bool)> {
        let mut gone = Vec::new();
        self.table().retain(|of, entry| {
            let wanted = intent.attempts.iter().any(|wanted| wanted.job == of.job && wanted.attempt == of.attempt);
            let ended = matches!(entry.phase, AttemptPhase::Ended { .. });
            let newer = intent.attempts.iter().any(|wanted| wanted.job == of.job && wanted.attempt > of.attempt);
            // Remembered while nothing else says that something of the job is kept here.
            let waits = intent.jobs_kept.contains(&of.job);
            let forget = !wanted && !waits && (entry.acknowledged || (ended && newer));
            if forget {
                gone.push(*of);
            }
            !forget
        });
        gone.into_iter().map(|of| (of, self.goes_on(of, intent))).collect()
    }

    /// Removes the traces of forgotten attempts: the state last, so that a crash in between does it again.
    fn clean_up(&self, gone: &[(AttemptRef, bool)]) {
        for (of, goes_on) in gone {
            let folder = self.folder_of(of.job);
            let cleaned = if *goes_on { Ok(()) } else { folder.clean() };
            let removed = cleaned.and_then(|()| std::fs::remove_file(folder.state(of.attempt)));
            if let Err(error) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, job.id = %of.job, "could not forget an attempt");
            }
        }
        self.prune();
    }

    /// Whether another attempt of a job goes on with what this one left, or will.
    fn goes_on(&self, of: AttemptRef, intent: &Intent) -> bool {
        let is_other = |job: JobId, attempt: u32| job == of.job && attempt != of.attempt;
        intent.jobs_kept.contains(&of.job)
            || intent.attempts.iter().any(|wanted| is_other(wanted.job, wanted.attempt))
            || self.has_other_live(of)
    }

    /// Keeps the logs of the newest ended jobs only: ids sort by time of birth.
    fn prune(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        let known: Vec<JobId> = self.table().keys().map(|of| of.job).collect();
        let ended = entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse::<JobId>().ok());
        let mut ended: Vec<JobId> = ended.filter(|job| !known.contains(job)).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(FOLDERS_KEPT_MAX);
        for job in ended.into_iter().take(surplus) {
            if let Err(error) = durable::remove_folder(self.folder_of(job).path()) {
                tracing::warn!(%error, job.id = %job, "could not remove an old job's folder");
            }
        }
    }
}

/// Starts a task for every wanted attempt that has none yet.
pub(crate) fn apply(shared: &Arc<Shared>, intent: &Intent) {
    for wanted in &intent.attempts {
        let state = AttemptState::new(wanted.clone());
        // An older attempt that is still being stopped comes first; the next look tries again.
        if !shared.jobs.has_other_live(state.reference()) && shared.jobs.begin(&state) {
            carry_on(shared, state);
        }
    }
    let gone = shared.jobs.forget(intent);
    if !gone.is_empty() {
        let shared = Arc::clone(shared);
        shared.tasks.clone().spawn_blocking(move || shared.jobs.clean_up(&gone));
    }
}

/// Carries an attempt on from where it is.
pub(crate) fn carry_on(shared: &Arc<Shared>, state: AttemptState) {
    shared.tasks.spawn(attempt::Attempt::new(Arc::clone(shared), state).carry());
}

/// Cleans up after attempts whose end control has recorded.
pub(crate) async fn acknowledged(shared: &Arc<Shared>, attempts: &[AttemptRef]) {
    for of in attempts {
        let Some(runs) = shared.jobs.acknowledge(*of) else { continue };
        for run in 1..=runs {
            let removed = match run::workload_id(*of, run) {
                Ok(id) => shared.options.engine.remove(&id).await,
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                tracing::warn!(%error, job.id = %of.job, "could not clean up after a run");
            }
        }
        let folder = shared.jobs.folder_of(of.job);
        // Control queued it again, or has given it back already: the intent that came with this answer says so.
        let standing = shared.desk.current();
        let goes_on = standing.intent.as_ref().is_some_and(|intent| shared.jobs.goes_on(*of, intent));
        let attempt = of.attempt;
        let cleaned = tokio::task::spawn_blocking(move || {
            let mut states = folder.load()?;
            if let Some(state) = states.iter_mut().find(|state| state.wanted.attempt == attempt) {
                state.acknowledged = true;
                state.save(&folder)?;
            }
            if goes_on { Ok(()) } else { folder.clean() }
        });
        if let Ok(Err(error)) = cleaned.await {
            tracing::warn!(%error, job.id = %of.job, "could not clean up after a job");
        }
    }
}

#[cfg(test)]
mod tests {
    use gregal_core::{
        id::{OrganisationId, ProjectId},
        job::{Billed, Program},
        sku,
    };

    use super::*;

    #[test]
    fn an_attempt_never_waits_for_a_record_that_a_lost_spool_will_not_reach() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = gregal_api::protocol::WantedAttempt {
            job: JobId::from_u128(1),
            attempt: 1,
            organisation: OrganisationId::from_u128(1),
            project: ProjectId::from_u128(1),
            program: Program::Command { argv: vec!["/bin/true".into()], inputs: Vec::new(), network: false },
            inputs: Vec::new(),
            sku: sku::default_skus().remove(0),
            seconds_max: 10,
            billed: Billed::default(),
            cancel: false,
            preempt: false,
            leave_by: None,
        };
        let state = AttemptState { spooled_until: 9, ..AttemptState::new(wanted) };
        let job = JobFolder::new(folder.path(), state.wanted.job);
        durable::private_folder(job.path()).unwrap();
        state.save(&job).unwrap();
        for (next, until) in [(3, 3), (20, 9)] {
            let (_, kept) = Jobs::open(folder.path(), next).unwrap();
            assert_eq!(kept[0].spooled_until, until);
        }
    }
}
