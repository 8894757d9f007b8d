//! An organisation's own policies on the wire: guardrails and permits in Cedar, and why something is allowed or not.

use gregal_core::{
    id::{OrganisationId, PolicyId, ProjectId},
    policy::OwnPolicy,
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Writes a policy under a name, or checks one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyWrite {
    /// One policy in Cedar, at most 2,048 bytes.
    #[schema(
        example = "forbid (principal is Holder in Role::\"developer\", action == Action::\"dataset:delete\", resource);"
    )]
    pub text: String,
}

/// A policy an organisation wrote for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: PolicyId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// The one project it speaks for; absent: the whole organisation.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Its name.
    pub name: String,
    /// How decisions and audit entries call it: `organisation:NAME`, or `project:NAME`.
    pub rule: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// It in Cedar, as it was written.
    pub text: String,
    /// When it was first written.
    #[schema(value_type = String)]
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}

impl From<&OwnPolicy> for PolicyView {
    fn from(policy: &OwnPolicy) -> Self {
        Self {
            id: policy.id,
            organisation: policy.organisation,
            project: policy.project,
            name: policy.name.clone(),
            rule: policy.rule(),
            effect: if policy.permits { "permit" } else { "forbid" }.into(),
            text: policy.text.clone(),
            created_at: policy.created_at,
            version: policy.version,
        }
    }
}

/// What a check found of a policy that may be stored. One that may not is answered as a problem, with a case in point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyChecked {
    /// `permit` or `forbid`.
    pub effect: String,
    /// `access`: who may do what. `places`: where content may be.
    pub about: String,
    /// In how many cases it was tried: every role, thing and action it could meet.
    pub tried: usize,
    /// In how many of them it applies.
    pub applies: usize,
    /// Of a policy about places: the sites of this cloud where it would forbid something that is allowed now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites_forbidden: Vec<String>,
}

/// Asks why something is allowed or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyExplain {
    /// What would be done: `job:create`.
    #[schema(example = "job:create")]
    pub action: String,
    /// To what: an id, or `cloud`.
    pub object: String,
    /// By which key, by id; absent: the one that asks. Another's needs `policy:read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A policy that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyReason {
    /// Its name: `role.owner`, `tenant.isolation`, `organisation:NAME`.
    pub rule: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// It in Cedar.
    pub text: String,
}

/// Why something is allowed or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyExplanation {
    /// The key that would do it.
    pub key: String,
    /// Its role.
    pub role: String,
    /// What it would do.
    pub action: String,
    /// To what.
    pub object: String,
    /// Whether it may.
    pub allowed: bool,
    /// If not: `no_permit`, `forbidden` or `evaluation_error`.
    pub reason: Option<String>,
    /// The policies that decided; none where nothing permits it.
    pub policies: Vec<PolicyReason>,
    /// What would have to change, any one of these; empty where nothing would help.
    pub would_need: Vec<String>,
}
