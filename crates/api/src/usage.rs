//! Usage on the wire.

use gregal_core::{
    meter::{Meter, UsageEvent},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A raw usage record: all an invoice line is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageRecord {
    /// The record.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub event: UsageEvent,
    /// The meter's unit.
    pub unit: String,
}

impl From<UsageEvent> for UsageRecord {
    fn from(event: UsageEvent) -> Self {
        let unit = event.meter.unit().into();
        Self { event, unit }
    }
}

/// A usage record that a site sent and that could not be counted. Nobody is billed for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantinedUsage {
    /// The record as the site sent it; nothing in it can be taken for true.
    #[schema(value_type = Object)]
    pub record: UsageEvent,
    /// Why it could not be counted.
    pub reason: String,
    /// When it arrived.
    #[schema(value_type = String)]
    pub arrived_at: Time,
}

/// Which records are wanted, as query parameters. Half-open: `from` is in, `until` is out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// First instant; absent: the start of this month, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// First instant after; absent: the start of next month, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Only this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Items wanted, 1 to 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The sum of one item on one meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageSum {
    /// What was counted.
    #[schema(value_type = String)]
    pub meter: Meter,
    /// The SKU or model class.
    pub item: String,
    /// How much.
    pub quantity: u64,
    /// In which unit.
    pub unit: String,
    /// In how many records.
    pub records: u64,
}

/// Usage summed over a period.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UsageSummary {
    /// First instant of the period.
    #[schema(value_type = String)]
    pub from: Time,
    /// First instant after the period.
    #[schema(value_type = String)]
    pub until: Time,
    /// The sums.
    pub items: Vec<UsageSum>,
}
