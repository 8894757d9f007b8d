//! The audit log on the wire: entries with proofs that anyone can check against a signed checkpoint.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which entries are wanted, as query parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Entries after this index; absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Entries wanted, 1 to 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// An entry and its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Its place in the log, from 0.
    pub index: u64,
    /// The exact text that was hashed: an audit entry as JSON.
    pub body: String,
    /// RFC 6962 inclusion proof up to the checkpoint's root, hex.
    pub proof: Vec<String>,
}

/// A page of entries and the checkpoint their proofs lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The entries.
    pub items: Vec<AuditRecord>,
    /// Where the next page begins; none on the last one.
    pub next: Option<u64>,
    /// The signed checkpoint (C2SP signed note).
    pub checkpoint: String,
    /// The log's public key (Ed25519), hex.
    pub log_key: String,
}
