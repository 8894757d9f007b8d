//! Energy as whole numbers: millijoules counted, kilowatt-hours and grams of CO2 equivalent shown.

#![deny(clippy::float_arithmetic)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{money::div_half_up, site::GridFactor};

/// Thousandths of a joule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millijoules(u64);

impl Millijoules {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Millijoules in a kilowatt-hour.
    pub const PER_KWH: u64 = 3_600_000_000;

    /// From millijoules.
    pub const fn new(millijoules: u64) -> Self {
        Self(millijoules)
    }

    /// In millijoules.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// A steady draw of some milliwatts for some milliseconds, rounded half up. Saturates (five thousand million
    /// gigawatt-hours): energy is shown, never priced.
    pub fn from_watts_milli(milliwatts: u64, millis: u64) -> Self {
        // A milliwatt for a millisecond is a microjoule.
        Self(scaled(u128::from(milliwatts) * u128::from(millis), 1000))
    }

    /// The sum; saturates.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// In thousand-millionths of a kilowatt-hour (micro-watt-hours), rounded half up.
    pub fn kwh_nano(self) -> u128 {
        div_half_up(u128::from(self.0) * 1_000_000_000, u128::from(Self::PER_KWH)).unwrap_or_default()
    }
}

impl fmt::Display for Millijoules {
    /// Kilowatt-hours with six decimals (milliwatt-hours), or as many as the precision says, up to nine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(6).min(9);
        let one = 10u128.pow(u32::try_from(decimals).unwrap_or(9));
        let units = div_half_up(u128::from(self.0) * one, u128::from(Self::PER_KWH)).unwrap_or_default();
        if decimals == 0 {
            return write!(f, "{units} kWh");
        }
        write!(f, "{}.{:0decimals$} kWh", units / one, units % one)
    }
}

/// Millionths of a gram of CO2 equivalent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicrogramsCo2e(u64);

impl MicrogramsCo2e {
    /// In micrograms.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MicrogramsCo2e {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} g CO2e", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl GridFactor {
    /// What some energy from this grid emits (location-based), rounded half up; saturates.
    pub fn emitted_by(&self, energy: Millijoules) -> MicrogramsCo2e {
        // g/kWh x 10^6 ug/g / 3.6 x 10^9 mJ/kWh is a 3600th of a microgram for a gram and millijoule.
        MicrogramsCo2e(scaled(u128::from(energy.0) * u128::from(self.grams_co2e_per_kwh), 3600))
    }
}

/// A quotient rounded half up that stops at the largest 64 bit number.
fn scaled(numerator: u128, denominator: u128) -> u64 {
    div_half_up(numerator, denominator).map_or(0, |value| u64::try_from(value).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kilowatt_for_an_hour_is_a_kilowatt_hour() {
        let energy = Millijoules::from_watts_milli(1_000_000, 3_600_000);
        assert_eq!(energy.get(), Millijoules::PER_KWH);
        assert_eq!(energy.to_string(), "1.000000 kWh");
        assert_eq!(energy.kwh_nano(), 1_000_000_000);
    }

    #[test]
    fn kilowatt_hours_round_half_up_at_the_last_decimal_shown() {
        assert_eq!(Millijoules::new(1799).to_string(), "0.000000 kWh");
        assert_eq!(Millijoules::new(1800).to_string(), "0.000001 kWh");
        assert_eq!(format!("{:.3}", Millijoules::new(1_234_500 * 3600)), "1.235 kWh");
        assert_eq!(format!("{:.0}", Millijoules::new(Millijoules::PER_KWH * 7)), "7 kWh");
    }

    #[test]
    fn emissions_follow_the_grid_and_never_wrap() {
        let grid = GridFactor { grams_co2e_per_kwh: 56, year: 2024, source: "a test".into() };
        assert_eq!(grid.emitted_by(Millijoules::new(Millijoules::PER_KWH)).to_string(), "56.000000 g CO2e");
        assert_eq!(grid.emitted_by(Millijoules::new(64)).get(), 1);
        assert_eq!(grid.emitted_by(Millijoules::new(u64::MAX)).get(), (u128::from(u64::MAX) * 56 / 3600) as u64);
        let coal = GridFactor { grams_co2e_per_kwh: u32::MAX, ..grid };
        assert_eq!(coal.emitted_by(Millijoules::new(u64::MAX)).get(), u64::MAX);
    }
}
