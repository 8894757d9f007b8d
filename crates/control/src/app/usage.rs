//! Usage: raw records and their sums, as anyone can add them up again.

use gregal_api::usage::{UsageQuery, UsageSum, UsageSummary};
use gregal_core::{
    access::Action,
    id::{OrganisationId, ProjectId},
    month::Month,
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
        let month = Month::of(now);
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
