//! Reservations and the capacity calendar on the wire.

use gregal_core::{
    id::{OrganisationId, ProjectId, ReservationId, SiteId},
    reservation::{Reservation, ReservationState, calendar::Step},
    sku::Sku,
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Reserves room at a site for a time: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReservationCreate {
    /// What people call it: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter; free among the project's that are not over.
    pub name: String,
    /// The site, by id or name.
    pub site: String,
    /// Instances of which SKU.
    #[schema(example = "cpu.1")]
    pub sku: String,
    /// How many, 1 to 256; all on one machine.
    pub count: u32,
    /// From when on, at most 90 days ahead; absent: from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<Time>,
    /// Until when: five minutes to 31 days after it begins.
    #[schema(value_type = String, example = "2026-11-22T14:00:00Z")]
    pub until: Time,
    /// Whether jobs of the organisation's other projects may run in it too; it is billed to this project in any case.
    #[serde(default)]
    pub shared: bool,
}

/// What a reservation would cost, and whether it fits now. Nothing is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservationQuote {
    /// Whether it would be booked, as far as room goes.
    pub fits: bool,
    /// What all of it costs, in nano-euro, net.
    pub cost_nano: i64,
    /// What could be spent on it now, in nano-euro.
    pub available_nano: i64,
    /// Where it does not fit: what is short, and from when on.
    pub why: Option<String>,
    /// Where it does not fit: the next beginning at which all of it would, for as long.
    #[schema(value_type = Option<String>)]
    pub next_from: Option<Time>,
    /// From when on.
    #[schema(value_type = String)]
    pub from: Time,
    /// Until when.
    #[schema(value_type = String)]
    pub until: Time,
    /// Cleaning time before and after it, in milliseconds; not billed.
    pub clean_ms: u32,
}

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservationView {
    /// Its id: what jobs name to run in it.
    #[schema(value_type = String)]
    pub id: ReservationId,
    /// Who pays.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// The project it is billed to.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// Whether jobs of the organisation's other projects may run in it too.
    pub shared: bool,
    /// What people call it.
    pub name: String,
    /// Where.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Instances of which SKU.
    pub sku: String,
    /// How many.
    pub count: u32,
    /// From when on.
    #[schema(value_type = String)]
    pub from: Time,
    /// Until when; earlier than booked once it was called off midway.
    #[schema(value_type = String)]
    pub until: Time,
    /// Cleaning time before and after, in milliseconds; not billed.
    pub clean_ms: u32,
    /// Where it stands: `booked`, `active`, `ended` or `cancelled`.
    #[schema(value_type = String)]
    pub state: ReservationState,
    /// Why it stands there.
    pub message: Option<String>,
    /// Since when its room is its own.
    #[schema(value_type = Option<String>)]
    pub active_since: Option<Time>,
    /// Up to when it was billed.
    #[schema(value_type = Option<String>)]
    pub billed_until: Option<Time>,
    /// What is or was held for it, in nano-euro.
    pub held_nano: i64,
    /// What of that was charged, in nano-euro.
    pub charged_nano: i64,
    /// When it was booked.
    #[schema(value_type = String)]
    pub created_at: Time,
    /// When it was called off.
    #[schema(value_type = Option<String>)]
    pub cancelled_at: Option<Time>,
    /// When it was over.
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Time>,
}

impl ReservationView {
    /// The reservation, with what is held and was charged for it, in nano-euro.
    pub fn of(reservation: &Reservation, held_nano: i64, charged_nano: i64) -> Self {
        let Reservation { id, organisation, project, shared, site, count, from, until, clean_ms, state, .. } =
            *reservation;
        Self {
            id,
            organisation,
            project,
            shared,
            name: reservation.name.clone(),
            site,
            sku: reservation.sku.clone(),
            count,
            from,
            until,
            clean_ms,
            state,
            message: reservation.message.clone(),
            active_since: reservation.active_since,
            billed_until: reservation.billed_until,
            held_nano,
            charged_nano,
            created_at: reservation.created_at,
            cancelled_at: reservation.cancelled_at,
            ended_at: reservation.ended_at,
        }
    }
}

/// Which stretch of the calendar is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalendarQuery {
    /// From when on; absent: from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// Until when, at most 90 days later; absent: a week later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// What is free at a site, and when. Whose it is that takes the rest is not said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CalendarView {
    /// The site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// Whether it answers now. What is free of one that does not can be reserved, and used once it is back.
    pub alive: bool,
    /// From when on.
    #[schema(value_type = String)]
    pub from: Time,
    /// Until when.
    #[schema(value_type = String)]
    pub until: Time,
    /// Cleaning time before and after a reservation, in milliseconds.
    pub clean_ms: u32,
    /// All it has that is fit for work.
    pub all: CalendarFree,
    /// Stretches without gaps, each with what is free all that time.
    pub steps: Vec<CalendarStep>,
}

/// A stretch of the calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CalendarStep {
    /// Its beginning.
    #[schema(value_type = String)]
    pub from: Time,
    /// Its end.
    #[schema(value_type = String)]
    pub until: Time,
    /// What is free.
    #[serde(flatten)]
    pub free: CalendarFree,
}

/// What is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CalendarFree {
    /// Thousandths of CPU cores.
    pub cpus_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Accelerators of all models.
    pub accelerators: u32,
    /// How many instances of each SKU fit, one kind at a time; those of which none fit are left out.
    pub fits: Vec<CalendarFits>,
}

/// How many instances of a SKU fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CalendarFits {
    /// The SKU.
    pub sku: String,
    /// How many.
    pub count: u32,
}

impl CalendarFree {
    /// What is free, by the SKUs there are.
    pub fn of(free: &gregal_core::reservation::calendar::Free, skus: &[Sku]) -> Self {
        let fits = skus.iter().map(|sku| CalendarFits { sku: sku.name.clone(), count: free.fits(sku) });
        Self {
            cpus_milli: free.cpus_milli,
            memory_bytes: free.memory_bytes,
            accelerators: free.gpus_of(None),
            fits: fits.filter(|fits| fits.count > 0).collect(),
        }
    }
}

impl CalendarStep {
    /// A step, by the SKUs there are.
    pub fn of(step: &Step, skus: &[Sku]) -> Self {
        Self { from: step.from, until: step.until, free: CalendarFree::of(&step.free, skus) }
    }
}
