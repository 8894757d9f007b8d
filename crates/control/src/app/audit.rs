//! The audit log as it is shown: entries, and proofs that anyone can check against a signed checkpoint.

use gregal_api::audit::{AuditList, AuditRecord};
use gregal_core::{access::Action, audit::Checkpoint, id::OrganisationId, merkle::Hash};
use gregal_policy::Resource;
use tokio::sync::Mutex;

use crate::{Control, Cx, Error, Result, app::audit::tree::Tree};

pub(crate) mod tree;

/// The log's Merkle tree, kept in memory between requests: 64 bytes an entry.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Tree>);

/// Most leaves read from the store at once.
const LEAVES_MAX: u64 = 100_000;

impl Control {
    /// An organisation's view of the log.
    pub(crate) async fn audit_list(
        &self,
        cx: &Cx,
        id: OrganisationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<AuditList> {
        self.organisation_seen(cx, id, Action::AuditRead).await?;
        self.audit_page(Some(id), after, limit).await
    }

    /// The whole log.
    pub(crate) async fn audit_list_all(&self, cx: &Cx, after: Option<u64>, limit: u32) -> Result<AuditList> {
        self.authorize(cx, Action::AuditReadAll, &Resource::cloud()).await?;
        self.audit_page(None, after, limit).await
    }

    /// The signed checkpoint of the log as it is now.
    pub(crate) async fn audit_checkpoint(&self) -> Result<String> {
        let (size, root) = self.store().audit_head().await?;
        self.checkpoint_signed(size, root)
    }

    fn checkpoint_signed(&self, size: u64, root: Hash) -> Result<String> {
        self.signer().checkpoint(&Checkpoint { origin: self.options().origin.clone(), size, root })
    }

    async fn audit_page(&self, of: Option<OrganisationId>, after: Option<u64>, limit: u32) -> Result<AuditList> {
        let (size, root) = self.store().audit_head().await?;
        let mut entries = self.store().audit_list(of, after, limit + 1).await?;
        // What came in after the head was read is on a later page, under a later checkpoint.
        entries.retain(|entry| entry.index < size);
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let next = if more { entries.last().map(|entry| entry.index) } else { None };
        let mut tree = self.log().0.lock().await;
        self.tree_grow(&mut tree, size).await?;
        if tree.root(size) != Some(root) {
            return Err(Error::Broken(format!("the audit log's entries do not lead to its head at size {size}")));
        }
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            let proof = tree.proof(entry.index, size);
            let proof = proof.ok_or_else(|| Error::Broken(format!("audit entry {} is beyond the log", entry.index)))?;
            items.push(AuditRecord {
                index: entry.index,
                body: entry.body,
                proof: proof.iter().map(hex::encode).collect(),
            });
        }
        drop(tree);
        let checkpoint = self.checkpoint_signed(size, root)?;
        Ok(AuditList { items, next, checkpoint, log_key: self.signer().public_hex() })
    }

    async fn tree_grow(&self, tree: &mut Tree, size: u64) -> Result<()> {
        while tree.size() < size {
            let from = tree.size();
            let until = size.min(from + LEAVES_MAX);
            let leaves = self.store().audit_leaves(from..until).await?;
            if leaves.is_empty() {
                return Err(Error::Broken(format!("audit entries from {from} on are not there")));
            }
            tree.extend(leaves);
        }
        Ok(())
    }
}
