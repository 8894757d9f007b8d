//! Calendar months, UTC: what is billed at a time.

use std::{fmt, str::FromStr};

use crate::time::Time;

const DAY_MS: i64 = 86_400_000;

/// A calendar month, half-open: `from` is in, `until` is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    /// Its first instant.
    pub from: Time,
    /// The first instant after it.
    pub until: Time,
}

/// A text that is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a month, one looks like `2026-11`")]
pub struct MonthError(String);

impl Month {
    /// The month a time is in.
    pub const fn of(time: Time) -> Self {
        let (year, month) = civil(time.as_millis().div_euclid(DAY_MS));
        Self::at(year, month)
    }

    /// The month before it.
    #[must_use]
    pub const fn before(self) -> Self {
        Self::of(self.from.plus_millis(-1))
    }

    const fn at(year: i64, month: i64) -> Self {
        let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        Self { from: start(year, month), until: start(next_year, next_month) }
    }
}

const fn start(year: i64, month: i64) -> Time {
    Time::from_millis(days_before(year, month).saturating_mul(DAY_MS))
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month) = civil(self.from.as_millis().div_euclid(DAY_MS));
        write!(f, "{year:04}-{month:02}")
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let wrong = || MonthError(text.chars().take(16).collect());
        let (year, month) = text.split_once('-').ok_or_else(wrong)?;
        let digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return Err(wrong());
        }
        let (year, month): (i64, i64) = (year.parse().map_err(|_| wrong())?, month.parse().map_err(|_| wrong())?);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return Err(wrong());
        }
        Ok(Self::at(year, month))
    }
}

/// The day (UTC) a time is in, as `2026-11-22`.
pub fn date(time: Time) -> String {
    let days = time.as_millis().div_euclid(DAY_MS);
    let (year, month) = civil(days);
    let day = days - days_before(year, month) + 1;
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year and month of a day, counted in days since 1970-01-01, in the proleptic Gregorian calendar. March is counted
/// first, so that the leap day is the last of its year (Howard Hinnant, "chrono-compatible low-level date algorithms").
const fn civil(days: i64) -> (i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month)
}

/// Days from 1970-01-01 to the first of a month.
const fn days_before(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        text.parse().unwrap()
    }

    #[test]
    fn a_month_begins_and_ends_at_midnight_utc_in_leap_years_and_at_the_turn_of_the_year_too() {
        for (now, from, until) in [
            ("2026-11-22T09:30:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-31T23:59:59.999Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2028-02-29T00:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("2100-02-28T12:00:00Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-02-01T00:00:00Z"),
        ] {
            assert_eq!(Month::of(time(now)), Month { from: time(from), until: time(until) }, "{now}");
            assert_eq!(date(time(now)), now[..10], "{now}");
        }
        assert_eq!(Month::of(time("2026-01-05T00:00:00Z")).before().to_string(), "2025-12");
    }

    #[test]
    fn a_month_reads_back_as_itself_and_nothing_else_does() {
        assert_eq!("2026-02".parse::<Month>().unwrap().to_string(), "2026-02");
        for wrong in ["2026-13", "2026-00", "2026-1", "+026-01", "2026", "2026-01-01", ""] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
    }
}
