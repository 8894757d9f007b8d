//! Quotas on the wire: what organisations and projects have of each family of SKUs, and how organisations stand to each other.

use gregal_core::{
    id::{OrganisationId, ProjectId},
    quota::Quota,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Sets what an organisation or a project has of a family of SKUs, in the units its SKUs count for: accelerators or instances,
/// where the operator said nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaWrite {
    /// Its own: room that is made for it when it asks. At most 10,000,000.
    pub guarantee: u32,
    /// The most it may use beyond its own; absent: as much as others lend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrow_max: Option<u32>,
    /// The most of its own that others may use while it does not; absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lend_max: Option<u32>,
}

/// What an organisation or a project has of a family of SKUs, and uses of it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaView {
    /// The organisation.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// The project; absent for the organisation as a whole.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// The family; a SKU of no other is its own.
    pub sku: String,
    /// Its own.
    pub guarantee: u32,
    /// The most it may use beyond its own; absent: as much as others lend.
    pub borrow_max: Option<u32>,
    /// The most of its own that others may use while it does not; absent: all of it.
    pub lend_max: Option<u32>,
    /// The most it may ever use; absent: no limit of its own.
    pub limit: Option<u32>,
    /// What its jobs use now.
    pub used: u32,
    /// What of that is beyond its own.
    pub borrowed: u32,
}

impl QuotaView {
    /// A quota of which so much is used now.
    pub fn new(quota: &Quota, used: u32) -> Self {
        Self {
            organisation: quota.organisation,
            project: quota.project,
            sku: quota.sku.clone(),
            guarantee: quota.guarantee,
            borrow_max: quota.borrow_max,
            lend_max: quota.lend_max,
            limit: quota.limit(),
            used,
            borrowed: used.saturating_sub(quota.guarantee),
        }
    }
}

/// Sets how an organisation stands to the others when all want more than there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareWrite {
    /// Its weight: who has twice another's is given twice as much. 1 to 1,000.
    pub weight: u32,
    /// The highest priority its jobs may ask for, 0 to 9.
    pub priority_max: u8,
}
