//! Reservations: dated, atomic blocks of room at a site, and what they cost.
//!
//! Whoever reserves has so many instances of a SKU at one site from one time until another: all of them for all of that
//! time, or nothing at all. They are paid for that whole time, used or not. Room is cleaned before it begins (others' work
//! is gone by then) and after it ends (its own work is gone by its end); cleaning is not billed.
//!
//! What is free when is said by [`calendar`]; what a reservation may do next, and what it is billed, is said here.

#![deny(clippy::float_arithmetic)]

pub mod calendar;

use serde::{Deserialize, Serialize};

use crate::{
    id::{HoldId, OrganisationId, ProjectId, ReservationId, SiteId},
    meter::{self, Meter, RateError, UsageEvent},
    money::Nano,
    price::PriceBook,
    sku::Sku,
    time::Time,
};

/// How far ahead a reservation may begin, in days.
pub const AHEAD_DAYS_MAX: i64 = 90;
/// How long a reservation may be, in days.
pub const LENGTH_DAYS_MAX: i64 = 31;
/// How short a reservation may be, in milliseconds: five minutes.
pub const LENGTH_MS_MIN: i64 = 300_000;
/// The most instances of one reservation.
pub const COUNT_MAX: u32 = 256;
/// Cleaning time before and after, in milliseconds, where the operator sets none: five minutes.
pub const CLEAN_MS_DEFAULT: u32 = 300_000;
/// The longest cleaning time, in milliseconds: a day.
pub const CLEAN_MS_MAX: u32 = 86_400_000;
/// What one usage record of a reservation counts, in milliseconds: an hour, counted from its beginning.
pub const INTERVAL_MS: i64 = 3_600_000;
/// How late a reservation may be begun and still count from its beginning, in milliseconds: control looks every second, and
/// this is a moment's delay. What begins later could not be used before, and is not paid before.
pub const LATE_MS_MAX: i64 = 60_000;
/// How long before its end what runs in it is told to save its work and to stop, in milliseconds: it is gone by the end.
pub const LEAVE_MS: i64 = 120_000;
const DAY_MS: i64 = 86_400_000;

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationState {
    /// Room and money are set aside; it has not begun.
    Booked,
    /// Its room is its own, and is billed.
    Active,
    /// Its time is over.
    Ended,
    /// Called off before it began.
    Cancelled,
}

impl ReservationState {
    /// Whether it is over for good.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Ended | Self::Cancelled)
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A reservation's facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// The project it is billed to, whose jobs may run in it.
    pub project: ProjectId,
    /// Whether jobs of the organisation's other projects may run in it too.
    pub shared: bool,
    /// What people call it.
    pub name: String,
    /// Where.
    pub site: SiteId,
    /// Instances of which SKU.
    pub sku: String,
    /// How many.
    pub count: u32,
    /// From when on.
    pub from: Time,
    /// Until when.
    pub until: Time,
    /// Cleaning time before and after, in milliseconds, as it was when it was booked.
    pub clean_ms: u32,
    /// The money set aside: what all of it costs.
    pub hold: HoldId,
    /// Where it stands.
    pub state: ReservationState,
    /// Since when its room is its own: what is billed begins here. Later than `from` only where something was in the way.
    pub active_since: Option<Time>,
    /// Up to when it was billed.
    pub billed_until: Option<Time>,
    /// Why it stands there, for people.
    pub message: Option<String>,
    /// When it was booked.
    pub created_at: Time,
    /// When it was called off, wholly or what had not begun of it.
    pub cancelled_at: Option<Time>,
    /// When it was over.
    pub ended_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

/// A move a reservation may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReservationMove {
    /// Booked and due: something is still in the way.
    Wait {
        /// What, for people.
        why: String,
    },
    /// Booked and due: its room is its own.
    Begin {
        /// Since when.
        since: Time,
    },
    /// Active: it was billed up to here.
    Bill {
        /// Up to when.
        until: Time,
    },
    /// Booked: it is called off. Active: the hour that has begun is its last.
    Cancel {
        /// When.
        at: Time,
    },
    /// Its time is over, and all of it is billed; or it could never begin.
    End {
        /// When.
        at: Time,
    },
}

impl ReservationMove {
    /// Its name, for messages and audit entries.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Wait { .. } => "wait",
            Self::Begin { .. } => "begin",
            Self::Bill { .. } => "bill",
            Self::Cancel { .. } => "cancel",
            Self::End { .. } => "end",
        }
    }
}

/// A move that a reservation may not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a reservation that is {} does not `{by}` now", from.as_str())]
pub struct IllegalMove {
    /// Where it stands.
    pub from: ReservationState,
    /// The move's name.
    pub by: &'static str,
}

impl Reservation {
    /// When others' work has to be gone: its beginning, less the cleaning before it.
    pub const fn clear_at(&self) -> Time {
        self.from.plus_millis(-(self.clean_ms as i64))
    }

    /// When its room is others' again: its end, and the cleaning after it.
    pub const fn free_at(&self) -> Time {
        self.until.plus_millis(self.clean_ms as i64)
    }

    /// When what runs in it is told to save its work and to stop.
    pub const fn leave_by(&self) -> Time {
        self.until.plus_millis(-LEAVE_MS)
    }

    /// Whether a job of a project may run in it.
    pub fn is_for(&self, organisation: OrganisationId, project: ProjectId) -> bool {
        self.organisation == organisation && (self.shared || self.project == project)
    }

    /// Since when it counts as begun, if its room is found clear now: its beginning, unless something was in the way then or
    /// nobody was there to begin it.
    pub fn begins(&self, now: Time) -> Time {
        let in_time = self.message.is_none() && now.millis_since(self.from) <= LATE_MS_MAX;
        if in_time { self.from } else { now }
    }

    /// Up to when it is billed, if it is: a time that is not there is before all others.
    fn billed(&self) -> Option<Time> {
        self.billed_until.or(self.active_since)
    }

    /// The reservation after a move, one version on; or that it may not make it.
    pub fn apply(&self, step: ReservationMove) -> Result<Self, IllegalMove> {
        use ReservationState::{Active, Booked, Cancelled, Ended};
        let illegal = IllegalMove { from: self.state, by: step.name() };
        let mut after = Self { version: self.version + 1, ..self.clone() };
        match (self.state, step) {
            (Booked, ReservationMove::Wait { why }) => after.message = Some(why),
            (Booked, ReservationMove::Begin { since }) if since >= self.from && since < self.until => {
                after.state = Active;
                after.active_since = Some(since);
                after.message = None;
            }
            (Active, ReservationMove::Bill { until }) if Some(until) > self.billed() && until <= self.until => {
                after.billed_until = Some(until);
            }
            (Booked, ReservationMove::Cancel { at }) => {
                after.state = Cancelled;
                after.cancelled_at = Some(at);
                after.ended_at = Some(at);
                after.message = None;
            }
            (Active, ReservationMove::Cancel { at }) if self.cancelled_at.is_none() => {
                after.until = self.hour_end(at);
                after.cancelled_at = Some(at);
            }
            (Active, ReservationMove::End { at }) if self.billed() >= Some(self.until) => {
                after.state = Ended;
                after.ended_at = Some(at);
            }
            (Booked, ReservationMove::End { at }) if at >= self.until => {
                after.state = Ended;
                after.ended_at = Some(at);
            }
            _ => return Err(illegal),
        }
        Ok(after)
    }

    /// The end of the hour a time is in, counted from the beginning, no later than the reservation's end.
    fn hour_end(&self, at: Time) -> Time {
        let begun = at.millis_since(self.from).max(0) / INTERVAL_MS + 1;
        self.from.plus_millis(begun.saturating_mul(INTERVAL_MS)).min(self.until)
    }

    /// The hours that are over and not billed yet, in order: without a gap from the last one, whole but for the first of
    /// a late beginning and the last.
    pub fn due(&self, now: Time) -> Vec<(Time, Time)> {
        let mut due = Vec::new();
        let Some(mut start) = self.billed() else { return due };
        while start < self.until {
            let end = self.hour_end(start);
            if end > now {
                break;
            }
            due.push((start, end));
            start = end;
        }
        due
    }

    /// The usage records of one stretch of it. Their ids come from its facts alone, so that a stretch counts once however
    /// often it is told.
    pub fn records(&self, sku: &Sku, (start, end): (Time, Time)) -> Vec<UsageEvent> {
        let record = |(meter, quantity): (Meter, u64)| UsageEvent {
            // No site can take this id before: sites' ids have no such beginning.
            id: format!(
                "control-{}",
                UsageEvent::id_of(self.site, &self.id.to_string(), meter, &start.as_millis().to_string())
            ),
            organisation: self.organisation,
            project: self.project,
            site: self.site,
            meter,
            item: sku.name.clone(),
            quantity,
            subject: self.id.to_string(),
            started_at: start,
            ended_at: end,
            allowance: None,
            estimated: None,
        };
        quantities(sku, self.count, end.millis_since(start)).into_iter().map(record).collect()
    }
}

/// What so many instances come to in so many milliseconds, on each meter that counts them.
fn quantities(sku: &Sku, count: u32, millis: i64) -> Vec<(Meter, u64)> {
    let (count, millis) = (u128::from(count), u128::try_from(millis).unwrap_or(0));
    let fit = |quantity: u128| u64::try_from(quantity).unwrap_or(u64::MAX);
    let cores = fit(u128::from(sku.cpus_milli) * count * millis / 1000);
    let gpus = fit(u128::from(sku.gpus) * count * millis);
    [(Meter::ReservedCore, cores), (Meter::ReservedAccelerator, gpus)]
        .into_iter()
        .filter(|(_, quantity)| *quantity > 0)
        .collect()
}

/// What a reservation costs that begins when it should: the sum of what its records will be rated at, to the nano-euro, by
/// the price books that are known now.
pub fn cost(reservation: &Reservation, sku: &Sku, books: &[PriceBook]) -> Result<Nano, RateError> {
    let begun = Reservation { active_since: Some(reservation.from), billed_until: None, ..reservation.clone() };
    let mut sum = Nano::ZERO;
    for stretch in begun.due(begun.until) {
        for record in begun.records(sku, stretch) {
            sum = sum.add(meter::rate(&record, books)?)?;
        }
    }
    Ok(sum)
}
