//! A site's room as a pass goes on, and as it will be.

use std::collections::BTreeMap;

use super::{
    Bound, END_MS, ENDLESS_MS, Room, START_MS, Waiting,
    words::{jobs_ahead, moment, shortage},
};
use crate::{id::JobId, time::Time};

/// When a job could start by the limits of what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Earliest {
    /// Then, at the latest.
    At(Time),
    /// Something that runs there has no known end, or the site does not answer.
    Unknown,
    /// Not even when all that runs has ended: what else is there has to go first.
    Never,
}

/// What is free.
#[derive(Debug, Clone)]
struct Free<'a> {
    cpus_milli: u32,
    memory_bytes: u64,
    gpus: BTreeMap<&'a str, u32>,
    /// Accelerators taken by jobs that take any model. Which ones is the site's choice, so each model counts them all as
    /// gone: too careful by a little where models are mixed, never over what is there.
    gpus_any_taken: u32,
    /// Accelerators given back by such jobs: of which model is not known, so only such jobs count on them.
    gpus_any_back: u32,
}

impl<'a> Free<'a> {
    /// Free accelerators that a job asking for this model (or any) can count on.
    fn gpus_for(&self, model: Option<&str>) -> u32 {
        let back = if model.is_none() { self.gpus_any_back } else { 0 };
        (usable(&self.gpus, model) + back).saturating_sub(self.gpus_any_taken)
    }

    fn fits(&self, job: &Waiting) -> bool {
        job.cpus_milli <= self.cpus_milli
            && job.memory_bytes <= self.memory_bytes
            && job.gpus <= self.gpus_for(job.gpu_model.as_deref())
    }

    /// The job was asked to `fits` before: a minus here would give room out twice.
    fn take(&mut self, job: &Waiting) {
        self.cpus_milli = self.cpus_milli.checked_sub(job.cpus_milli).expect("cores were free");
        self.memory_bytes = self.memory_bytes.checked_sub(job.memory_bytes).expect("memory was free");
        match job.gpu_model.as_deref() {
            None => self.gpus_any_taken += job.gpus,
            Some(model) => {
                if let Some(free) = self.gpus.get_mut(model) {
                    *free = free.checked_sub(job.gpus).expect("accelerators were free");
                }
            }
        }
    }

    fn release(&mut self, bound: &'a Bound, room: &Room) {
        // Never more than there is, whatever a snapshot says.
        self.cpus_milli = self.cpus_milli.saturating_add(bound.cpus_milli).min(room.cpus_milli_total);
        self.memory_bytes = self.memory_bytes.saturating_add(bound.memory_bytes).min(room.memory_bytes_total);
        match bound.gpu_model.as_deref() {
            None => self.gpus_any_back = self.gpus_any_back.saturating_add(bound.gpus),
            Some(model) => *self.gpus.entry(model).or_insert(0) += bound.gpus,
        }
    }
}

/// Whose start must not be delayed at a site.
#[derive(Debug)]
struct Guard<'a> {
    job: JobId,
    /// The promised start, and what is free then beside the promised job. None: nobody knows when; nobody passes.
    later: Option<(Time, Free<'a>)>,
}

/// A site's room as the pass goes on.
#[derive(Debug)]
pub(super) struct Space<'a> {
    pub(super) room: &'a Room,
    now: Time,
    free: Free<'a>,
    /// What this pass has started here: it gives its room back too late to count on.
    started: Vec<(Time, &'a Waiting)>,
    guard: Option<Guard<'a>>,
    /// Jobs that wait for this room, nobody knows until when.
    pub(super) ahead: u32,
}

impl<'a> Space<'a> {
    pub(super) fn of(room: &'a Room, now: Time) -> Self {
        let free = Free {
            cpus_milli: room.cpus_milli_free.min(room.cpus_milli_total),
            memory_bytes: room.memory_bytes_free.min(room.memory_bytes_total),
            gpus: counted(&room.gpus_free),
            gpus_any_taken: 0,
            gpus_any_back: 0,
        };
        Self { room, now, free, started: Vec::new(), guard: None, ahead: 0 }
    }

    /// Whether the site has ever said what it has.
    pub(super) const fn is_known(&self) -> bool {
        self.room.cpus_milli_total > 0 && self.room.memory_bytes_total > 0
    }

    /// Whether a job could be promised a start here: it could run, and nobody else was promised one.
    pub(super) fn could(&self, job: &Waiting) -> bool {
        self.is_known() && self.guard.is_none() && self.room.shortage(job).is_none()
    }

    /// When a job that starts now is out of the way at the latest.
    fn end_of(&self, job: &Waiting) -> Time {
        let limit = i64::try_from(job.limit_ms).unwrap_or(i64::MAX);
        Time::from_millis(self.now.as_millis().saturating_add(START_MS + END_MS).saturating_add(limit))
    }

    pub(super) fn takes(&self, job: &Waiting) -> bool {
        self.room.alive && self.ahead == 0 && self.free.fits(job) && !self.delays(job)
    }

    /// Whether starting it now could delay a start that was promised to another.
    fn delays(&self, job: &Waiting) -> bool {
        let Some(guard) = self.guard.as_ref().filter(|guard| guard.job != job.job) else { return false };
        guard.later.as_ref().is_none_or(|(at, later)| self.end_of(job) > *at && !later.fits(job))
    }

    /// What would be left, scarcest first: the least left is the best fit, and work that needs no accelerator stays away
    /// from where they are free.
    pub(super) fn left_by(&self, job: &Waiting) -> (u32, u32, u64) {
        let gpus = self.free.gpus_for(None).saturating_sub(job.gpus);
        let cpus = self.free.cpus_milli.saturating_sub(job.cpus_milli);
        (gpus, cpus, self.free.memory_bytes.saturating_sub(job.memory_bytes))
    }

    /// Gives a job the room that `takes` found.
    pub(super) fn take(&mut self, job: &'a Waiting) {
        let ends = self.end_of(job);
        self.free.take(job);
        // Room that is never given back is no room to count on: as what stands already, it is not bound, it is gone.
        if job.limit_ms != ENDLESS_MS {
            self.started.push((ends, job));
        }
        self.let_go(job.job);
        if let Some((at, later)) = self.guard.as_mut().and_then(|guard| guard.later.as_mut())
            && ends > *at
        {
            later.take(job);
        }
    }

    /// Nothing is kept for this job any more.
    pub(super) fn let_go(&mut self, job: JobId) {
        self.guard.take_if(|guard| guard.job == job);
    }

    /// When the limits of what runs leave room for a job, if nobody behind it takes it.
    pub(super) fn earliest(&self, job: &Waiting) -> Earliest {
        if !self.room.alive || self.room.bound.iter().any(|bound| bound.free_at.is_none()) {
            return Earliest::Unknown;
        }
        if self.free.fits(job) {
            return Earliest::At(self.now);
        }
        let mut ends: Vec<Time> = self.room.bound.iter().filter_map(|bound| bound.free_at).collect();
        ends.extend(self.started.iter().map(|(ends, _)| *ends));
        ends.sort_unstable();
        let late = ends.into_iter().map(|end| end.max(self.now)).find(|end| self.free_by(*end).fits(job));
        late.map_or(Earliest::Never, Earliest::At)
    }

    /// What is free by a time, if nothing more is started.
    fn free_by(&self, at: Time) -> Free<'a> {
        let mut free = self.free.clone();
        for bound in &self.room.bound {
            if bound.free_at.is_some_and(|end| end <= at) {
                free.release(bound, self.room);
            }
        }
        for (_, job) in self.started.iter().filter(|(end, _)| *end <= at) {
            free.cpus_milli = free.cpus_milli.saturating_add(job.cpus_milli);
            free.memory_bytes = free.memory_bytes.saturating_add(job.memory_bytes);
            match job.gpu_model.as_deref() {
                None => free.gpus_any_taken = free.gpus_any_taken.saturating_sub(job.gpus),
                Some(model) => *free.gpus.entry(model).or_insert(0) += job.gpus,
            }
        }
        free
    }

    /// From now on, nobody delays this job's start here.
    pub(super) fn promise(&mut self, job: &Waiting, at: Option<Time>) {
        let later = at.map(|at| {
            let mut later = self.free_by(at);
            later.take(job);
            (at, later)
        });
        self.guard = Some(Guard { job: job.job, later });
    }

    /// Whether room is kept here for a job.
    pub(super) fn keeps_for(&self, job: JobId) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.job == job)
    }

    /// The start that must not be delayed here, if its time is known.
    pub(super) fn kept_until(&self) -> Option<Time> {
        self.guard.as_ref()?.later.as_ref().map(|(at, _)| *at)
    }

    /// Why a job does not start here now, for people.
    pub(super) fn refusal(&self, job: &Waiting) -> String {
        let name = &self.room.name;
        if !self.room.alive {
            return self.room.silence();
        }
        if !self.is_known() {
            return format!("`{name}` has not said what it has yet");
        }
        let free = Amounts {
            cpus_milli: self.free.cpus_milli,
            memory_bytes: self.free.memory_bytes,
            gpus: self.free.gpus_for(job.gpu_model.as_deref()),
        };
        match (shortage(job, &free, &self.room.all_for(job)), &self.guard) {
            (Some(short), _) => format!("{short} at `{name}`"),
            (None, Some(guard)) if self.ahead == 0 => self.behind(job, guard),
            (None, _) => format!("{} for room at `{name}`", jobs_ahead(self.ahead)),
        }
    }

    /// It would fit, but for a promise; a shorter limit may help.
    fn behind(&self, job: &Waiting, guard: &Guard<'_>) -> String {
        let name = &self.room.name;
        let Some((at, _)) = &guard.later else { return format!("a job ahead of it was promised the room at `{name}`") };
        let seconds = (at.millis_since(self.now) - START_MS - END_MS).div_euclid(1000);
        let promised = format!("a job ahead of it was promised the room at `{name}` for {}", moment(*at));
        if seconds > 0 && job.limit_ms != ENDLESS_MS {
            format!("{promised}; a limit of {seconds} s or less would let it start now")
        } else {
            promised
        }
    }
}

/// What a job could use of a site; accelerators of the model it asks for only.
#[derive(Debug)]
pub(super) struct Amounts {
    pub(super) cpus_milli: u32,
    pub(super) memory_bytes: u64,
    pub(super) gpus: u32,
}

impl Room {
    /// How a site that does not answer is spoken of. What is bound to it stays bound: unreachable is not failed.
    pub fn silence(&self) -> String {
        match self.silent_since {
            Some(since) => {
                format!("site `{}` unreachable since {since}; what runs there is not started elsewhere", self.name)
            }
            None => format!("site `{}` has never dialled in", self.name),
        }
    }

    fn all_for(&self, job: &Waiting) -> Amounts {
        Amounts {
            cpus_milli: self.cpus_milli_total,
            memory_bytes: self.memory_bytes_total,
            gpus: usable(&counted(&self.gpus_total), job.gpu_model.as_deref()),
        }
    }

    /// What is missing for a job even when nothing else runs here.
    pub(super) fn shortage(&self, job: &Waiting) -> Option<String> {
        let all = self.all_for(job);
        shortage(job, &all, &all)
    }
}

fn counted(models: &[String]) -> BTreeMap<&str, u32> {
    let mut counts = BTreeMap::new();
    for model in models {
        *counts.entry(model.as_str()).or_insert(0) += 1;
    }
    counts
}

fn usable(counts: &BTreeMap<&str, u32>, model: Option<&str>) -> u32 {
    model.map_or_else(|| counts.values().sum(), |model| counts.get(model).copied().unwrap_or(0))
}
