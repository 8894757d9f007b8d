//! Organisations and their projects: who pays, and who shares.

use serde::{Deserialize, Serialize};

use crate::{
    id::{OrganisationId, ProjectId},
    money::Nano,
    residency::{Jurisdiction, ResidencyPolicy},
    time::Time,
};

/// How an organisation buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Pay as you go against prepaid credit.
    SelfService,
    /// A monthly fee with included use.
    Subscription,
    /// Reserved capacity under contract.
    Dedicated,
}

/// Who pays, and under which law its content lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organisation {
    /// Its id.
    pub id: OrganisationId,
    /// Its name, unique in the cloud.
    pub name: String,
    /// Country it is billed in.
    pub country: Jurisdiction,
    /// Its VAT identification number, if it has one.
    pub vat_id: Option<String>,
    /// How it buys.
    pub plan: Plan,
    /// Prepaid or granted credit, the ceiling of what it may spend.
    pub credit: Nano,
    /// Where its content may be.
    pub residency: ResidencyPolicy,
    /// When it was made.
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}

/// Who shares: members, keys, datasets, jobs, models and endpoints live in one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// The organisation that pays.
    pub organisation: OrganisationId,
    /// Its name, unique in the organisation.
    pub name: String,
    /// When it was made.
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}
