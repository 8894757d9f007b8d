//! `gregal price`: what things cost.

use clap::Subcommand;
use gregal_api::catalogue::PriceView;

use crate::{context::Cx, failure::Failure, table::Table, words};

#[derive(Debug, Subcommand)]
pub enum PriceVerb {
    /// List the prices that hold now
    List,
}

pub(crate) async fn run_price(cx: &mut Cx<'_>, verb: PriceVerb) -> Result<(), Failure> {
    let PriceVerb::List = verb;
    let all: Vec<PriceView> = cx.list("prices_list", &[]).await?;
    cx.show_list("prices", &all, |all| {
        let mut table = Table::new(["meter", "item", "label", "price", "for", "book"]).right([3, 4, 5]);
        for one in all {
            table.row([
                one.meter.clone(),
                one.item.clone(),
                one.label.clone(),
                words::euro(i64::try_from(one.nano).unwrap_or(i64::MAX)),
                format!("{} {}", words::count(one.per), one.unit),
                one.book.to_string(),
            ]);
        }
        table
    })
}
