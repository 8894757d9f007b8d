//! Proving a log that was read in pages: each entry, and the pages with each other.

use gregal_core::{
    audit::Checkpoint,
    merkle::{self, Hash},
};

use super::Export;
use crate::failure::Failure;

/// What was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proved {
    /// Entries shown and proved.
    pub(crate) entries: u64,
    /// The newest checkpoint.
    pub(crate) checkpoint: Checkpoint,
    /// The key that signed it.
    pub(crate) log_key: String,
    /// Every leaf from 0 on, where the whole log was read.
    pub(crate) leaves: Option<Vec<Hash>>,
}

/// Proves every entry against its page's checkpoint, and that the checkpoints are of one growing log.
pub(crate) fn prove(log: &Export, log_key: &str) -> Result<Proved, Failure> {
    let mut newest: Option<Checkpoint> = None;
    let mut last: Option<u64> = None;
    let mut entries = 0;
    for page in &log.pages {
        let checkpoint = page.verify(log_key).map_err(|error| {
            Failure::yours(format!("the audit log does not verify: {error}"))
                .hint("keep what was read (`gregal audit list --json`) and ask the operator; somebody changed the log or the answer")
                .code(if error == gregal_api::audit::AuditError::Key { "audit_key" } else { "audit" })
        })?;
        if let Some(before) = &newest {
            follows(before, &checkpoint)?;
        }
        for record in &page.items {
            if last.is_some_and(|last| record.index <= last) {
                return Err(broken(&format!("entry {} is shown twice or out of order", record.index)));
            }
            last = Some(record.index);
            entries += 1;
        }
        newest = Some(checkpoint);
    }
    let checkpoint = newest.ok_or_else(|| broken("there is no checkpoint"))?;
    let leaves = if log.view == "all" { Some(whole(log, &checkpoint)?) } else { None };
    Ok(Proved { entries, checkpoint, log_key: log_key.into(), leaves })
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

/// Whoever reads the whole log must have been shown all of it, and it must come to the checkpoint's root.
fn whole(log: &Export, checkpoint: &Checkpoint) -> Result<Vec<Hash>, Failure> {
    let mut leaves = Vec::new();
    for record in log.pages.iter().flat_map(|page| &page.items) {
        if record.index != leaves.len() as u64 {
            return Err(broken(&format!("entry {} is missing", leaves.len())));
        }
        leaves.push(merkle::leaf_hash(record.body.as_bytes()));
    }
    if leaves.len() as u64 != checkpoint.size {
        return Err(broken(&format!("{} entries were shown, the checkpoint is of {}", leaves.len(), checkpoint.size)));
    }
    if merkle::root(&leaves) != checkpoint.root {
        return Err(broken("its entries do not come to the checkpoint's root"));
    }
    Ok(leaves)
}

pub(crate) fn broken(why: &str) -> Failure {
    Failure::yours(format!("the audit log does not verify: {why}")).hint(
        "keep what was read (`gregal audit list --json`) and ask the operator; somebody changed the log or the answer",
    )
}
