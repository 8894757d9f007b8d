//! Reading the log from the cloud, as of one checkpoint.

use gregal_api::{
    audit::{AuditConsistency, AuditList, AuditQuery, ConsistencyQuery},
    page::PAGE_LIMIT_MAX,
};
use gregal_core::audit::{Checkpoint, KeyKind, SignedNote, VerifierKey};

use super::{
    file::{ALL, Basis, FORMAT, Log},
    proof::broken,
};
use crate::{
    context::{Cx, PAGES_MAX},
    failure::Failure,
};

/// What is wanted of the log.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The whole log instead of the organisation's view.
    pub(crate) all: bool,
    /// Entries after this index only.
    pub(crate) after: Option<u64>,
    /// As it was when it had so many entries.
    pub(crate) at: Option<u64>,
}

/// Reads all pages of a view. Nothing is proved yet.
pub(crate) async fn read(cx: &mut Cx<'_>, wanted: &Wanted) -> Result<Log, Failure> {
    let view = if wanted.all { ALL.to_owned() } else { cx.organisation().await? };
    let mut query = AuditQuery { after: wanted.after, limit: Some(PAGE_LIMIT_MAX), at: wanted.at };
    let mut log: Option<Log> = None;
    for _ in 0..PAGES_MAX {
        let call =
            if wanted.all { cx.client.call("audit_list_all", &[]) } else { cx.client.call("audit_list", &[&view]) };
        let page: AuditList = cx.told(call.query(&query).send().await)?;
        let next = page.next;
        match &mut log {
            None => {
                let (basis, size) = basis(&view, &page)?;
                // Every later page is of the same moment, however the log grows meanwhile.
                query.at = Some(size);
                log = Some(Log { basis, items: page.items });
            }
            Some(log) if page.checkpoint == log.basis.checkpoint && page.view_head == log.basis.view_head => {
                log.items.extend(page.items);
            }
            Some(_) => return Err(broken("two pages of one moment have different checkpoints")),
        }
        match next {
            // A page that leads nowhere new would be read for ever.
            Some(next) if query.after.is_some_and(|after| next <= after) => {
                return Err(Failure::ours("the audit log's pages do not go forward"));
            }
            Some(next) => query.after = Some(next),
            None => return log.ok_or_else(|| Failure::ours("the audit log has no page")),
        }
    }
    Err(Failure::yours(format!("the log has more than {} entries to show", PAGES_MAX * PAGE_LIMIT_MAX as usize))
        .hint("`gregal audit list --after INDEX` shows the newer ones"))
}

fn basis(view: &str, page: &AuditList) -> Result<(Basis, u64), Failure> {
    let checkpoint = unverified(&page.checkpoint)?;
    let bytes = hex::decode(&page.log_key).ok().and_then(|bytes| bytes.try_into().ok());
    let public = bytes.ok_or_else(|| broken("the log's key is no key"))?;
    let log = VerifierKey { name: checkpoint.origin, kind: KeyKind::Log, public };
    let basis = Basis {
        format: FORMAT.into(),
        view: view.to_owned(),
        log: log.to_string(),
        checkpoint: page.checkpoint.clone(),
        view_head: page.view_head.clone(),
        consistency: Vec::new(),
    };
    Ok((basis, checkpoint.size))
}

/// What a checkpoint says, before anybody believed it.
pub(crate) fn unverified(note: &str) -> Result<Checkpoint, Failure> {
    let note = SignedNote::from_text(note).map_err(|error| broken(&error.to_string()))?;
    Checkpoint::from_text(&note.text).map_err(|error| broken(&error.to_string()))
}

/// Asks for the proofs that the log began as it was at these sizes, each once. A size beyond the log is left out: what that
/// means is for whoever remembers it to say.
pub(crate) async fn consistency(cx: &Cx<'_>, log: &mut Log, sizes: &[u64]) -> Result<(), Failure> {
    let new = unverified(&log.basis.checkpoint)?.size;
    for old in sizes.iter().copied().filter(|old| *old > 0 && *old < new) {
        if log.basis.consistency.iter().all(|shown| shown.old_size != old) {
            let query = ConsistencyQuery { old, new: Some(new) };
            let shown: AuditConsistency = cx.read_where("audit_consistency", &[], &query).await?;
            if shown.old_size != old {
                return Err(broken("it answers another question than was asked"));
            }
            log.basis.consistency.push(shown);
        }
    }
    Ok(())
}
