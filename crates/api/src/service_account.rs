//! Service accounts on the wire.

use std::collections::BTreeMap;

use gregal_core::{
    access::Role,
    id::{OrganisationId, ProjectId, ServiceAccountId},
    service_account::{ServiceAccount, Trust},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scope::ScopeView;

/// Makes a service account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountCreate {
    /// What people call it, 1 to 80 characters.
    pub name: String,
    /// What its keys may do; nobody can grant more than he holds. It never changes.
    #[schema(value_type = String, example = "developer")]
    pub role: Role,
    /// The one project it reaches; absent: every project of the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// What all of its keys are narrowed to. A part left out is narrowed as the key that asks; none may be wider than that.
    #[serde(default, skip_serializing_if = "ScopeView::is_open")]
    pub scope: ScopeView,
}

/// Changes a service account. What is left out stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountWrite {
    /// Whether it is in use. Disabling ends all of its keys; enabling brings none of them back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whose tokens stand for it, all of them: at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusts: Option<Vec<TrustView>>,
}

/// An issuer whose tokens stand for a service account, and which of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustView {
    /// The issuer's address (https), as its tokens spell it.
    #[schema(example = "https://ci.example.eu")]
    pub issuer: String,
    /// Whom its tokens must be for, alone.
    #[schema(example = "https://cloud.example.eu")]
    pub audience: String,
    /// What its tokens must say, by claim; at least one. `*` stands for any run of characters without `/`, `**` for any run.
    pub claims: BTreeMap<String, String>,
}

impl From<TrustView> for Trust {
    fn from(view: TrustView) -> Self {
        Self { issuer: view.issuer, audience: view.audience, claims: view.claims }
    }
}

impl From<&Trust> for TrustView {
    fn from(trust: &Trust) -> Self {
        Self { issuer: trust.issuer.clone(), audience: trust.audience.clone(), claims: trust.claims.clone() }
    }
}

/// A service account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ServiceAccountView {
    /// Its id, by which policies and the audit log know it.
    #[schema(value_type = String)]
    pub id: ServiceAccountId,
    /// The organisation it belongs to.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// The one project it reaches; none: every project of the organisation.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// What people call it.
    pub name: String,
    /// What its keys may do.
    #[schema(value_type = String)]
    pub role: Role,
    /// What all of its keys are narrowed to.
    #[serde(default, skip_serializing_if = "ScopeView::is_open")]
    pub scope: ScopeView,
    /// Whose tokens stand for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusts: Vec<TrustView>,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Time,
    /// Since when nothing works under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub disabled_at: Option<Time>,
}

impl From<&ServiceAccount> for ServiceAccountView {
    fn from(account: &ServiceAccount) -> Self {
        Self {
            id: account.id,
            organisation: account.organisation,
            project: account.project,
            name: account.name.clone(),
            role: account.role,
            scope: (&account.scope).into(),
            trusts: account.trusts.iter().map(Into::into).collect(),
            created_at: account.created_at,
            disabled_at: account.disabled_at,
        }
    }
}

/// Makes a key of a service account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountKeyCreate {
    /// What people call it, 1 to 80 characters.
    pub name: String,
    /// Seconds until it stops working by itself; absent: when the key that asks does, or with the account.
    #[serde(default)]
    pub expires_in_s: Option<u32>,
    /// What it is narrowed to. A part left out is narrowed as the account and the key that asks; none may be wider than either.
    #[serde(default, skip_serializing_if = "ScopeView::is_open")]
    pub scope: ScopeView,
}
