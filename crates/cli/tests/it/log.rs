//! A log as a control plane keeps it, small enough to be proved from all its leaves, and free to lie.

use ed25519_dalek::SigningKey;
use gregal_api::audit::{AuditConsistency, AuditList, AuditRecord, checkpoint_seal, note_seal};
use gregal_core::{
    audit::{AuditEntry, Checkpoint, ViewHead, ViewPlace, verifier_key_ed25519},
    id::OrganisationId,
    merkle::{self, Hash},
};
use serde_json::json;

use crate::fake::{AT, KEY, ORG};

pub(crate) const ORIGIN: &str = "audit.test/gregal";

/// The log.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) bodies: Vec<String>,
    /// Whose each entry is.
    of: Vec<Option<OrganisationId>>,
    key: SigningKey,
}

pub(crate) fn organisation() -> OrganisationId {
    ORG.parse().unwrap()
}

fn entry(object: &str, organisation: Option<OrganisationId>) -> AuditEntry {
    serde_json::from_value(json!({ "at": AT, "organisation": organisation, "actor": KEY, "action": "job:create",
        "object": object, "result": "done", "reason": null, "policy": "owner", "request": null, "salt": "00" }))
    .unwrap()
}

fn hexed(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

impl Log {
    /// A log whose key comes from a seed.
    pub(crate) fn new(seed: u8) -> Self {
        Self { bodies: Vec::new(), of: Vec::new(), key: SigningKey::from_bytes(&[seed; 32]) }
    }

    /// With entries of the organisation at every place but each third, which is another's.
    pub(crate) fn of(seed: u8, size: usize) -> Self {
        let mut log = Self::new(seed);
        log.grow(size);
        log
    }

    pub(crate) fn grow(&mut self, size: usize) {
        for number in self.bodies.len()..size {
            let of = if number % 3 == 2 { OrganisationId::from_u128(99) } else { organisation() };
            self.push(&format!("job_{number}"), Some(of));
        }
    }

    pub(crate) fn push(&mut self, object: &str, of: Option<OrganisationId>) {
        self.push_entry(entry(object, of));
    }

    pub(crate) fn push_entry(&mut self, entry: AuditEntry) {
        let view = entry.organisation.map(|organisation| {
            let leaves = self.leaves_of(organisation, self.bodies.len());
            ViewPlace { number: leaves.len() as u64, before: leaves.last().map(hex::encode) }
        });
        self.of.push(entry.organisation);
        self.bodies.push(AuditEntry { view, ..entry }.body());
    }

    /// Changes what stands at a place, as an operator with the database could.
    pub(crate) fn rewrite(&mut self, place: usize, from: &str, to: &str) {
        assert!(self.bodies[place].contains(from));
        self.bodies[place] = self.bodies[place].replacen(from, to, 1);
    }

    pub(crate) fn leaves(&self, size: usize) -> Vec<Hash> {
        self.bodies[..size].iter().map(|body| merkle::leaf_hash(body.as_bytes())).collect()
    }

    fn leaves_of(&self, organisation: OrganisationId, size: usize) -> Vec<Hash> {
        let own = self.of[..size].iter().map(|of| *of == Some(organisation));
        self.leaves(size).into_iter().zip(own).filter_map(|(leaf, own)| own.then_some(leaf)).collect()
    }

    pub(crate) fn log_key(&self) -> String {
        hex::encode(self.key.verifying_key().as_bytes())
    }

    pub(crate) fn verifier(&self) -> String {
        verifier_key_ed25519(ORIGIN, self.key.verifying_key().as_bytes())
    }

    pub(crate) fn checkpoint(&self, size: usize) -> String {
        let root = merkle::root(&self.leaves(size));
        checkpoint_seal(&Checkpoint { origin: ORIGIN.into(), size: size as u64, root }, &self.key).unwrap()
    }

    pub(crate) fn view_head(&self, size: usize) -> String {
        let own = self.leaves_of(organisation(), size);
        let head = ViewHead {
            origin: ORIGIN.into(),
            organisation: organisation(),
            entries: own.len() as u64,
            newest: own.last().copied().unwrap_or_else(merkle::empty_root),
            log_size: size as u64,
            log_root: merkle::root(&self.leaves(size)),
        };
        note_seal(ORIGIN, head.to_text(), &self.key).unwrap()
    }

    fn page(&self, size: usize, is_shown: impl Fn(usize) -> bool) -> AuditList {
        let leaves = self.leaves(size);
        let items = (0..size).filter(|place| is_shown(*place)).map(|place| AuditRecord {
            index: place as u64,
            body: self.bodies[place].clone(),
            proof: hexed(&merkle::inclusion_proof(&leaves, place).unwrap()),
        });
        AuditList {
            items: items.collect(),
            next: None,
            checkpoint: self.checkpoint(size),
            view_head: None,
            log_key: self.log_key(),
        }
    }

    /// The organisation's view of the first entries.
    pub(crate) fn view(&self, size: usize) -> AuditList {
        let page = self.page(size, |place| self.of[place] == Some(organisation()));
        AuditList { view_head: Some(self.view_head(size)), ..page }
    }

    /// All of the first entries.
    pub(crate) fn whole(&self, size: usize) -> AuditList {
        self.page(size, |_| true)
    }

    /// That the log of `new` entries begins with that of `old`.
    pub(crate) fn consistency(&self, old: usize, new: usize) -> AuditConsistency {
        AuditConsistency {
            old_size: old as u64,
            old_root: hex::encode(merkle::root(&self.leaves(old))),
            new_size: new as u64,
            proof: hexed(&merkle::consistency_proof(&self.leaves(new), old).unwrap()),
        }
    }
}
