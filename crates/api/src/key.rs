//! Keys on the wire.

use gregal_core::{
    access::Role,
    id::{KeyId, OrganisationId, PersonId, ProjectId, ServiceAccountId},
    key::Key,
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scope::ScopeView;

/// Makes a key of a project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyCreate {
    /// What people call it, 1 to 80 characters.
    pub name: String,
    /// What it may do; nobody can grant more than he holds.
    #[schema(value_type = String, example = "developer")]
    pub role: Role,
    /// Seconds until it stops working by itself; absent: when the key that asks does, or never.
    #[serde(default)]
    pub expires_in_s: Option<u32>,
    /// What it is narrowed to. A part left out is narrowed as the key that asks; none may be wider than that.
    #[serde(default, skip_serializing_if = "ScopeView::is_open")]
    pub scope: ScopeView,
}

/// Gives a key's place to a new one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRotate {
    /// Seconds during which both work, at most 30 days; absent: a day. 0 ends the old one at once.
    #[serde(default)]
    pub overlap_s: Option<u32>,
    /// Seconds until the new one stops working by itself; absent: when the old one would have.
    #[serde(default)]
    pub expires_in_s: Option<u32>,
}

/// A key, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// The organisation it acts for.
    #[schema(value_type = Option<String>)]
    pub organisation: Option<OrganisationId>,
    /// The one project it is bound to.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// What people call it.
    pub name: String,
    /// What it may do.
    #[schema(value_type = String)]
    pub role: Role,
    /// Whose sign-in made it; absent for a program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub person: Option<PersonId>,
    /// The service account it acts as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub service_account: Option<ServiceAccountId>,
    /// When it was used last, a minute or two late; absent: never, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Time>,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Time,
    /// When it stops working by itself.
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Time>,
    /// When it was revoked.
    #[schema(value_type = Option<String>)]
    pub revoked_at: Option<Time>,
    /// What it is narrowed to, within what its role carries.
    #[serde(default, skip_serializing_if = "ScopeView::is_open")]
    pub scope: ScopeView,
    /// The key whose place it took.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<KeyId>,
    /// The key that takes its place; this one ends by itself.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<KeyId>,
}

impl From<&Key> for KeyView {
    fn from(key: &Key) -> Self {
        Self {
            id: key.id,
            organisation: key.organisation,
            project: key.project,
            name: key.name.clone(),
            role: key.role,
            person: key.person,
            service_account: key.account,
            last_used_at: None,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            scope: (&key.scope).into(),
            replaces: key.replaces,
            replaced_by: key.replaced_by,
        }
    }
}

/// A new key with its secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyCreated {
    /// The key.
    pub key: KeyView,
    /// The secret, shown only here. None when an idempotent retry asks again: it is not kept.
    pub secret: Option<String>,
}

// A secret must not reach a log by way of `{:?}`.
impl std::fmt::Debug for KeyCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCreated").field("key", &self.key).field("secret", &"[hidden]").finish()
    }
}

/// Whom a key acts for and what it may do.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The key.
    pub key: KeyView,
    /// What its role allows and its scope leaves in, as `noun:verb`.
    pub actions: Vec<String>,
}
