//! Keys: credentials that programs carry. Only their digest is ever kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::scope::Scope;
use crate::{
    access::{Action, Role},
    id::{KeyId, OrganisationId, PersonId, ProjectId, ServiceAccountId},
    time::Time,
};

/// Where a key comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Made by hand for a program; lives until it expires or is revoked.
    #[default]
    Made,
    /// Made by a sign-in, for the person named; short.
    Session,
    /// Made by exchanging another system's token (a CI run's, say); short.
    Workload,
}

impl KeyKind {
    /// Whether it was made by hand; what the wire and the rows leave out.
    pub const fn is_made(&self) -> bool {
        matches!(self, Self::Made)
    }
}

/// What a key is known by. The secret itself exists only in the answer that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// The organisation it acts for; none for an operator's key.
    pub organisation: Option<OrganisationId>,
    /// The one project it is bound to; none lets it reach every project of its organisation.
    pub project: Option<ProjectId>,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the secret, hex.
    pub digest: String,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "KeyKind::is_made")]
    pub kind: KeyKind,
    /// Whose sign-in made it; none for a program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// The service account it acts as; none acts under its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ServiceAccountId>,
    /// What it is narrowed to.
    #[serde(default, skip_serializing_if = "Scope::is_open")]
    pub scope: Scope,
    /// When it was made.
    pub created_at: Time,
    /// When it stops working by itself.
    pub expires_at: Option<Time>,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
    /// The key whose place it takes: made by rotating that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<KeyId>,
    /// The key that takes its place. It ends by itself when the overlap of the two is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<KeyId>,
    /// Grows by one with every change.
    pub version: u64,
}

impl Key {
    /// Whether the key works at this time.
    pub fn works_at(&self, now: Time) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

impl Key {
    /// Whether it is the credential of an organisation's directory: it provisions, and does nothing else.
    pub fn is_directory(&self) -> bool {
        let only = |actions: &BTreeSet<Action>| actions.len() == 1 && actions.contains(&Action::ScimProvision);
        self.project.is_none() && self.scope.actions.as_ref().is_some_and(only)
    }
}

/// What every secret starts with, so that scanners find leaked ones.
pub const SECRET_PREFIX: &str = "gk_";

/// Shapes 32 bytes of entropy into a secret: `gk_` and 64 hex digits.
pub fn secret_from(entropy: &[u8; 32]) -> String {
    format!("{SECRET_PREFIX}{}", hex::encode(entropy))
}

/// SHA-256 of a secret, hex. Secrets carry 256 bits of entropy, so a slow hash would add nothing.
pub fn digest_of(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}
