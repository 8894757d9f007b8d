//! SKUs: what can be rented and what an hour of it costs; operators add and retire them here.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use gregal_api::sku::{SkuCreate, SkuView};
use gregal_core::access::Action;
use serde::Deserialize;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    posted::{Posted, Really},
    visitor::{Id, Visitor},
    words,
};

struct Row {
    name: String,
    shape: String,
    family: String,
    units: u32,
    hour: String,
    served: String,
    /// What an hour of a job will cost, and from when on; empty where no other price is set.
    next: String,
    is_retired: bool,
    /// Whether the price is the one of every item.
    is_fallback: bool,
}

#[derive(Template)]
#[template(path = "skus.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    may_write: bool,
    once: String,
}

pub(crate) async fn list(visitor: Visitor) -> Result<Response, Failure> {
    let may_write = visitor.can(Action::SkuWrite);
    // Who cannot bring any back need not see what is gone.
    let query = if may_write { "all=true" } else { "" };
    let listed: gregal_api::page::SkuList = visitor.api.read_with("skus_list", &[], query).await?;
    page::page(&ListPage {
        shell: visitor.shell("SKUs", Here::Skus, None).await?,
        rows: listed.items.iter().map(row).collect(),
        may_write,
        once: visitor.once(),
    })
}

fn row(sku: &SkuView) -> Row {
    let mut shape = format!("{} cores, {}", cores(sku.cpus_milli), words::bytes(sku.memory_bytes));
    if sku.gpus > 0 {
        let model = sku.gpu_model.as_deref().unwrap_or("any model");
        shape = format!("{shape}, {} accelerators ({model})", sku.gpus);
    }
    let price = sku.price.as_ref();
    Row {
        name: sku.name.clone(),
        shape,
        family: sku.family.clone(),
        units: sku.units,
        hour: price.map_or_else(|| "no price".into(), |price| words::euro(price.job_hour_nano)),
        served: price.and_then(|price| price.served_hour_nano).map_or_else(String::new, words::euro),
        next: next(sku),
        is_retired: sku.retired_at.is_some(),
        is_fallback: price.is_some_and(|price| !price.by_any.is_empty()),
    }
}

fn next(sku: &SkuView) -> String {
    match (&sku.next_price, sku.next_price_from) {
        (Some(price), Some(from)) => format!("{} from {from} on", words::euro(price.job_hour_nano)),
        _ => String::new(),
    }
}

fn cores(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The form that adds a SKU. Amounts in whole thousandths and MiB, as browsers check them.
#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
    cpus_milli: u32,
    memory_mib: u64,
    #[serde(default)]
    gpus: u32,
    #[serde(default)]
    gpu_model: String,
    #[serde(default)]
    family: String,
    /// Empty: what follows from the accelerators.
    #[serde(default)]
    units: String,
    once: String,
}

pub(crate) async fn create(Posted { visitor, form }: Posted<Create>) -> Result<Response, Failure> {
    let said = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let units = said(form.units).map(|units| units.parse()).transpose();
    let wanted = SkuCreate {
        name: form.name,
        cpus_milli: form.cpus_milli,
        memory_bytes: form.memory_mib.saturating_mul(1 << 20),
        gpus: form.gpus,
        gpu_milli: None,
        gpu_model: said(form.gpu_model),
        family: said(form.family),
        units: units.map_err(|_| Failure::invalid("`units` is no whole number"))?,
        price: None,
    };
    let _: SkuView = visitor.api.send("sku_create", &[], &wanted, Some(&form.once)).await?;
    Ok(Redirect::to("/console/skus").into_response())
}

pub(crate) async fn retire(
    Id(name): Id<String>,
    Posted { visitor, form }: Posted<Really>,
) -> Result<Response, Failure> {
    form.check()?;
    let _: SkuView = visitor.api.read("sku_retire", &[&name]).await?;
    Ok(Redirect::to("/console/skus").into_response())
}
