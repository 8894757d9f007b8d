//! Usage: what was counted in a month, summed and day by day.

use askama::Template;
use axum::response::Response;
use gregal_api::usage::{UsageSum, UsageSummary};
use gregal_core::meter::Meter;
use serde::Deserialize;

use super::{
    failure::Failure,
    month::Month,
    page::{self, Here, Shell},
    plot::{self, Bars},
    visitor::{Visitor, Wanted},
    words,
};

/// Which month is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    month: Option<String>,
}

impl Asked {
    pub(crate) fn month(&self, visitor: &Visitor) -> Result<Month, Failure> {
        Month::asked(self.month.as_deref(), visitor.now())
    }
}

struct Row {
    meter: &'static str,
    item: String,
    quantity: String,
    raw: String,
    records: String,
}

#[derive(Template)]
#[template(path = "usage.html")]
struct UsagePage {
    shell: Shell,
    month: Month,
    rows: Vec<Row>,
    plots: Vec<(&'static str, Bars)>,
}

pub(crate) async fn page(visitor: Visitor, Wanted(asked): Wanted<Asked>) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    let month = asked.month(&visitor)?;
    // A key bound to a project sees what that project used.
    let project = visitor.me.key.project.map(|project| format!("&project={project}")).unwrap_or_default();
    let query = format!("{}{project}", month.query());
    let summary: UsageSummary = visitor.api.read_with("usage_summary", &[&organisation], &query).await?;
    let mut days = Vec::new();
    // The sums of each day, exact however many records there are: at most 31 questions.
    if !summary.items.is_empty() {
        for (from, until) in month.days(visitor.now()) {
            let query = format!("from={from}&until={until}{project}");
            let day: UsageSummary = visitor.api.read_with("usage_summary", &[&organisation], &query).await?;
            days.push(day.items);
        }
    }
    let is_used = |meter: Meter| summary.items.iter().any(|sum| sum.meter == meter);
    let used = Meter::ALL.iter().copied().filter(|meter| is_used(*meter));
    let plots = used.map(|meter| (words::meter(meter), by_day(meter, month, &days)));
    page::page(&UsagePage {
        shell: visitor.shell("Usage", Here::Usage, None).await?,
        month,
        plots: plots.collect(),
        rows: summary.items.iter().map(row).collect(),
    })
}

fn by_day(meter: Meter, month: Month, days: &[Vec<UsageSum>]) -> Bars {
    let sums = days.iter().map(|day| day.iter().filter(|sum| sum.meter == meter).map(|sum| sum.quantity).sum::<u64>());
    let values: Vec<(u64, String)> = sums.map(|sum| (sum, words::quantity(meter, sum))).collect();
    plot::bars(words::meter(meter), month.length(), &values)
}

fn row(sum: &UsageSum) -> Row {
    Row {
        meter: words::meter(sum.meter),
        item: sum.item.clone(),
        quantity: words::quantity(sum.meter, sum.quantity),
        raw: format!("{} {}", words::count(sum.quantity), sum.unit),
        records: words::count(sum.records),
    }
}
