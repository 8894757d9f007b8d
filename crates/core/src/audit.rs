//! Audit entries: who did what to what, with which result and by which policy.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use crate::{
    id::{OrganisationId, RequestId},
    merkle::Hash,
    time::Time,
};

mod key;
mod note;
mod person;
mod view;

pub use key::{KeyKind, VerifierKey, cosigned};
pub use note::{NoteError, NoteSignature, SignedNote, key_hash_ed25519, verifier_key_ed25519};
pub use person::person_name;
pub use view::{ViewChain, ViewError, ViewHead, ViewPlace};

/// One thing that was done, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Time,
    /// Whose view it belongs to; none for what concerns the cloud alone.
    pub organisation: Option<OrganisationId>,
    /// Who: a key id, a site id, or `system:TASK`.
    pub actor: String,
    /// What, as `noun:verb`.
    pub action: String,
    /// To what: an id.
    pub object: String,
    /// `done`, `denied` or `refused`.
    pub result: String,
    /// Why, for people; never content or a secret.
    pub reason: Option<String>,
    /// The policy that decided.
    pub policy: Option<String>,
    /// The request it came with.
    pub request: Option<RequestId>,
    /// Through which door it came: `api`, `console`, `site` or `task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Facts of the change that others may need (amounts, states, digests); never content or a secret.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// 16 random bytes, hex, of this entry alone: with them its leaf hash, which everyone may read, tells nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Where it stands in its organisation's view. Given by the log when the entry is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<ViewPlace>,
}

impl AuditEntry {
    /// The exact bytes that enter the log: compact JSON, fields in the order they stand in this type.
    pub fn body(&self) -> String {
        serde_json::to_string(self).expect("plain data always serialises")
    }
}

/// An entry as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEntry {
    /// Its place in the log, from 0, without gaps.
    pub index: u64,
    /// The exact bytes that were hashed.
    pub body: String,
    /// Whose view it belongs to.
    pub organisation: Option<OrganisationId>,
    /// RFC 6962 leaf hash of the body.
    pub leaf: [u8; 32],
}

/// The state of a log at one moment, as C2SP `tlog-checkpoint` writes it: three lines, signed elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name: unique and lasting, like `audit.example.eu/gregal`.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Hash,
}

/// A text that is no checkpoint of a Gregal log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: {why}")]
pub struct CheckpointError {
    /// What is wrong.
    pub why: &'static str,
}

impl Checkpoint {
    /// The note's text: origin, size, root in base64, each with a line end.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    /// Reads a note's text. Extension lines are refused: this log writes none, and what is signed but not understood must
    /// not pass as understood.
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let wrong = |why| CheckpointError { why };
        let body = text.strip_suffix('\n').ok_or(wrong("the last line has no end"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(wrong("it has not exactly three lines"));
        };
        if origin.is_empty() || origin.chars().any(char::is_control) {
            return Err(wrong("the first line is no origin"));
        }
        let parsed: u64 = size.parse().map_err(|_| wrong("the second line is no size"))?;
        if parsed.to_string() != size {
            return Err(wrong("the size has leading zeros or a sign"));
        }
        let bytes = BASE64.decode(root).map_err(|_| wrong("the third line is not base64"))?;
        let root = Hash::try_from(bytes).map_err(|_| wrong("the root has not 32 bytes"))?;
        Ok(Self { origin: origin.into(), size: parsed, root })
    }
}
