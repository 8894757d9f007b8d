//! Replicas: the process that serves an endpoint's model. What room it takes, and how long it may stand on what is held.
//!
//! A replica has no end of its own, so no worst case of the whole can be held. Time is held ahead instead, in windows of an
//! hour: the first before it may start, more as it is charged. Its site counts the time it answered and stops it before
//! that passes what was held, whether it can reach control or not; so what is billed never passes what is held, and the
//! bound for a site that is cut off is [`AHEAD_WINDOWS_MAX`] windows of answering.

#![deny(clippy::float_arithmetic)]

use crate::{
    hold::{self, Hold, HoldError, HoldRefusal},
    ledger::{Balances, Leg},
    meter::{Meter, RateError},
    money::Nano,
    price::PriceBook,
    sku::Sku,
};

/// Time that is held at once, in milliseconds: an hour.
pub const WINDOW_MS: u64 = 3_600_000;
/// The most windows that are held ahead: a day, as long as an allowance of credit for tokens lives. A replica at a site that
/// is cut off stands for so long at most.
pub const AHEAD_WINDOWS_MAX: u64 = 24;
/// More than one window is held ahead only up to one part in so many of what is available: a replica that stands must not
/// take the credit for what else its organisation wants to run.
const AVAILABLE_PARTS: u64 = 4;
/// What is left of the held time, in milliseconds, when a replica whose next window cannot be held is drained: time to hear
/// of it and to finish what was begun.
pub const DRAIN_LEFT_MS: u64 = 300_000;
/// Memory beside the weights that serving takes, in bytes: the program and what it remembers of the text.
const MEMORY_BESIDE_BYTES: u64 = 512 << 20;

/// Memory that serving weights of so many bytes takes, in bytes: the weights, a quarter more, and half a gibibyte.
pub const fn memory_needed(weights_bytes: u64) -> u64 {
    weights_bytes.saturating_add(weights_bytes / 4).saturating_add(MEMORY_BESIDE_BYTES)
}

/// Whether a SKU can serve weights of so many bytes: in its memory, on its cores. The embedded engine serves on cores only.
pub const fn can_serve(sku: &Sku, weights_bytes: u64) -> bool {
    sku.gpus == 0 && sku.gpu_milli == 0 && sku.memory_bytes >= memory_needed(weights_bytes)
}

/// The SKU taken where none is asked for: the smallest that can serve the weights; of two alike, the first by name.
pub fn smallest<'a>(skus: impl IntoIterator<Item = &'a Sku>, weights_bytes: u64) -> Option<&'a Sku> {
    let fits = skus.into_iter().filter(|sku| can_serve(sku, weights_bytes));
    fits.min_by_key(|sku| (sku.cpus_milli, sku.memory_bytes, sku.name.as_str()))
}

/// Core-milliseconds that a SKU stands for in so many milliseconds, rounded down.
pub fn core_ms(sku: &Sku, millis: u64) -> u64 {
    u64::try_from(u128::from(sku.cpus_milli) * u128::from(millis) / 1000).unwrap_or(u64::MAX)
}

/// What standing ready for so long may cost, rounded up.
pub fn cost(book: &PriceBook, sku: &Sku, millis: u64) -> Result<Nano, RateError> {
    let meter = Meter::ReplicaCore;
    let no_price = || RateError::NoPrice { book: book.version, meter: meter.as_str(), item: sku.name.clone() };
    let row = book.row(meter, &sku.name).ok_or_else(no_price)?;
    Ok(row.amount_ceil(core_ms(sku, millis))?)
}

/// What is to be done about the time held ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// Enough is held.
    Enough,
    /// More was set aside: the hold after it, the legs to post, and how long it may stand in all.
    Extended {
        /// The hold, grown.
        hold: Hold,
        /// From what is available to what is held; empty where nothing moves.
        legs: Vec<Leg>,
        /// Milliseconds since it was placed.
        held_ms: u64,
    },
    /// The next window cannot be held now; there is time left, and credit may come.
    Short(HoldRefusal),
    /// The next window cannot be held and what is left is for ending: it has to drain.
    Drain(HoldRefusal),
}

/// How long a replica may stand, and what that rests on.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// How long it may stand ready on what was held so far, in milliseconds since it was placed.
    pub held_ms: u64,
    /// How much of that was billed.
    pub billed_ms: u64,
    /// The hold, after that was charged.
    pub hold: &'a Hold,
}

/// Decides whether to hold more time. Half of what should be held is used before more is, so that few windows make few
/// entries. What is set aside makes the hold cover all the time that is not billed yet, also where prices have changed.
pub fn renew(standing: Standing<'_>, balances: &Balances, book: &PriceBook, sku: &Sku) -> Result<Renewal, RenewError> {
    let Standing { held_ms, billed_ms, hold } = standing;
    let left_ms = held_ms.saturating_sub(billed_ms);
    let ahead_ms = windows(cost(book, sku, WINDOW_MS)?, balances.available) * WINDOW_MS;
    if left_ms > ahead_ms / 2 {
        return Ok(Renewal::Enough);
    }
    let needed = cost(book, sku, ahead_ms)?;
    let by = Nano::new(needed.get().saturating_sub(hold.remaining().get()).max(0));
    match hold::extend(hold, balances, by) {
        Ok((hold, legs)) => Ok(Renewal::Extended { hold, legs, held_ms: billed_ms.saturating_add(ahead_ms) }),
        Err(HoldError::Refused(refusal)) if left_ms > DRAIN_LEFT_MS => Ok(Renewal::Short(refusal)),
        Err(HoldError::Refused(refusal)) => Ok(Renewal::Drain(refusal)),
        Err(error) => Err(error.into()),
    }
}

/// How many windows to hold ahead: one at least.
fn windows(window: Nano, available: Nano) -> u64 {
    let spare = u64::try_from(available.get()).unwrap_or(0) / AVAILABLE_PARTS;
    let window = u64::try_from(window.get()).unwrap_or(0);
    spare.checked_div(window).map_or(AHEAD_WINDOWS_MAX, |windows| windows.clamp(1, AHEAD_WINDOWS_MAX))
}

/// Why no decision could be made.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The time has no price.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// The hold cannot grow.
    #[error(transparent)]
    Hold(#[from] HoldError),
}
