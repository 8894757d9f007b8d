//! The audit log on the wire: entries with proofs that anyone can check against a signed checkpoint.

use ed25519_dalek::{Signature, Signer, SigningKey};
use gregal_core::{
    audit::{Checkpoint, NoteError, NoteSignature, SignedNote, ViewHead, key_hash_ed25519},
    merkle::{self, Hash},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::signed;

mod witness;

pub use witness::{WitnessKey, cosigned_at};

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
    /// Read the log as it was when it had so many entries; absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// Between which sizes the log is to be shown to have only grown, as query parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyQuery {
    /// The earlier size; absent: the empty log, which everything continues.
    #[serde(default)]
    pub old: u64,
    /// The later size; absent: as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<u64>,
}

/// Shows that a log began as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditConsistency {
    /// The earlier size.
    pub old_size: u64,
    /// Root of the tree then, hex: compare it with the checkpoint you kept.
    pub old_root: String,
    /// The later size.
    pub new_size: u64,
    /// RFC 6962 consistency proof, hex.
    pub proof: Vec<String>,
}

impl AuditConsistency {
    /// The earlier root, if a checkpoint of the later size is shown to begin with it.
    pub fn old_root(&self, checkpoint: &Checkpoint) -> Option<Hash> {
        let old_root = hash_in(&self.old_root)?;
        let proof = self.proof.iter().map(|hash| hash_in(hash)).collect::<Option<Vec<Hash>>>()?;
        let holds = self.new_size == checkpoint.size
            && merkle::verify_consistency(self.old_size, self.new_size, &old_root, &checkpoint.root, &proof);
        holds.then_some(old_root)
    }
}

/// A hash in its one spelling: hex, lower case.
fn hash_in(text: &str) -> Option<Hash> {
    let hash = Hash::try_from(hex::decode(text).ok()?).ok()?;
    (hex::encode(hash) == text).then_some(hash)
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
    /// How many entries the organisation's view has and which is the newest, signed (a note of seven lines). None where the
    /// whole log is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_head: Option<String>,
    /// The log's public key (Ed25519), hex.
    pub log_key: String,
}

/// Why a page of the audit log is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The log's key is not the one expected, or not a key.
    #[error("the log's key is not the expected one")]
    Key,
    /// The checkpoint is malformed or its signature does not verify.
    #[error("the checkpoint does not verify: {0}")]
    Checkpoint(String),
    /// The head of the organisation's view is malformed or its signature does not verify.
    #[error("the head of the view does not verify: {0}")]
    View(String),
    /// An entry's text is not what was logged at its place.
    #[error("entry {index} is not in the log as the checkpoint has it")]
    Entry {
        /// Its place.
        index: u64,
    },
}

impl AuditList {
    /// Checks the checkpoint's signature and every entry's inclusion proof against it, without asking anyone.
    /// `log_key` is the key the reader trusts (Ed25519, hex): the first seen, or one got by another way.
    pub fn verify(&self, log_key: &str) -> Result<Checkpoint, AuditError> {
        if self.log_key != log_key {
            return Err(AuditError::Key);
        }
        let checkpoint = checkpoint_open(&self.checkpoint, log_key)?;
        for record in &self.items {
            let wrong = || AuditError::Entry { index: record.index };
            if !record.is_in(&checkpoint) {
                return Err(wrong());
            }
        }
        Ok(checkpoint)
    }
}

impl AuditRecord {
    /// Whether it is proved to stand at its place in the log of this checkpoint.
    pub fn is_in(&self, checkpoint: &Checkpoint) -> bool {
        let Some(proof) = self.proof.iter().map(|hash| hash_in(hash)).collect::<Option<Vec<Hash>>>() else {
            return false;
        };
        let leaf = merkle::leaf_hash(self.body.as_bytes());
        merkle::verify_inclusion(&leaf, self.index, checkpoint.size, &proof, &checkpoint.root)
    }
}

/// Signs a checkpoint as a C2SP signed note; the key's name is the log's origin.
pub fn checkpoint_seal(checkpoint: &Checkpoint, key: &SigningKey) -> Result<String, NoteError> {
    note_seal(&checkpoint.origin, checkpoint.to_text(), key)
}

/// Signs a text of the log as a C2SP signed note; the key's name is the log's origin.
pub fn note_seal(origin: &str, text: String, key: &SigningKey) -> Result<String, NoteError> {
    let key_hash = key_hash_ed25519(origin, key.verifying_key().as_bytes());
    let signature = key.sign(text.as_bytes()).to_bytes().to_vec();
    SignedNote { text, signatures: vec![NoteSignature { name: origin.into(), key_hash, signature }] }.to_text()
}

/// Checks a signed checkpoint against the log's key and reads it.
pub fn checkpoint_open(note: &str, log_key: &str) -> Result<Checkpoint, AuditError> {
    let note = SignedNote::from_text(note).map_err(|error| AuditError::Checkpoint(error.to_string()))?;
    let checkpoint = Checkpoint::from_text(&note.text).map_err(|error| AuditError::Checkpoint(error.to_string()))?;
    if is_signed(&note, &checkpoint.origin, log_key)? {
        return Ok(checkpoint);
    }
    Err(AuditError::Checkpoint("no signature of the log's key".into()))
}

/// Checks the signed head of an organisation's view against the log's key and reads it.
pub fn view_head_open(note: &str, log_key: &str) -> Result<ViewHead, AuditError> {
    let note = SignedNote::from_text(note).map_err(|error| AuditError::View(error.to_string()))?;
    let head = ViewHead::from_text(&note.text).map_err(|error| AuditError::View(error.to_string()))?;
    if is_signed(&note, &head.origin, log_key)? {
        return Ok(head);
    }
    Err(AuditError::View("no signature of the log's key".into()))
}

fn is_signed(note: &SignedNote, origin: &str, log_key: &str) -> Result<bool, AuditError> {
    let key = signed::verifying_key(log_key).ok_or(AuditError::Key)?;
    let key_hash = key_hash_ed25519(origin, key.as_bytes());
    let of_the_log = note.signatures.iter().filter(|line| line.name == origin && line.key_hash == key_hash);
    Ok(of_the_log
        .filter_map(|line| Signature::from_slice(&line.signature).ok())
        .any(|signature| key.verify_strict(note.text.as_bytes(), &signature).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bodies: &[&str]) -> (AuditList, String) {
        let key = SigningKey::from_bytes(&[3; 32]);
        let leaves: Vec<_> = bodies.iter().map(|body| merkle::leaf_hash(body.as_bytes())).collect();
        let checkpoint =
            Checkpoint { origin: "test/log".into(), size: leaves.len() as u64, root: merkle::root(&leaves) };
        let items = bodies
            .iter()
            .enumerate()
            .map(|(index, body)| AuditRecord {
                index: index as u64,
                body: (*body).into(),
                proof: merkle::inclusion_proof(&leaves, index).unwrap().iter().map(hex::encode).collect(),
            })
            .collect();
        let log_key = hex::encode(key.verifying_key().as_bytes());
        let checkpoint = checkpoint_seal(&checkpoint, &key).unwrap();
        (AuditList { items, next: None, checkpoint, view_head: None, log_key: log_key.clone() }, log_key)
    }

    #[test]
    fn an_honest_page_verifies_and_any_change_is_found() {
        let (honest, key) = page(&["a", "b", "c", "d", "e"]);
        assert_eq!(honest.verify(&key).map(|checkpoint| checkpoint.size), Ok(5));

        let mut edited = honest.clone();
        edited.items[3].body = "D".into();
        assert_eq!(edited.verify(&key), Err(AuditError::Entry { index: 3 }));

        let mut moved = honest.clone();
        moved.items[1].index = 2;
        assert_eq!(moved.verify(&key), Err(AuditError::Entry { index: 2 }));

        let mut forged = honest.clone();
        forged.checkpoint = forged.checkpoint.replace("\n5\n", "\n6\n");
        assert!(matches!(forged.verify(&key), Err(AuditError::Checkpoint(_))));
        assert_eq!(honest.verify(&"00".repeat(32)), Err(AuditError::Key));
    }
}
