//! Proving a log that was read: each entry against the checkpoint, the view against its head, and the past it shows.

use std::collections::BTreeMap;

use gregal_api::audit::{checkpoint_open, cosigned_at, view_head_open};
use gregal_core::{
    audit::{Checkpoint, KeyKind, VerifierKey, ViewChain},
    id::OrganisationId,
    merkle::{self, Frontier, Hash},
};

use super::file::{ALL, Log};
use crate::failure::Failure;

/// What was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proved {
    /// Entries shown and proved.
    pub(crate) entries: u64,
    /// Leaf hash of the newest of them.
    pub(crate) newest: Option<Hash>,
    /// The checkpoint they are proved against.
    pub(crate) checkpoint: Checkpoint,
    /// The key that signed it.
    pub(crate) key: VerifierKey,
    /// Roots of the log at earlier sizes, shown to be the beginning of it.
    pub(crate) past: BTreeMap<u64, Hash>,
}

/// Proves everything a log says of itself. `trusted` is the log's key (Ed25519, hex); without one, its own word is taken.
pub(crate) fn prove(log: &Log, trusted: Option<&str>) -> Result<Proved, Failure> {
    let key: VerifierKey = log.basis.log.parse().map_err(|error| broken(&format!("the log's key: {error}")))?;
    let public = hex::encode(key.public);
    if key.kind != KeyKind::Log || trusted.is_some_and(|trusted| trusted != public) {
        return Err(broken("the log's key is not the expected one").code("audit_key"));
    }
    let checkpoint = checkpoint_open(&log.basis.checkpoint, &public).map_err(|error| broken(&error.to_string()))?;
    if checkpoint.origin != key.name {
        return Err(broken("the key is of another log"));
    }
    let mut last = None;
    for record in &log.items {
        if last.is_some_and(|last| record.index <= last) {
            return Err(broken(&format!("entry {} is shown twice or out of order", record.index)));
        }
        last = Some(record.index);
        if !record.is_in(&checkpoint) {
            return Err(broken(&format!("entry {} is not in the log as the checkpoint has it", record.index)));
        }
    }
    if log.basis.view == ALL {
        whole(log, &checkpoint)?;
    } else {
        view(log, &checkpoint, &public)?;
    }
    let mut past = BTreeMap::from([(checkpoint.size, checkpoint.root)]);
    for shown in &log.basis.consistency {
        let root = shown.old_root(&checkpoint);
        let size = shown.old_size;
        past.insert(size, root.ok_or_else(|| broken(&format!("it does not show how it grew from {size} entries")))?);
    }
    let newest = log.items.last().map(|record| merkle::leaf_hash(record.body.as_bytes()));
    Ok(Proved { entries: log.items.len() as u64, newest, checkpoint, key, past })
}

/// Whoever reads the whole log must have been shown all of it, and it must come to the checkpoint's root.
fn whole(log: &Log, checkpoint: &Checkpoint) -> Result<(), Failure> {
    if log.basis.view_head.is_some() {
        return Err(broken("the whole log has no head of a view"));
    }
    let mut tree = Frontier::default();
    for record in &log.items {
        if record.index != tree.size() {
            return Err(broken(&format!("entry {} is missing", tree.size())));
        }
        tree.push(merkle::leaf_hash(record.body.as_bytes()));
    }
    if tree.size() != checkpoint.size {
        return Err(broken(&format!("{} entries were shown, the checkpoint is of {}", tree.size(), checkpoint.size)));
    }
    if tree.root() == checkpoint.root {
        Ok(())
    } else {
        Err(broken("its entries do not come to the checkpoint's root"))
    }
}

/// Whoever reads a view must have been shown every number of it, up to the one its signed head names.
fn view(log: &Log, checkpoint: &Checkpoint, public: &str) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| broken(&error.to_string());
    let organisation: OrganisationId = log.basis.view.parse().map_err(|error| wrong(&error))?;
    let Some(note) = &log.basis.view_head else { return Err(broken("the view comes without its signed head")) };
    let head = view_head_open(note, public).map_err(|error| wrong(&error))?;
    if head.organisation != organisation || head.origin != checkpoint.origin {
        return Err(broken("the head is of another view"));
    }
    if (head.log_size, head.log_root) != (checkpoint.size, checkpoint.root) {
        return Err(broken("the head of the view is of another moment than the checkpoint"));
    }
    let mut chain = ViewChain::new(organisation);
    for record in &log.items {
        chain.push(record.index, &record.body).map_err(|error| wrong(&error))?;
    }
    chain.ends_at(&head).map_err(|error| wrong(&error))
}

/// Demands that witnesses cosigned the checkpoint: `least` of those known. Answers with how many did.
pub(crate) fn witnessed(log: &Log, known: &[VerifierKey], least: usize) -> Result<usize, Failure> {
    let found = known.iter().filter(|witness| cosigned_at(&log.basis.checkpoint, witness).is_some()).count();
    if found >= least {
        return Ok(found);
    }
    Err(broken(&format!("{found} of the known witnesses cosigned its checkpoint, {least} are demanded")))
}

/// A later checkpoint is of the same log, and not of less of it.
pub(crate) fn follows(before: &Checkpoint, after: &Checkpoint) -> Result<(), Failure> {
    if before.origin != after.origin {
        return Err(broken(&format!("it calls itself `{}`, and `{}` before", after.origin, before.origin)));
    }
    if after.size < before.size {
        return Err(broken(&format!(
            "it has {} entries, and had {} before: a log never shrinks",
            after.size, before.size
        )));
    }
    if after.size == before.size && after.root != before.root {
        return Err(broken(&format!(
            "it has the same {} entries as before, but another root: its past was changed",
            after.size
        )));
    }
    Ok(())
}

pub(crate) fn broken(why: &str) -> Failure {
    Failure::yours(format!("the audit log does not verify: {why}")).code("audit").hint(
        "keep what was read (`gregal audit list --json`) and ask the operator; somebody changed the log or the answer",
    )
}
