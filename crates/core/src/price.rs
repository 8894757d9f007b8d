//! Price books: what a counted thing costs, from when on.

#![deny(clippy::float_arithmetic)]

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    meter::{CLOCK_AHEAD_MS_MAX, Meter},
    money::{Cents, Nano, Overflow, div_half_up},
    time::Time,
};

/// The price of one thing on one meter: `nano` nano-euro for every `per` units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceRow {
    /// What is counted.
    pub meter: Meter,
    /// The SKU or model class it holds for; `*` holds where nothing nearer does.
    pub item: String,
    /// Nano-euro.
    pub nano: u64,
    /// Units the price is for; at least 1.
    pub per: u64,
    /// How an invoice words it.
    pub label: String,
}

/// A dated set of prices. A change is a new book; the old one keeps rating what was used before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceBook {
    /// Number of this version.
    pub version: u32,
    /// From when on it holds.
    pub from: Time,
    /// Its prices.
    pub rows: Vec<PriceRow>,
}

/// The item that holds where no nearer one does.
pub const ANY_ITEM: &str = "*";

/// The most rows a book may have.
pub const ROWS_MAX: usize = 10_000;

/// Why a price book cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Versions count from 1.
    #[error("price book versions count from 1")]
    Version,
    /// More rows than a book may have.
    #[error("a price book has at most {ROWS_MAX} rows, this one has {rows}")]
    TooMany {
        /// How many there are.
        rows: usize,
    },
    /// A row is incomplete or senseless.
    #[error("the price of `{item}` on `{meter}` is not usable: {why}")]
    Row {
        /// Which meter.
        meter: &'static str,
        /// Which item.
        item: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl PriceRow {
    /// What a quantity costs, exactly: nano-euro as numerator and denominator. 128 bits hold every such product.
    pub const fn exact(&self, quantity: u64) -> (u128, u64) {
        (quantity as u128 * self.nano as u128, self.per)
    }

    /// What a quantity costs, in whole nano-euro, rounded down.
    pub fn amount_floor(&self, quantity: u64) -> Result<Nano, Overflow> {
        let (numerator, denominator) = self.exact(quantity);
        nano_of(numerator.checked_div(u128::from(denominator)))
    }

    /// What a quantity costs, in whole nano-euro, rounded up: what a hold sets aside.
    pub fn amount_ceil(&self, quantity: u64) -> Result<Nano, Overflow> {
        let (numerator, denominator) = self.exact(quantity);
        if denominator == 0 {
            return Err(Overflow);
        }
        nano_of(Some(numerator.div_ceil(u128::from(denominator))))
    }

    /// What a quantity costs, in cents, rounded once, half up, from the exact amount.
    pub fn net(&self, quantity: u64) -> Result<Cents, Overflow> {
        let (numerator, denominator) = self.exact(quantity);
        let denominator = u128::from(denominator) * u128::from(Nano::PER_CENT.unsigned_abs());
        let cents = div_half_up(numerator, denominator).ok_or(Overflow)?;
        i64::try_from(cents).map(Cents::new).map_err(|_| Overflow)
    }

    fn check(&self) -> Result<(), PriceError> {
        let why = if !self.meter.is_priced() {
            "use of this meter is shown, never priced"
        } else if self.per == 0 {
            "`per` is at least 1"
        } else if self.item.is_empty() {
            "`item` is empty; `*` stands for every item"
        } else if self.label.trim().is_empty() {
            "`label` is empty"
        } else {
            return Ok(());
        };
        Err(PriceError::Row { meter: self.meter.as_str(), item: self.item.clone(), why })
    }
}

fn nano_of(nano: Option<u128>) -> Result<Nano, Overflow> {
    nano.and_then(|nano| i64::try_from(nano).ok()).map(Nano::new).ok_or(Overflow)
}

impl PriceBook {
    /// The price of an item on a meter: the exact item's, else that of `*`.
    pub fn row(&self, meter: Meter, item: &str) -> Option<&PriceRow> {
        let find = |wanted: &str| self.rows.iter().find(|row| row.meter == meter && row.item == wanted);
        find(item).or_else(|| find(ANY_ITEM))
    }

    /// Whether it can rate: sensible rows, each meter and item once, no price on energy.
    pub fn check(&self) -> Result<(), PriceError> {
        if self.version == 0 {
            return Err(PriceError::Version);
        }
        if self.rows.len() > ROWS_MAX {
            return Err(PriceError::TooMany { rows: self.rows.len() });
        }
        let mut seen = BTreeSet::new();
        for row in &self.rows {
            row.check()?;
            if !seen.insert((row.meter, row.item.as_str())) {
                let why = "it stands there twice";
                return Err(PriceError::Row { meter: row.meter.as_str(), item: row.item.clone(), why });
            }
        }
        Ok(())
    }
}

/// The book that holds at a time: the one that began last, the higher version if two began together.
pub fn at(books: &[PriceBook], time: Time) -> Option<&PriceBook> {
    books.iter().filter(|book| book.from <= time).max_by_key(|book| (book.from, book.version))
}

/// How long before it holds a new book has to be known, in milliseconds: a moment longer than a site's clock may be ahead.
/// So whatever was rated before a book was written ended before that book begins, and an invoice made later, which rates
/// everything again by when it ended, comes to what the ledger was charged.
pub const LEAD_MS: i64 = CLOCK_AHEAD_MS_MAX + 1;

/// The soonest a book that is written now may hold; never before the newest there is, whose prices it goes on from.
pub fn soonest(books: &[PriceBook], now: Time) -> Time {
    let newest = books.iter().map(|book| book.from).max();
    let soonest = now.plus_millis(LEAD_MS);
    newest.map_or(soonest, |newest| newest.max(soonest))
}

/// The books that are known to hold later, soonest first.
pub fn ahead(books: &[PriceBook], now: Time) -> impl Iterator<Item = &PriceBook> {
    let mut ahead: Vec<&PriceBook> = books.iter().filter(|book| book.from > now).collect();
    ahead.sort_unstable_by_key(|book| (book.from, book.version));
    ahead.into_iter()
}

/// The dearest of the books that hold now or are known to hold later, and what it comes to there: what a hold has to cover
/// for use that begins now or later. What is used at a rate that follows the time never costs more than at the dearest
/// book's rate throughout. None if no book holds now.
pub fn dearest<E>(
    books: &[PriceBook],
    now: Time,
    cost: impl Fn(&PriceBook) -> Result<Nano, E>,
) -> Result<Option<(&PriceBook, Nano)>, E> {
    let Some(holds) = at(books, now) else { return Ok(None) };
    let mut dearest = (holds, cost(holds)?);
    for book in ahead(books, now) {
        let amount = cost(book)?;
        if amount > dearest.1 {
            dearest = (book, amount);
        }
    }
    Ok(Some(dearest))
}

/// A thousand times the prices a cloud starts with, so that one minute of use shows on an invoice in whole cents. Every
/// label says so.
pub fn demonstration_book(from: Time) -> PriceBook {
    let mut book = default_book(from);
    for row in &mut book.rows {
        row.nano = row.nano.saturating_mul(1_000);
        row.label.push_str(" (demonstration price, 1000 x)");
    }
    book
}

/// How an invoice words the time a served model stands.
const REPLICA_CORE_LABEL: &str = "Served model, CPU core, per hour it answers";

/// A book that prices the time served models stand, made from one of before it was counted: the same prices from the same
/// time on, one version later, and that time at nothing. An upgrade raises nobody's bill. None if the book prices it.
pub fn with_replicas(book: &PriceBook) -> Option<PriceBook> {
    if book.rows.iter().any(|row| row.meter == Meter::ReplicaCore) {
        return None;
    }
    let label = format!("{REPLICA_CORE_LABEL} (not charged)");
    let free = PriceRow { meter: Meter::ReplicaCore, item: ANY_ITEM.into(), nano: 0, per: 1, label };
    let rows = book.rows.iter().cloned().chain([free]).collect();
    Some(PriceBook { version: book.version.saturating_add(1), from: book.from, rows })
}

/// How an invoice words what is reserved.
const RESERVED_CORE_LABEL: &str = "Reserved CPU core, per hour";
/// How an invoice words accelerators that are reserved.
const RESERVED_ACCELERATOR_LABEL: &str = "Reserved accelerator, per hour";

/// A book that prices reservations, made from one of before there were any: the same prices from the same time on, one
/// version later, and room that is reserved at the price of room that a job uses. That raises nobody's bill (nobody had a
/// reservation), and a price of nothing would let work be paid with nothing by reserving first. None if the book prices it,
/// or prices no job.
pub fn with_reservations(book: &PriceBook) -> Option<PriceBook> {
    let reserved = |row: &PriceRow| match row.meter {
        Meter::ComputeCore => Some(PriceRow {
            meter: Meter::ReservedCore,
            label: format!("{RESERVED_CORE_LABEL}, as a job's"),
            ..row.clone()
        }),
        Meter::Accelerator => Some(PriceRow {
            meter: Meter::ReservedAccelerator,
            label: format!("{RESERVED_ACCELERATOR_LABEL}, as a job's"),
            ..row.clone()
        }),
        _ => None,
    };
    let is_there = |row: &PriceRow| matches!(row.meter, Meter::ReservedCore | Meter::ReservedAccelerator);
    let more: Vec<PriceRow> = book.rows.iter().filter_map(reserved).collect();
    // A book at its limit of rows stays as it is: nothing can be reserved until the operator writes a smaller one.
    if book.rows.iter().any(is_there) || more.is_empty() || book.rows.len() + more.len() > ROWS_MAX {
        return None;
    }
    let rows = book.rows.iter().cloned().chain(more).collect();
    Some(PriceBook { version: book.version.saturating_add(1), from: book.from, rows })
}

/// The prices a cloud starts with, in euro: 0.04 a core-hour of a job and 0.02 of a served model, 2.40 an
/// accelerator-hour (what is reserved costs the same), 0.20 a million tokens read and 0.60 a million tokens written.
pub fn default_book(from: Time) -> PriceBook {
    const HOUR_MS: u64 = 3_600_000;
    const MILLION: u64 = 1_000_000;
    const EURO_CENT: u64 = Nano::PER_CENT.unsigned_abs();
    let row = |meter, cents: u64, per, label: &str| PriceRow {
        meter,
        item: ANY_ITEM.into(),
        nano: cents * EURO_CENT,
        per,
        label: label.into(),
    };
    let rows = vec![
        row(Meter::ComputeCore, 4, HOUR_MS, "CPU core, per hour"),
        row(Meter::Accelerator, 240, HOUR_MS, "Accelerator, per hour"),
        row(Meter::ReplicaCore, 2, HOUR_MS, REPLICA_CORE_LABEL),
        row(Meter::ReservedCore, 4, HOUR_MS, RESERVED_CORE_LABEL),
        row(Meter::ReservedAccelerator, 240, HOUR_MS, RESERVED_ACCELERATOR_LABEL),
        row(Meter::TokensIn, 20, MILLION, "Tokens read, per million"),
        row(Meter::TokensOut, 60, MILLION, "Tokens written, per million"),
    ];
    PriceBook { version: 1, from, rows }
}
