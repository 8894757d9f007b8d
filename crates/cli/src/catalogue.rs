//! `gregal sku` and `gregal price`: what can be rented and what it costs.

use clap::Subcommand;
use gregal_api::catalogue::{PriceView, SkuView};

use crate::{context::Cx, failure::Failure, table::Table, words};

#[derive(Debug, Subcommand)]
pub enum SkuVerb {
    /// List what can be rented
    List,
}

#[derive(Debug, Subcommand)]
pub enum PriceVerb {
    /// List the prices that hold now
    List,
}

pub(crate) async fn run_sku(cx: &mut Cx<'_>, verb: SkuVerb) -> Result<(), Failure> {
    let SkuVerb::List = verb;
    let all: Vec<SkuView> = cx.list("skus_list", &[]).await?;
    cx.show_list("SKUs", &all, |all| {
        let mut table = Table::new(["name", "cores", "memory", "gpus", "gpu model"]).right([1, 2, 3]);
        for one in all {
            table.row([
                one.name.clone(),
                words::cores(one.cpus_milli),
                words::size(one.memory_bytes),
                one.gpus.to_string(),
                words::dash(one.gpu_model.as_ref()),
            ]);
        }
        table
    })
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
