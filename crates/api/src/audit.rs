//! The audit log on the wire: entries with proofs that anyone can check against a signed checkpoint.

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier};
use gregal_core::{
    audit::{Checkpoint, NoteError, NoteSignature, SignedNote, key_hash_ed25519},
    merkle,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::signed;

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

/// Why a page of the audit log is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The log's key is not the one expected, or not a key.
    #[error("the log's key is not the expected one")]
    Key,
    /// The checkpoint is malformed or its signature does not verify.
    #[error("the checkpoint does not verify: {0}")]
    Checkpoint(String),
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
            let proof = record
                .proof
                .iter()
                .map(|hash| hex::decode(hash).ok().and_then(|raw| raw.try_into().ok()))
                .collect::<Option<Vec<[u8; 32]>>>()
                .ok_or_else(wrong)?;
            let leaf = merkle::leaf_hash(record.body.as_bytes());
            if !merkle::verify_inclusion(&leaf, record.index, checkpoint.size, &proof, &checkpoint.root) {
                return Err(wrong());
            }
        }
        Ok(checkpoint)
    }
}

/// Signs a checkpoint as a C2SP signed note; the key's name is the log's origin.
pub fn checkpoint_seal(checkpoint: &Checkpoint, key: &SigningKey) -> Result<String, NoteError> {
    let text = checkpoint.to_text();
    let key_hash = key_hash_ed25519(&checkpoint.origin, key.verifying_key().as_bytes());
    let signature = key.sign(text.as_bytes()).to_bytes().to_vec();
    let signature = NoteSignature { name: checkpoint.origin.clone(), key_hash, signature };
    SignedNote { text, signatures: vec![signature] }.to_text()
}

/// Checks a signed checkpoint against the log's key and reads it.
pub fn checkpoint_open(note: &str, log_key: &str) -> Result<Checkpoint, AuditError> {
    let key = signed::verifying_key(log_key).ok_or(AuditError::Key)?;
    let note = SignedNote::from_text(note).map_err(|error| AuditError::Checkpoint(error.to_string()))?;
    let checkpoint = Checkpoint::from_text(&note.text).map_err(|error| AuditError::Checkpoint(error.to_string()))?;
    let key_hash = key_hash_ed25519(&checkpoint.origin, key.as_bytes());
    let signed = note
        .signatures
        .iter()
        .filter(|line| line.name == checkpoint.origin && line.key_hash == key_hash)
        .filter_map(|line| Signature::from_slice(&line.signature).ok())
        .any(|signature| key.verify(note.text.as_bytes(), &signature).is_ok());
    if signed { Ok(checkpoint) } else { Err(AuditError::Checkpoint("no signature of the log's key".into())) }
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
        (AuditList { items, next: None, checkpoint, log_key: log_key.clone() }, log_key)
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
