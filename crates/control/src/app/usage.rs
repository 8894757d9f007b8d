//! Usage: raw records and their sums, as anyone can add them up again.

use gregal_api::usage::{UsageQuery, UsageSum, UsageSummary};
use gregal_core::{
    access::Action,
    id::{OrganisationId, ProjectId},
    time::Time,
};
use gregal_policy::Resource;
use gregal_store::{Listed, Page, StoredUsage};

use crate::{Control, Cx, Error, Result};

/// A stretch of time: `from` is in, `until` is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) from: Time,
    pub(crate) until: Time,
}

impl Period {
    /// What was asked for; the month of `now` (UTC) where nothing was.
    pub(crate) fn asked(query: &UsageQuery, now: Time) -> Result<Self> {
        let month = month_of(now);
        let period = Self { from: query.from.unwrap_or(month.from), until: query.until.unwrap_or(month.until) };
        if period.until < period.from {
            return Err(Error::invalid("`until` lies before `from`"));
        }
        Ok(period)
    }
}

impl Control {
    /// Raw usage records, in the order of their arrival.
    pub(crate) async fn usage_list(
        &self,
        cx: &Cx,
        id: OrganisationId,
        query: &UsageQuery,
        page: &Page,
    ) -> Result<Listed<StoredUsage>> {
        let project = self.usage_seen(cx, id, query).await?;
        let period = Period::asked(query, cx.now)?;
        Ok(self.store().usage_list(id, period.from, period.until, project, page).await?)
    }

    /// Usage summed by meter and item.
    pub(crate) async fn usage_summary(&self, cx: &Cx, id: OrganisationId, query: &UsageQuery) -> Result<UsageSummary> {
        let project = self.usage_seen(cx, id, query).await?;
        let Period { from, until } = Period::asked(query, cx.now)?;
        let sums = self.store().usage_sums(id, from, until, project).await?;
        let item = |sum: gregal_store::UsageSum| UsageSum {
            meter: sum.meter,
            item: sum.item,
            quantity: sum.quantity,
            unit: sum.meter.unit().into(),
            records: sum.records,
        };
        Ok(UsageSummary { from, until, items: sums.into_iter().map(item).collect() })
    }

    /// Whether the key may read this usage, and of which project only. A key bound to a project reads that project's.
    async fn usage_seen(&self, cx: &Cx, id: OrganisationId, query: &UsageQuery) -> Result<Option<ProjectId>> {
        let asked = match &query.project {
            Some(text) => Some(text.parse::<ProjectId>().map_err(|error| {
                Error::invalid(format!("`project` is not a project id, one looks like `{}_01jd3h...`", error.prefix))
            })?),
            None => cx.key()?.project.filter(|_| cx.key().is_ok_and(|key| key.organisation == Some(id))),
        };
        let Some(project) = asked else {
            self.organisation_seen(cx, id, Action::UsageRead).await?;
            return Ok(None);
        };
        let found = self.store().project_get(project).await?.filter(|project| project.organisation == id);
        let project = found.ok_or_else(|| Error::missing("project", project))?;
        self.authorize(cx, Action::UsageRead, &Resource::project(id, project.id)).await?;
        Ok(Some(project.id))
    }
}

/// The calendar month (UTC) a time is in.
pub(crate) fn month_of(now: Time) -> Period {
    const DAY_MS: i64 = 86_400_000;
    let days = now.as_millis().div_euclid(DAY_MS);
    let (year, month) = civil(days);
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let start = |year, month| Time::from_millis(days_before(year, month).saturating_mul(DAY_MS));
    Period { from: start(year, month), until: start(next_year, next_month) }
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

    #[test]
    fn a_month_begins_and_ends_at_midnight_utc_in_leap_years_and_at_the_turn_of_the_year_too() {
        for (now, from, until) in [
            ("2026-11-22T09:30:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-31T23:59:59.999Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2028-02-29T00:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("2100-02-28T12:00:00Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-02-01T00:00:00Z"),
        ] {
            let parse = |text: &str| text.parse::<Time>().unwrap();
            assert_eq!(month_of(parse(now)), Period { from: parse(from), until: parse(until) }, "{now}");
        }
    }
}
