//! The audit log as it is shown: entries, tiles, and proofs that anyone can check against a signed checkpoint.

use gregal_api::{
    audit::{AuditConsistency, AuditList, AuditRecord},
    problem::Code,
};
use gregal_core::{
    access::Action,
    audit::{Checkpoint, ViewHead},
    id::OrganisationId,
    merkle::{Hash, Wanted},
};
use gregal_policy::Resource;
use tokio::sync::Mutex;

use crate::{Control, Cx, Error, Result, app::audit::shelf::Shelf};

pub(crate) mod shelf;
pub(crate) mod tile;

/// The log's full tiles that were read last: at most 8 MiB of them.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Shelf>);

impl Control {
    /// An organisation's view of the log; as it was when the log had `at` entries, if that is said.
    pub(crate) async fn audit_list(
        &self,
        cx: &Cx,
        id: OrganisationId,
        after: Option<u64>,
        limit: u32,
        at: Option<u64>,
    ) -> Result<AuditList> {
        self.organisation_seen(cx, id, Action::AuditRead).await?;
        self.audit_page(Some(id), after, limit, at).await
    }

    /// The whole log.
    pub(crate) async fn audit_list_all(
        &self,
        cx: &Cx,
        after: Option<u64>,
        limit: u32,
        at: Option<u64>,
    ) -> Result<AuditList> {
        self.authorize(cx, Action::AuditReadAll, &Resource::cloud()).await?;
        self.audit_page(None, after, limit, at).await
    }

    /// The signed checkpoint of the log as it is now.
    pub(crate) async fn audit_checkpoint(&self) -> Result<String> {
        let (size, root) = self.store().audit_head().await?;
        self.signer().checkpoint(&self.checkpoint_of(size, root))
    }

    /// Shows that the log of `old` entries is the beginning of that of `new` (of the log as it is now, if that is not said).
    pub(crate) async fn audit_consistency(&self, old: u64, new: Option<u64>) -> Result<AuditConsistency> {
        let (size, _) = self.audit_state(new).await?;
        if old > size {
            return Err(beyond("old", old, size));
        }
        let proof = self.audit_shown(&[Wanted::Root(old), Wanted::Consistency(old, size)]).await?;
        let [old_root, proof] = &proof[..] else { return Err(Error::Broken("a proof is missing".into())) };
        let old_root = old_root.first().map(hex::encode).unwrap_or_default();
        Ok(AuditConsistency { old_size: old, old_root, new_size: size, proof: proof.iter().map(hex::encode).collect() })
    }

    fn checkpoint_of(&self, size: u64, root: Hash) -> Checkpoint {
        Checkpoint { origin: self.options().origin.clone(), size, root }
    }

    /// Size and root of the log now, or when it had `at` entries.
    async fn audit_state(&self, at: Option<u64>) -> Result<(u64, Hash)> {
        let (size, root) = self.store().audit_head().await?;
        let Some(at) = at else { return Ok((size, root)) };
        if at > size {
            return Err(beyond("at", at, size));
        }
        let shown = self.audit_shown(&[Wanted::Root(at)]).await?;
        let then = shown.first().and_then(|root| root.first()).copied();
        Ok((at, then.ok_or_else(|| Error::Broken("a root is missing".into()))?))
    }

    async fn audit_page(
        &self,
        of: Option<OrganisationId>,
        after: Option<u64>,
        limit: u32,
        at: Option<u64>,
    ) -> Result<AuditList> {
        let (size, root) = self.audit_state(at).await?;
        let mut entries = self.store().audit_list(of, after, limit + 1).await?;
        // What came in after that is under a later checkpoint.
        entries.retain(|entry| entry.index < size);
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let next = if more { entries.last().map(|entry| entry.index) } else { None };
        let mut wanted = vec![Wanted::Root(size)];
        wanted.extend(entries.iter().map(|entry| Wanted::Inclusion(entry.index, size)));
        let mut shown = self.audit_shown(&wanted).await?.into_iter();
        if shown.next() != Some(vec![root]) {
            return Err(Error::Broken(format!("the audit log's entries do not lead to its head at size {size}")));
        }
        let records = entries.into_iter().zip(shown).map(|(entry, proof)| AuditRecord {
            index: entry.index,
            body: entry.body,
            proof: proof.iter().map(hex::encode).collect(),
        });
        let items = records.collect();
        let view_head = match of {
            Some(organisation) => Some(self.view_head(organisation, size, root).await?),
            None => None,
        };
        let checkpoint = self.signer().checkpoint(&self.checkpoint_of(size, root))?;
        Ok(AuditList { items, next, checkpoint, view_head, log_key: self.signer().public_hex() })
    }

    /// Signs how many entries an organisation's view has, and which is the newest.
    async fn view_head(&self, organisation: OrganisationId, log_size: u64, log_root: Hash) -> Result<String> {
        let (entries, newest) = self.store().audit_view(organisation, log_size).await?;
        let origin = self.options().origin.clone();
        let head = ViewHead { origin, organisation, entries, newest, log_size, log_root };
        self.signer().view_head(&head)
    }

    /// Shows each of these from tiles; a tile that several need is read once.
    async fn audit_shown(&self, wanted: &[Wanted]) -> Result<Vec<Vec<Hash>>> {
        let needed = wanted.iter().flat_map(|wanted| wanted.tiles()).collect();
        let tiles = self.tiles_read(needed).await?;
        let show = |wanted: &Wanted| {
            tiles.show(*wanted).ok_or_else(|| Error::Broken(format!("the audit log cannot show {wanted:?}")))
        };
        wanted.iter().map(show).collect()
    }
}

fn beyond(what: &str, asked: u64, size: u64) -> Error {
    Error::invalid(format!("`{what}` is {asked}, and the log has {size} entries"))
}

/// What is asked for is no tile, or none that this log has yet.
pub(crate) fn no_such_tile() -> Error {
    Error::refused(Code::NotFound, "the audit log has no such tile")
}
