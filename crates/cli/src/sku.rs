//! `gregal sku`: what can be rented.

use clap::{Args, Subcommand};
use gregal_api::sku::{SkuCreate, SkuPriceWrite, SkuQuery, SkuView};

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum SkuVerb {
    /// Add what can be rented; the answer says what it costs (operators)
    Create(Create),
    /// List what can be rented
    List {
        /// Retired ones too
        #[arg(long)]
        all: bool,
    },
    /// Read a SKU, retired or not, and what it costs
    Show {
        /// Its name
        name: String,
    },
    /// Set what a SKU costs, from five minutes after; dearer only while nothing is on it (operators)
    Price(Price),
    /// Take no new work on a SKU; what runs on it goes on (operators)
    Retire {
        /// Its name
        name: String,
        /// Retire it: the name does not come back
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// 1 to 63 of `a-z`, `0-9`, `.`, `-`; a shape never changes under its name
    name: String,
    /// Cores of one instance: `16`, or `0.5`
    #[arg(long, value_name = "CORES", value_parser = words::cores_milli)]
    cores: u32,
    /// Memory of one instance: `180GiB`, `512MiB`
    #[arg(long, value_name = "SIZE", value_parser = words::bytes)]
    memory: u64,
    /// Accelerators of one instance
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    gpus: u32,
    /// Their model, as `gregal site show` names it; absent: any
    #[arg(long, value_name = "MODEL")]
    gpu_model: Option<String>,
    /// What quotas count it as, together with others of this family; absent: its own name
    #[arg(long, value_name = "NAME")]
    family: Option<String>,
    /// How many units of its family one instance counts for; absent: its accelerators, else one
    #[arg(long, value_name = "NUMBER")]
    units: Option<u32>,
    #[command(flatten)]
    prices: Prices,
}

#[derive(Debug, Args)]
pub struct Price {
    /// Its name
    name: String,
    #[command(flatten)]
    prices: Prices,
}

#[derive(Debug, Args)]
struct Prices {
    /// A core-hour of a job, or reserved; left out: as it is
    #[arg(long = "core-hour", value_name = "EUR", value_parser = words::nano)]
    core: Option<u64>,
    /// An accelerator-hour of a job, or reserved; left out: as it is
    #[arg(long = "accelerator-hour", value_name = "EUR", value_parser = words::nano)]
    accelerator: Option<u64>,
    /// A core-hour of a served model; left out: as it is
    #[arg(long = "served-core-hour", value_name = "EUR", value_parser = words::nano)]
    served_core: Option<u64>,
}

impl Prices {
    fn into_write(self) -> SkuPriceWrite {
        SkuPriceWrite {
            core_hour_nano: self.core,
            accelerator_hour_nano: self.accelerator,
            served_core_hour_nano: self.served_core,
        }
    }
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: SkuVerb) -> Result<(), Failure> {
    match verb {
        SkuVerb::Create(args) => create(cx, args).await,
        SkuVerb::List { all } => {
            let all: Vec<SkuView> = cx.list_where("skus_list", &[], &SkuQuery { all }).await?;
            cx.show_list("SKUs", &all, table)
        }
        SkuVerb::Show { name } => {
            let found: SkuView = cx.read("sku_read", &[&name]).await?;
            cx.printer().data(&found, facts)
        }
        SkuVerb::Price(args) => {
            let wanted = args.prices.into_write();
            let then: SkuView = cx.ask("sku_price", &[&args.name], &wanted).await?;
            show_priced(cx, &then)
        }
        SkuVerb::Retire { name, yes } => {
            if !yes {
                return Err(Failure::yours(format!("retiring `{name}` cannot be undone: its name does not come back"))
                    .hint(format!("say it with a flag: `gregal sku retire {name} --yes`")));
            }
            let left: SkuView = cx.read("sku_retire", &[&name]).await?;
            cx.printer().data(&left, facts)
        }
    }
}

async fn create(cx: &mut Cx<'_>, args: Create) -> Result<(), Failure> {
    let wanted = SkuCreate {
        name: args.name,
        cpus_milli: args.cores,
        memory_bytes: args.memory,
        gpus: args.gpus,
        gpu_milli: None,
        gpu_model: args.gpu_model,
        family: args.family,
        units: args.units,
        price: Some(args.prices.into_write()).filter(|price| *price != SkuPriceWrite::default()),
    };
    let made: SkuView = cx.create("sku_create", &[], &wanted).await?;
    show_priced(cx, &made)
}

/// A SKU with its price, and a word where that is not its own.
fn show_priced(cx: &mut Cx<'_>, sku: &SkuView) -> Result<(), Failure> {
    cx.printer().data(sku, facts)?;
    if let Some(warning) = fallen_back(sku) {
        cx.printer().note(&warning);
    }
    Ok(())
}

/// What is to be said where a price is not the SKU's own.
fn fallen_back(made: &SkuView) -> Option<String> {
    let Some(price) = &made.price else {
        return Some(format!("no price book has a price for `{}`: nothing can run on it", made.name));
    };
    let meters: Vec<String> = price.by_any.iter().map(|meter| format!("`{meter}`")).collect();
    (!meters.is_empty()).then(|| {
        format!("`{}` has no price of its own on {}: the price of every item (`*`) holds", made.name, meters.join(", "))
    })
}

fn table(all: &[SkuView]) -> Table {
    let head = ["name", "cores", "memory", "gpus", "gpu model", "family", "units", "an hour", "retired"];
    let mut table = Table::new(head).right([1, 2, 3, 6, 7]);
    for one in all {
        table.row([
            one.name.clone(),
            words::cores(one.cpus_milli),
            words::size(one.memory_bytes),
            one.gpus.to_string(),
            words::dash(one.gpu_model.as_ref()),
            one.family.clone(),
            one.units.to_string(),
            words::dash(one.price.as_ref().map(|price| words::euro(price.job_hour_nano))),
            words::dash(one.retired_at),
        ]);
    }
    table
}

fn facts(one: &SkuView) -> String {
    let price = one.price.as_ref();
    let mut facts = Facts::new()
        .with("name", &one.name)
        .with("cores", words::cores(one.cpus_milli))
        .with("memory", words::size(one.memory_bytes))
        .with("gpus", one.gpus)
        .with("gpu model", words::dash(one.gpu_model.as_ref()))
        .with("family", &one.family)
        .with("units", one.units)
        .with("an hour of a job", words::dash(price.map(|price| words::euro(price.job_hour_nano))));
    if let Some(served) = price.and_then(|price| price.served_hour_nano) {
        facts = facts.with("an hour of a served model", words::euro(served));
    }
    if let (Some(next), Some(from)) = (&one.next_price, one.next_price_from) {
        facts = facts.with("from then on", from).with("an hour of a job then", words::euro(next.job_hour_nano));
        if let Some(served) = next.served_hour_nano {
            facts = facts.with("an hour of a served model then", words::euro(served));
        }
    }
    if let Some(at) = one.retired_at {
        facts = facts.with("retired", at);
    }
    facts.text()
}
