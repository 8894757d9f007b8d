//! `gregal usage`: raw records, and their sums.

use clap::{Args, Subcommand};
use gregal_api::usage::{UsageQuery, UsageRecord, UsageSum, UsageSummary};
use gregal_core::{meter::Meter, time::Time};

use crate::{context::Cx, failure::Failure, table::Table, words};

#[derive(Debug, Subcommand)]
pub enum UsageVerb {
    /// List raw usage records
    List(Period),
    /// Sum usage by meter and item
    Summary(Period),
}

/// Which stretch of time.
#[derive(Debug, Default, Args)]
pub struct Period {
    /// Calendar month, UTC, like 2026-11; absent: this month
    #[arg(long, value_parser = month, conflicts_with_all = ["from", "until"])]
    month: Option<(Time, Time)>,
    /// First instant, RFC 3339
    #[arg(long, value_name = "TIME")]
    from: Option<Time>,
    /// First instant after, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
}

impl Period {
    pub(crate) fn query(&self) -> UsageQuery {
        let (from, until) = match self.month {
            Some((from, until)) => (Some(from), Some(until)),
            None => (self.from, self.until),
        };
        UsageQuery { from, until, ..UsageQuery::default() }
    }
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: UsageVerb) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    // A project narrows the records only if it is named: an organisation pays for all of them.
    let project = match cx.options.project.clone() {
        Some(asked) => Some(cx.project_called(Some(asked)).await?),
        None => None,
    };
    match verb {
        UsageVerb::List(period) => {
            let query = UsageQuery { project, ..period.query() };
            let all: Vec<UsageRecord> = cx.list_where("usage_list", &[&organisation], &query).await?;
            cx.show_list("usage records", &all, records)
        }
        UsageVerb::Summary(period) => {
            let query = UsageQuery { project, ..period.query() };
            let call = cx.client.call("usage_summary", &[&organisation]).query(&query);
            let summary: UsageSummary = cx.told(call.send().await)?;
            cx.printer().data(&summary, |summary| {
                let mut table = Table::new(["meter", "item", "quantity", "unit", "shown", "records"]).right([2, 4, 5]);
                for one in &summary.items {
                    table.row([
                        one.meter.as_str().into(),
                        one.item.clone(),
                        words::count(one.quantity),
                        one.unit.clone(),
                        shown(one),
                        one.records.to_string(),
                    ]);
                }
                table.text()
            })?;
            if !cx.printer().json() {
                cx.printer().note(&format!("from {} until {}", summary.from, summary.until));
            }
            Ok(())
        }
    }
}

fn records(all: &[UsageRecord]) -> Table {
    let mut table = Table::new(["ended", "meter", "item", "quantity", "unit", "subject", "how", "id"]).right([3]);
    for UsageRecord { event, unit } in all {
        table.row([
            event.ended_at.to_string(),
            event.meter.as_str().into(),
            event.item.clone(),
            words::count(event.quantity),
            unit.clone(),
            event.subject.clone(),
            event.estimated.as_ref().map_or_else(|| "measured".into(), |how| format!("estimated: {how}")),
            event.id.clone(),
        ]);
    }
    table
}

/// A sum in the unit people think in.
fn shown(sum: &UsageSum) -> String {
    // Thousandths, so that no float is needed.
    let hours = |millis: u64| {
        let thousandths = millis / 3600;
        format!("{}.{:03} h", thousandths / 1000, thousandths % 1000)
    };
    match sum.meter {
        Meter::ComputeCore
        | Meter::Accelerator
        | Meter::ReplicaCore
        | Meter::ReservedCore
        | Meter::ReservedAccelerator
        | Meter::CoveredCore
        | Meter::CoveredAccelerator => hours(sum.quantity),
        Meter::Energy => words::kwh(sum.quantity),
        Meter::TokensIn | Meter::TokensOut => words::count(sum.quantity),
    }
}

/// A calendar month as its first instant and the first one after.
fn month(text: &str) -> Result<(Time, Time), String> {
    let wrong = || format!("`{text}` is not a month, one looks like `2026-11`");
    let (year, number) =
        text.split_once('-').filter(|(year, number)| year.len() == 4 && number.len() == 2).ok_or_else(wrong)?;
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Err(wrong());
    }
    let year: u16 = year.parse().map_err(|_| wrong())?;
    let number: u8 = number.parse().map_err(|_| wrong())?;
    let (next_year, next) = if number == 12 { (year + 1, 1) } else { (year, number + 1) };
    let first =
        |year: u16, month: u8| format!("{year:04}-{month:02}-01T00:00:00Z").parse::<Time>().map_err(|_| wrong());
    Ok((first(year, number)?, first(next_year, next)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_one_begins() {
        let text = |month: (Time, Time)| (month.0.to_string(), month.1.to_string());
        let (november, december) = (month("2026-11").unwrap(), month("2026-12").unwrap());
        assert_eq!(text(november).0, "2026-11-01T00:00:00.000Z");
        assert_eq!(november.1, december.0);
        assert_eq!(text(december).1, "2027-01-01T00:00:00.000Z");
        for bad in ["2026", "2026-13", "2026-00", "26-11", "2026-1", "2026-+1", ""] {
            assert!(month(bad).is_err(), "{bad}");
        }
    }
}
