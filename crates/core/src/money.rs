//! Money as whole numbers: nano-euro while it accrues, cents once it is asked for.

#![deny(clippy::float_arithmetic)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// Thousand-millionths of a euro. What holds, the ledger and rated usage count in; may be negative in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nano(i64);

/// Hundredths of a euro. What an invoice says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cents(i64);

/// An amount outside what 64 bits hold (about nine thousand million euro).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount of money is too large to count")]
pub struct Overflow;

#[expect(clippy::should_implement_trait, reason = "sums of money can fail, which `std::ops` cannot say")]
impl Nano {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Nano-euro in a cent.
    pub const PER_CENT: i64 = 10_000_000;

    /// From nano-euro.
    pub const fn new(nano: i64) -> Self {
        Self(nano)
    }

    /// From whole euro. Meant for constants; saturates.
    pub const fn from_euro(euro: i64) -> Self {
        Self(euro.saturating_mul(1_000_000_000))
    }

    /// In nano-euro.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, if it can be counted.
    pub fn add(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_add(other.0).map(Self).ok_or(Overflow)
    }

    /// The difference, if it can be counted.
    pub fn sub(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_sub(other.0).map(Self).ok_or(Overflow)
    }

    /// Whether it is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The same amount with the other sign.
    pub fn negated(self) -> Result<Self, Overflow> {
        self.0.checked_neg().map(Self).ok_or(Overflow)
    }
}

/// The quotient rounded to the nearest whole number, ties up. None where the divisor is 0.
///
/// Written with a remainder instead of `(2n + d) / 2d`, which would leave 128 bits for the largest amounts.
pub(crate) fn div_half_up(numerator: u128, denominator: u128) -> Option<u128> {
    let whole = numerator.checked_div(denominator)?;
    let rest = numerator % denominator;
    // `rest >= denominator - rest` is `2 * rest >= denominator` without the doubling.
    Some(whole + u128::from(rest >= denominator - rest))
}

#[expect(clippy::should_implement_trait, reason = "sums of money can fail, which `std::ops` cannot say")]
impl Cents {
    /// Rounds to the nearest cent. Half a cent goes away from zero, so that a credit note of an amount is exactly the
    /// invoice of that amount with the other sign.
    pub fn from_nano_half_up(nano: Nano) -> Self {
        let per = i128::from(Nano::PER_CENT);
        let value = i128::from(nano.get());
        let rounded = (value + value.signum() * (per / 2)) / per;
        // The quotient is ten million times smaller than what already fitted 64 bits.
        Self(i64::try_from(rounded).expect("a ten-millionth of a 64 bit number fits 64 bits"))
    }

    /// The same amount in nano-euro, if it can be counted.
    pub fn to_nano(self) -> Result<Nano, Overflow> {
        self.0.checked_mul(Nano::PER_CENT).map(Nano).ok_or(Overflow)
    }

    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From cents.
    pub const fn new(cents: i64) -> Self {
        Self(cents)
    }

    /// In cents.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, if it can be counted.
    pub fn add(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_add(other.0).map(Self).ok_or(Overflow)
    }
}

impl fmt::Display for Nano {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nano = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", cents / 100, cents % 100)
    }
}

impl fmt::Debug for Nano {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} EUR")
    }
}

impl fmt::Debug for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} EUR")
    }
}
