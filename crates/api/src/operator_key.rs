//! Operators' keys on the wire.

use gregal_core::access::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scope::ScopeView;

/// Makes an operator's key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorKeyCreate {
    /// What people call it, 1 to 80 characters.
    pub name: String,
    /// `site_operator`, `billing_operator`, `support`, `operator_auditor`, or `operator`, who may do what all of them may.
    #[schema(value_type = String, example = "support")]
    pub role: Role,
    /// Seconds until it stops working by itself; absent: when the key that asks does, or never.
    #[serde(default)]
    pub expires_in_s: Option<u32>,
    /// What it is narrowed to, within the key that asks.
    #[serde(default, skip_serializing_if = "ScopeView::is_open")]
    pub scope: ScopeView,
}
