//! Organisations on the wire.

use gregal_core::{id::OrganisationId, organisation::Organisation, residency::ResidencyPolicy, time::Time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where an organisation's content may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidencyView {
    /// Country codes; `EU` stands for all member states when written, and is spelled out when read.
    #[schema(example = json!(["EU"]))]
    pub jurisdictions: Vec<String>,
    /// Certifications a site must hold.
    #[serde(default)]
    pub certifications: Vec<String>,
    /// Operators that may run a site; empty allows all in the jurisdictions.
    #[serde(default)]
    pub operators: Vec<String>,
}

impl From<&ResidencyPolicy> for ResidencyView {
    fn from(policy: &ResidencyPolicy) -> Self {
        Self {
            jurisdictions: policy.jurisdictions.iter().map(ToString::to_string).collect(),
            certifications: policy.certifications.iter().cloned().collect(),
            operators: policy.operators.iter().cloned().collect(),
        }
    }
}

/// Makes an organisation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganisationCreate {
    /// Its name, 1 to 80 characters.
    pub name: String,
    /// Country it is billed in.
    #[schema(example = "FR")]
    pub country: String,
    /// Its VAT identification number, if it has one.
    #[serde(default)]
    pub vat_id: Option<String>,
    /// `self_service` (default), `subscription` or `dedicated`.
    #[serde(default)]
    pub plan: Option<String>,
    /// Credit in cents to begin with.
    #[serde(default)]
    pub credit_cents: u32,
    /// Where its content may be. Absent: the European Union.
    #[serde(default)]
    pub residency: Option<ResidencyView>,
}

const fn weight_default() -> u32 {
    1
}

/// An organisation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OrganisationView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: OrganisationId,
    /// Its name.
    pub name: String,
    /// Country it is billed in.
    pub country: String,
    /// Its VAT identification number.
    pub vat_id: Option<String>,
    /// How it buys.
    #[schema(value_type = String)]
    pub plan: gregal_core::organisation::Plan,
    /// Where its content may be.
    pub residency: ResidencyView,
    /// Its weight among the others when all want more than there is.
    #[serde(default = "weight_default")]
    pub weight: u32,
    /// The highest priority its jobs may ask for.
    #[serde(default = "gregal_core::job::priority_default")]
    pub priority_max: u8,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Time,
}

impl From<&Organisation> for OrganisationView {
    fn from(organisation: &Organisation) -> Self {
        Self {
            id: organisation.id,
            name: organisation.name.clone(),
            country: organisation.country.to_string(),
            vat_id: organisation.vat_id.clone(),
            plan: organisation.plan,
            residency: (&organisation.residency).into(),
            weight: organisation.share.weight,
            priority_max: organisation.share.priority_max,
            created_at: organisation.created_at,
        }
    }
}

/// A new organisation and the key of its owner.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OrganisationCreated {
    /// The organisation.
    pub organisation: OrganisationView,
    /// The owner's key; its secret is shown only here.
    pub owner_key: crate::key::KeyCreated,
}
