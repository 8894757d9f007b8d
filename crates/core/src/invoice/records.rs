//! What an invoice was made of, in one digest that is frozen with it: a record that was changed where it costs nothing, or
//! moved between two that cancel out, is seen too.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::meter::UsageEvent;

/// What of a record counts, by the names it is exported under. What a later version adds to a record is not among them, so
/// that old digests stay right.
const FIELDS: [&str; 12] = [
    "id",
    "organisation",
    "project",
    "site",
    "meter",
    "item",
    "quantity",
    "subject",
    "started_at",
    "ended_at",
    "allowance",
    "estimated",
];

/// The digest as it grows, in any order. It keeps 32 bytes a record.
#[derive(Debug, Default)]
pub struct RecordsDigest(Vec<[u8; 32]>);

impl RecordsDigest {
    /// Adds a record as it is exported.
    pub fn add(&mut self, record: &Value) {
        let facts: Value = FIELDS.iter().map(|field| record.get(field).cloned().unwrap_or(Value::Null)).collect();
        // The text of a JSON list of texts, numbers and nulls: one way to write it, so one digest.
        self.0.push(Sha256::digest(facts.to_string()).into());
    }

    /// Adds an event that is about to be invoiced.
    pub fn add_event(&mut self, event: &UsageEvent) {
        self.add(&serde_json::to_value(event).unwrap_or(Value::Null));
    }

    /// SHA-256 over the records' own SHA-256s in ascending order, hex.
    pub fn hex(mut self) -> String {
        self.0.sort_unstable();
        let mut all = Sha256::new();
        for one in self.0 {
            all.update(one);
        }
        hex::encode(all.finalize())
    }
}
