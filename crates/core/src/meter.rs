//! Meters: what is counted, and the event that says so once.

#![deny(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::{
    id::{AllowanceId, OrganisationId, ProjectId, SiteId},
    money::{Nano, Overflow},
    price::{self, PriceBook, PriceRow},
    time::Time,
};

/// What is counted, each with one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// CPU cores held by a ready job, in core-milliseconds.
    ComputeCore,
    /// Accelerators held by a ready job, in accelerator-milliseconds.
    Accelerator,
    /// CPU cores held by a served model while it answers, in core-milliseconds. Apart from a job's, so that a price book
    /// can price it apart, at nothing too where only tokens are sold.
    ReplicaCore,
    /// CPU cores that a reservation keeps, used or not, in core-milliseconds.
    ReservedCore,
    /// Accelerators that a reservation keeps, used or not, in accelerator-milliseconds.
    ReservedAccelerator,
    /// CPU cores held by a ready job inside a reservation, in core-milliseconds. Paid with the reservation; shown, never
    /// priced.
    CoveredCore,
    /// Accelerators held by a ready job inside a reservation, in accelerator-milliseconds. Shown, never priced.
    CoveredAccelerator,
    /// Text read by a served model, in tokens.
    TokensIn,
    /// Text written by a served model, in tokens.
    TokensOut,
    /// Energy drawn, in millijoules. Measured or estimated; shown, never priced.
    Energy,
}

impl Meter {
    /// Every meter there is.
    pub const ALL: &'static [Self] = &[
        Self::ComputeCore,
        Self::Accelerator,
        Self::ReplicaCore,
        Self::ReservedCore,
        Self::ReservedAccelerator,
        Self::CoveredCore,
        Self::CoveredAccelerator,
        Self::TokensIn,
        Self::TokensOut,
        Self::Energy,
    ];

    /// Whether use of it can have a price. What cannot is shown and stands on no invoice.
    pub const fn is_priced(self) -> bool {
        !matches!(self, Self::CoveredCore | Self::CoveredAccelerator | Self::Energy)
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ComputeCore => "compute_core",
            Self::Accelerator => "accelerator",
            Self::ReplicaCore => "replica_core",
            Self::ReservedCore => "reserved_core",
            Self::ReservedAccelerator => "reserved_accelerator",
            Self::CoveredCore => "covered_core",
            Self::CoveredAccelerator => "covered_accelerator",
            Self::TokensIn => "tokens_in",
            Self::TokensOut => "tokens_out",
            Self::Energy => "energy",
        }
    }

    /// The unit one of its counts stands for.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::ComputeCore | Self::ReplicaCore | Self::ReservedCore | Self::CoveredCore => "core_ms",
            Self::Accelerator | Self::ReservedAccelerator | Self::CoveredAccelerator => "accelerator_ms",
            Self::TokensIn | Self::TokensOut => "token",
            Self::Energy => "mJ",
        }
    }
}

/// What was used, once. Its id is a digest of its facts, so sending it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEvent {
    /// Hex digest of the facts that make this event one of its kind; see [`UsageEvent::id_of`].
    pub id: String,
    /// Who pays.
    pub organisation: OrganisationId,
    /// In which project.
    pub project: ProjectId,
    /// Where.
    pub site: SiteId,
    /// What is counted.
    pub meter: Meter,
    /// What the price depends on: the SKU for compute, the priced model class for tokens, `-` where nothing does.
    pub item: String,
    /// How much, in the meter's unit.
    pub quantity: u64,
    /// The job or endpoint that used it, or the reservation that kept it.
    pub subject: String,
    /// When the use began.
    pub started_at: Time,
    /// When the use ended: the event belongs to the period this time is in.
    pub ended_at: Time,
    /// The allowance it was served against, for use that a site admitted by itself.
    pub allowance: Option<AllowanceId>,
    /// Whether the quantity is an estimate, and by which method. None: it was measured.
    pub estimated: Option<String>,
}

impl UsageEvent {
    /// The id of an event: SHA-256 over its source facts, joined by newlines, hex. `occasion` tells events of one
    /// subject and meter apart (attempt, run and interval of a job; request of a chat).
    pub fn id_of(site: SiteId, subject: &str, meter: Meter, occasion: &str) -> String {
        use sha2::{Digest, Sha256};
        hex::encode(Sha256::digest(format!("usage\n{site}\n{subject}\n{}\n{occasion}", meter.as_str())))
    }
}

/// The most one event may count, in its meter's unit: 277 megawatt-hours, or 31 000 years of a core. More is a broken
/// counter (an unsigned one that went below zero, mostly), and must not become an invoice.
pub const QUANTITY_MAX: u64 = 1_000_000_000_000_000;

/// How far a site's clock may be ahead of control's, in milliseconds.
pub const CLOCK_AHEAD_MS_MAX: i64 = 300_000;

/// The most bytes a subject or item may have.
pub const NAME_BYTES_MAX: usize = 200;

/// Why a usage event is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Its id is no digest.
    #[error("a usage event's id is 64 lower-case hex digits")]
    Id,
    /// Nothing, or too much, is named as the job or endpoint that used it.
    #[error("`{field}` of a usage event has 1 to {NAME_BYTES_MAX} bytes, without control characters")]
    Name {
        /// `subject` or `item`.
        field: &'static str,
    },
    /// It counts more than can be true.
    #[error("{quantity} {unit} is more than one usage event may count ({QUANTITY_MAX})")]
    Quantity {
        /// What it counts.
        quantity: u64,
        /// In which unit.
        unit: &'static str,
    },
    /// It ended before it began.
    #[error("the use ended at {ended_at}, before it began at {started_at}")]
    Backwards {
        /// When it began.
        started_at: Time,
        /// When it ended.
        ended_at: Time,
    },
    /// It has not happened yet.
    #[error("the use ended at {ended_at}, which is still to come: it is {now}; look at the site's clock")]
    Future {
        /// When it ended.
        ended_at: Time,
        /// When it was looked at.
        now: Time,
    },
}

/// Why usage has no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// No book held yet.
    #[error("no price book holds at {at}")]
    NoBook {
        /// When the use ended.
        at: Time,
    },
    /// The book says nothing of it.
    #[error("price book {book} has no price for `{item}` on `{meter}`")]
    NoPrice {
        /// Version of the book.
        book: u32,
        /// The meter.
        meter: &'static str,
        /// The item.
        item: String,
    },
    /// The amount cannot be counted.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

impl UsageEvent {
    /// Whether it can be true. Says nothing of who may send it.
    pub fn check(&self, now: Time) -> Result<(), UsageError> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if self.id.len() != 64 || !self.id.bytes().all(is_hex) {
            return Err(UsageError::Id);
        }
        for (field, text) in [("subject", &self.subject), ("item", &self.item)] {
            if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
                return Err(UsageError::Name { field });
            }
        }
        if self.quantity > QUANTITY_MAX {
            return Err(UsageError::Quantity { quantity: self.quantity, unit: self.meter.unit() });
        }
        if self.ended_at < self.started_at {
            return Err(UsageError::Backwards { started_at: self.started_at, ended_at: self.ended_at });
        }
        if self.ended_at > now.plus_millis(CLOCK_AHEAD_MS_MAX) {
            return Err(UsageError::Future { ended_at: self.ended_at, now });
        }
        Ok(())
    }
}

/// The book and the row that price an event, by the time it ended. None for what is never priced.
pub fn priced_by<'a>(
    event: &UsageEvent,
    books: &'a [PriceBook],
) -> Result<Option<(&'a PriceBook, &'a PriceRow)>, RateError> {
    if !event.meter.is_priced() {
        return Ok(None);
    }
    let book = price::at(books, event.ended_at).ok_or(RateError::NoBook { at: event.ended_at })?;
    let no_price = || RateError::NoPrice { book: book.version, meter: event.meter.as_str(), item: event.item.clone() };
    let row = book.row(event.meter, &event.item).ok_or_else(no_price)?;
    Ok(Some((book, row)))
}

/// What an event costs in the ledger: rounded down to the nano-euro, so that many small events never come to more than
/// their sum. What is never priced (energy, what a reservation has paid for) costs nothing.
pub fn rate(event: &UsageEvent, books: &[PriceBook]) -> Result<Nano, RateError> {
    match priced_by(event, books)? {
        Some((_, row)) => Ok(row.amount_floor(event.quantity)?),
        None => Ok(Nano::ZERO),
    }
}
