//! Calendar months, UTC, as pages name them: `2026-11`.

use std::{fmt, str::FromStr};

use gregal_core::time::Time;

use super::failure::Failure;

const DAY_MS: i64 = 86_400_000;

/// A calendar month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Month {
    year: u16,
    month: u8,
}

impl Month {
    /// The month a time is in.
    pub(crate) fn of(time: Time) -> Self {
        // The text of a time begins with year and month; beyond the year 9999 it does not, and nothing was used then.
        time.to_string().get(..7).and_then(|text| text.parse().ok()).unwrap_or(Self { year: 1970, month: 1 })
    }

    /// The month a page was asked for; none: this one.
    pub(crate) fn asked(text: Option<&str>, now: Time) -> Result<Self, Failure> {
        match text {
            None | Some("") => Ok(Self::of(now)),
            Some(text) => {
                text.parse().map_err(|()| Failure::invalid("`month` is not a month: one looks like `2026-11`"))
            }
        }
    }

    /// Its first instant.
    pub(crate) fn from(self) -> Time {
        format!("{self}-01T00:00:00Z").parse().unwrap_or_default()
    }

    /// The first instant after it.
    pub(crate) fn until(self) -> Time {
        self.next().from()
    }

    pub(crate) fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { month: month + 1, ..self },
        }
    }

    pub(crate) fn previous(self) -> Self {
        match self.month {
            1 => Self { year: self.year - 1, month: 12 },
            month => Self { month: month - 1, ..self },
        }
    }

    /// Its days that have begun: first instant, first instant after.
    pub(crate) fn days(self, now: Time) -> Vec<(Time, Time)> {
        let count = self.until().millis_since(self.from()) / DAY_MS;
        let days = (0..count).map(|day| self.from().plus_millis(day * DAY_MS));
        days.take_while(|day| *day <= now).map(|day| (day, day.plus_millis(DAY_MS))).collect()
    }

    /// How many days it has.
    pub(crate) fn length(self) -> usize {
        usize::try_from(self.until().millis_since(self.from()) / DAY_MS).unwrap_or(31)
    }

    /// The query that asks the API for it.
    pub(crate) fn query(self) -> String {
        format!("from={}&until={}", self.from(), self.until())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (year, month) =
            text.split_once('-').filter(|(year, month)| year.len() == 4 && month.len() == 2).ok_or(())?;
        if !(year.bytes().chain(month.bytes())).all(|byte| byte.is_ascii_digit()) {
            return Err(());
        }
        let (year, month) = (year.parse().map_err(|_| ())?, month.parse().map_err(|_| ())?);
        // A year that has neighbours on both sides which times can spell.
        if !(1971..=9998).contains(&year) || !(1..=12).contains(&month) {
            return Err(());
        }
        Ok(Self { year, month })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins_also_at_new_year_and_in_leap_years() {
        let month = |text: &str| text.parse::<Month>().unwrap();
        assert_eq!(month("2026-12").until().to_string(), "2027-01-01T00:00:00.000Z");
        assert_eq!(month("2026-01").previous(), month("2025-12"));
        assert_eq!((month("2028-02").length(), month("2027-02").length()), (29, 28));
        let now = "2026-11-03T05:00:00Z".parse().unwrap();
        assert_eq!((Month::of(now), month("2026-11").days(now).len()), (month("2026-11"), 3));
        for wrong in ["2026-13", "2026-00", "26-1", "2026-1", "2026-+1", "x", "0000-01"] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
    }
}
