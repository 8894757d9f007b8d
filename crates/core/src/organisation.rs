//! Organisations and their projects: who pays, and who shares.

use serde::{Deserialize, Serialize};

use crate::{
    id::{OrganisationId, ProjectId},
    invoice::Billing,
    job::PRIORITY_DEFAULT,
    money::Nano,
    residency::{Jurisdiction, ResidencyPolicy},
    support::SupportSetting,
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

/// How an organisation stands to the others when all want more than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FairShare {
    /// Its weight: who has twice another's is given twice as much. At least 1.
    pub weight: u32,
    /// The highest priority its jobs may ask for.
    pub priority_max: u8,
}

impl Default for FairShare {
    /// As everybody else: nobody gets ahead of others by asking, only by what the operator granted.
    fn default() -> Self {
        Self { weight: 1, priority_max: PRIORITY_DEFAULT }
    }
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
    /// What its invoices say of it; none can be issued before it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing: Option<Billing>,
    /// How it buys.
    pub plan: Plan,
    /// Prepaid or granted credit, the ceiling of what it may spend.
    pub credit: Nano,
    /// Where its content may be.
    pub residency: ResidencyPolicy,
    /// How it stands to the others.
    #[serde(default)]
    pub share: FairShare,
    /// How often its own policies, its projects' among them, were written or removed: none has any at zero.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub policies: u64,
    /// What operators may see of its facts, and who has to agree.
    #[serde(default)]
    pub support: SupportSetting,
    /// When it was made.
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
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
