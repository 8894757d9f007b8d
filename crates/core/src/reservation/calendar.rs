//! The capacity calendar of a site: what is free when, and whether a block fits.
//!
//! A step function: from what the site has, everything is taken off that is known to be there: running jobs until their
//! limits, promised starts until theirs, reservations with the cleaning after them, and, for good, what has no known end.
//! Whoever made the facts counts the cleaning in: each thing takes its room until the room could be handed on.
//!
//! A site is one machine today, so a block is on one machine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{AHEAD_DAYS_MAX, COUNT_MAX, DAY_MS, LENGTH_DAYS_MAX, LENGTH_MS_MIN};
use crate::{
    id::ReservationId,
    schedule::words::{bytes, cores},
    sku::Sku,
    time::Time,
};

/// The most steps of a calendar that is shown.
pub const STEPS_MAX: usize = 2_000;

/// What something takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Thousandths of CPU cores.
    pub cpus_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Accelerators.
    pub gpus: u32,
    /// Their model; none where any will do.
    pub gpu_model: Option<String>,
}

impl Need {
    /// What so many instances of a SKU take.
    pub fn of(sku: &Sku, count: u32) -> Self {
        Self {
            cpus_milli: u64::from(sku.cpus_milli) * u64::from(count),
            memory_bytes: sku.memory_bytes.saturating_mul(u64::from(count)),
            gpus: sku.gpus.saturating_mul(count),
            gpu_model: sku.gpu_model.clone(),
        }
    }

    fn shortage(&self, free: &Free, all: &Free) -> Option<String> {
        let mut short = Vec::new();
        if self.cpus_milli > free.cpus_milli {
            let (lack, asked) = (cores(self.cpus_milli - free.cpus_milli), cores(self.cpus_milli));
            let (free, all) = (cores(free.cpus_milli), cores(all.cpus_milli));
            short.push(format!("{lack} of {asked} cores short ({free} of {all} free)"));
        }
        if self.memory_bytes > free.memory_bytes {
            let (lack, asked) = (bytes(self.memory_bytes - free.memory_bytes), bytes(self.memory_bytes));
            let (free, all) = (bytes(free.memory_bytes), bytes(all.memory_bytes));
            short.push(format!("{lack} of {asked} memory short ({free} of {all} free)"));
        }
        let model = self.gpu_model.as_deref();
        let (free, all) = (free.gpus_of(model), all.gpus_of(model));
        if self.gpus > free {
            let kind = model.map_or_else(|| "accelerators".into(), |model| format!("`{model}` accelerators"));
            short.push(format!("{} of {} {kind} short ({free} of {all} free)", self.gpus - free, self.gpus));
        }
        if short.is_empty() { None } else { Some(short.join(", ")) }
    }
}

/// What is taken of a site, from when until when. Without an end: nobody knows when it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What.
    pub need: Need,
    /// From when on.
    pub from: Time,
    /// Until when its room could be handed on.
    pub until: Option<Time>,
    /// The reservation it is, if it is one.
    pub reservation: Option<ReservationId>,
    /// Whether it is there already, and not only kept room for.
    pub stands: bool,
}

/// What is free of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Free {
    /// Thousandths of CPU cores.
    pub cpus_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Accelerators by model.
    pub gpus: BTreeMap<String, u32>,
    /// How many of these have gone to whoever took any: which model they got is the site's choice, so every model counts
    /// them as gone.
    pub gpus_any_taken: u32,
}

impl Free {
    /// Accelerators of a model, or of any, that are surely free.
    pub fn gpus_of(&self, model: Option<&str>) -> u32 {
        let of_model = self.gpus.iter().filter(|(name, _)| model.is_none_or(|model| model == name.as_str()));
        of_model.map(|(_, free)| *free).fold(0, u32::saturating_add).saturating_sub(self.gpus_any_taken)
    }

    /// How many instances of a SKU fit.
    pub fn fits(&self, sku: &Sku) -> u32 {
        let by = |have: u64, need: u64| have.checked_div(need).unwrap_or(u64::MAX);
        let cpus = by(self.cpus_milli, u64::from(sku.cpus_milli));
        let memory = by(self.memory_bytes, sku.memory_bytes);
        let gpus = by(u64::from(self.gpus_of(sku.gpu_model.as_deref())), u64::from(sku.gpus));
        u32::try_from(cpus.min(memory).min(gpus)).unwrap_or(u32::MAX)
    }
}

/// A stretch of time in which the same is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its beginning.
    pub from: Time,
    /// Its end.
    pub until: Time,
    /// What is free all that time.
    pub free: Free,
}

/// What is known of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What it has that is fit for work.
    pub all: Free,
    /// What is taken of it, in any order.
    pub taken: Vec<Taken>,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Instances of which SKU.
    pub sku: &'a Sku,
    /// How many.
    pub count: u32,
    /// From when on.
    pub from: Time,
    /// Until when.
    pub until: Time,
    /// Cleaning time after it, in milliseconds.
    pub clean_ms: u32,
}

/// Why nothing was booked. An answer, not a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It asks for something no reservation can be.
    #[error("{0}")]
    Senseless(String),
    /// The site does not have that much, with nothing else there.
    #[error("{short}, with nothing else there")]
    Never {
        /// What is missing.
        short: String,
    },
    /// Something is taken at some time within it.
    #[error("{short} from {at} on")]
    Short {
        /// What is missing then.
        short: String,
        /// From when on, within what was asked for.
        at: Time,
        /// The next beginning at which all of it would fit, for as long.
        next: Option<Time>,
    },
}

/// What is free between two times, as steps without gaps. Neighbours differ. At most [`STEPS_MAX`] come back.
pub fn calendar(facts: &Facts, from: Time, until: Time) -> Vec<Step> {
    let mut steps = steps(facts, from, until);
    steps.truncate(STEPS_MAX);
    steps
}

/// Whether a reservation fits: all of it for all of its time and the cleaning after it, or not at all. The cleaning before
/// it is part of what is taken until then.
pub fn book(facts: &Facts, wanted: Wanted<'_>, now: Time) -> Result<(), Refused> {
    sensible(&wanted, now)?;
    let need = Need::of(wanted.sku, wanted.count);
    if let Some(short) = need.shortage(&facts.all, &facts.all) {
        return Err(Refused::Never { short });
    }
    let length = wanted.until.millis_since(wanted.from).saturating_add(i64::from(wanted.clean_ms));
    let latest = now.plus_millis(AHEAD_DAYS_MAX * DAY_MS);
    let steps = steps(facts, wanted.from, latest.max(wanted.from).plus_millis(length));
    let short = |step: &Step| need.shortage(&step.free, &facts.all);
    let until = wanted.from.plus_millis(length);
    let within = steps.iter().take_while(|step| step.from < until);
    let Some((at, short_by)) = within.into_iter().find_map(|step| Some((step.from, short(step)?))) else {
        return Ok(());
    };
    // The earliest beginning after which nothing is short for as long: only the beginnings of steps can be.
    let mut next: Option<Time> = None;
    for step in &steps {
        if let Some(begin) = next
            && step.from.millis_since(begin) >= length
        {
            break;
        }
        next = if short(step).is_some() { None } else { next.or(Some(step.from)) };
    }
    let end = steps.last().map_or(wanted.from, |step| step.until);
    let next = next.filter(|begin| *begin <= latest && end.millis_since(*begin) >= length);
    Err(Refused::Short { short: short_by, at, next })
}

fn sensible(wanted: &Wanted<'_>, now: Time) -> Result<(), Refused> {
    let length = wanted.until.millis_since(wanted.from);
    let senseless = |why: String| Err(Refused::Senseless(why));
    if wanted.count == 0 || wanted.count > COUNT_MAX {
        return senseless(format!("`count` is not from 1 to {COUNT_MAX}"));
    }
    if wanted.from < now {
        return senseless(format!("`from` is in the past: it is {now}"));
    }
    if wanted.from > now.plus_millis(AHEAD_DAYS_MAX * DAY_MS) {
        return senseless(format!("`from` is more than {AHEAD_DAYS_MAX} days ahead"));
    }
    if length < LENGTH_MS_MIN {
        return senseless(format!("`until` is less than {} minutes after `from`", LENGTH_MS_MIN / 60_000));
    }
    if length > LENGTH_DAYS_MAX * DAY_MS {
        return senseless(format!("`until` is more than {LENGTH_DAYS_MAX} days after `from`"));
    }
    Ok(())
}

/// What is used, as it grows and shrinks.
#[derive(Default)]
struct Used {
    cpus_milli: u64,
    memory_bytes: u64,
    gpus: BTreeMap<Option<String>, u32>,
}

impl Used {
    fn change(&mut self, need: &Need, comes: bool) {
        let change = |sum: u64, by: u64| if comes { sum.saturating_add(by) } else { sum.saturating_sub(by) };
        self.cpus_milli = change(self.cpus_milli, need.cpus_milli);
        self.memory_bytes = change(self.memory_bytes, need.memory_bytes);
        let gpus = self.gpus.entry(need.gpu_model.clone()).or_default();
        *gpus = u32::try_from(change(u64::from(*gpus), u64::from(need.gpus))).unwrap_or(u32::MAX);
    }

    fn left(&self, all: &Free) -> Free {
        let of = |model: &String| self.gpus.get(&Some(model.clone())).copied().unwrap_or(0);
        Free {
            cpus_milli: all.cpus_milli.saturating_sub(self.cpus_milli),
            memory_bytes: all.memory_bytes.saturating_sub(self.memory_bytes),
            gpus: all.gpus.iter().map(|(model, have)| (model.clone(), have.saturating_sub(of(model)))).collect(),
            gpus_any_taken: self.gpus.get(&None).copied().unwrap_or(0),
        }
    }
}

/// The step function between two times.
fn steps(facts: &Facts, from: Time, until: Time) -> Vec<Step> {
    let mut changes: BTreeMap<Time, Vec<(&Need, bool)>> = BTreeMap::new();
    let mut times: BTreeSet<Time> = [from].into();
    for taken in &facts.taken {
        // What came before has come by now, and what ends in the past was never there.
        let (start, end) = (taken.from.max(from), taken.until);
        if start >= until || end.is_some_and(|end| end <= start) {
            continue;
        }
        changes.entry(start).or_default().push((&taken.need, true));
        times.insert(start);
        if let Some(end) = end.filter(|end| *end < until) {
            changes.entry(end).or_default().push((&taken.need, false));
            times.insert(end);
        }
    }
    let mut used = Used::default();
    let mut steps: Vec<Step> = Vec::new();
    for at in times.into_iter().filter(|at| *at < until) {
        for (need, comes) in changes.remove(&at).unwrap_or_default() {
            used.change(need, comes);
        }
        let free = used.left(&facts.all);
        match steps.last_mut() {
            Some(last) if last.free == free => {}
            Some(last) => {
                last.until = at;
                steps.push(Step { from: at, until, free });
            }
            None => steps.push(Step { from: at, until, free }),
        }
    }
    steps
}
