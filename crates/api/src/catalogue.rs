//! What things cost, and whether a process is well.

use gregal_core::price::{PriceBook, PriceRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The price of one thing on one meter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PriceView {
    /// Version of the price book.
    pub book: u32,
    /// What is counted.
    pub meter: String,
    /// The SKU or model class; `*` for all.
    pub item: String,
    /// Nano-euro for every `per` units.
    pub nano: u64,
    /// Units the price is for.
    pub per: u64,
    /// The meter's unit.
    pub unit: String,
    /// How an invoice words it.
    pub label: String,
}

impl PriceView {
    /// A row of a book.
    pub fn of(book: &PriceBook, row: &PriceRow) -> Self {
        Self {
            book: book.version,
            meter: row.meter.as_str().into(),
            item: row.item.clone(),
            nano: row.nano,
            per: row.per,
            unit: row.meter.unit().into(),
            label: row.label.clone(),
        }
    }
}

/// Whether a process runs and its store answers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
}

/// A body without fields.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}
