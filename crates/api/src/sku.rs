//! SKUs on the wire: what can be rented, as the operator set it up.

use gregal_core::{
    quote::Quote,
    sku::{Offer, Sku},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Adds a SKU to the catalogue. Its shape never changes: another shape is another SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SkuCreate {
    /// Its name: 1 to 63 of `a-z`, `0-9`, `.`, `-`, beginning with a letter or a digit. Never one that was there before.
    #[schema(example = "h100.8")]
    pub name: String,
    /// Thousandths of a CPU core, 10 to 4,096,000.
    pub cpus_milli: u32,
    /// Bytes of memory, 16 MiB to 64 TiB.
    pub memory_bytes: u64,
    /// Whole accelerators, at most 1,024; absent: none.
    #[serde(default)]
    pub gpus: u32,
    /// A part of one accelerator, in thousandths. Refused: nothing holds two tenants apart on one yet. MIG instances are
    /// to count as accelerators of a model of their own, once the engine offers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_milli: Option<u16>,
    /// Model of the accelerators, as sites name it; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_model: Option<String>,
    /// What quotas count it as, together with others of this family; absent: its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// How many units of its family one instance counts for, 1 to 10,000; absent: its accelerators, else one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<u32>,
    /// What it costs from the first moment on; absent, or where a field of it is: the price of every item (`*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<SkuPriceWrite>,
}

impl SkuCreate {
    /// The shape that is asked for, unchecked.
    pub fn into_sku(self) -> Sku {
        Sku {
            name: self.name,
            cpus_milli: self.cpus_milli,
            memory_bytes: self.memory_bytes,
            gpus: self.gpus,
            gpu_milli: self.gpu_milli.unwrap_or(0),
            gpu_model: self.gpu_model,
            family: self.family,
            units: self.units,
        }
    }
}

/// A rentable shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkuView {
    /// Its name.
    pub name: String,
    /// Thousandths of a CPU core.
    pub cpus_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Whole accelerators.
    pub gpus: u32,
    /// Model of the accelerators.
    pub gpu_model: Option<String>,
    /// What quotas count it as.
    pub family: String,
    /// How many units of its family one instance counts for.
    pub units: u32,
    /// Since when it takes no new work; absent while it does.
    #[schema(value_type = Option<String>)]
    pub retired_at: Option<Time>,
    /// What it costs now; absent where no price book says.
    pub price: Option<SkuPrice>,
    /// What it will cost; absent where no other price is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_price: Option<SkuPrice>,
    /// From when on `next_price` holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next_price_from: Option<Time>,
}

/// What an hour of one instance costs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkuPrice {
    /// Version of the price book.
    pub book: u32,
    /// An hour of a job, in nano-euro.
    pub job_hour_nano: i64,
    /// An hour of a served model, in nano-euro; absent where it serves none.
    pub served_hour_nano: Option<i64>,
    /// The meters on which it has no price of its own: what the book says of every item (`*`) holds for it.
    pub by_any: Vec<String>,
}

impl From<&Quote> for SkuPrice {
    fn from(quote: &Quote) -> Self {
        Self {
            book: quote.book,
            job_hour_nano: quote.job_hour.get(),
            served_hour_nano: quote.served_hour.map(gregal_core::money::Nano::get),
            by_any: quote.by_any.iter().map(|meter| meter.as_str().to_owned()).collect(),
        }
    }
}

impl SkuView {
    /// An offer at what it costs now, and at what it will from a time on. Of the latter only what is another price is said.
    pub fn at(offer: &Offer, quote: Option<&Quote>, later: Option<(Time, Quote)>) -> Self {
        let sku = &offer.sku;
        let price = quote.map(SkuPrice::from);
        let next = later.map(|(from, quote)| (from, SkuPrice::from(&quote)));
        let next = next
            .filter(|(_, next)| price.as_ref().is_none_or(|now| SkuPrice { book: next.book, ..now.clone() } != *next));
        let (next_price_from, next_price) = next.unzip();
        Self {
            name: sku.name.clone(),
            cpus_milli: sku.cpus_milli,
            memory_bytes: sku.memory_bytes,
            gpus: sku.gpus,
            gpu_model: sku.gpu_model.clone(),
            family: sku.family().to_owned(),
            units: sku.units(),
            retired_at: offer.retired_at,
            price,
            next_price,
            next_price_from,
        }
    }
}

/// Sets what a SKU costs, in nano-euro. What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SkuPriceWrite {
    /// A core-hour of a job, or reserved; at most 1,000,000 EUR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_hour_nano: Option<u64>,
    /// An accelerator-hour of a job, or reserved; at most 1,000,000 EUR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_hour_nano: Option<u64>,
    /// A core-hour of a served model; at most 1,000,000 EUR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_core_hour_nano: Option<u64>,
}

/// Which SKUs are wanted, as query parameters. All come on one page, whatever page is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuQuery {
    /// Retired ones too.
    #[serde(default)]
    pub all: bool,
}
