//! The audit log, read as the tenant and proved against its signed checkpoint without trusting who sent it.

use anyhow::{Context, Result, bail, ensure};
use gregal_api::audit::{AuditList, AuditQuery, view_head_open};
use gregal_core::audit::ViewChain;

use super::journey::Journey;

/// Pages of the log the tour reads at most.
const PAGES_MAX: usize = 200;

impl Journey<'_> {
    /// Reads every entry of the organisation and proves each.
    pub(crate) async fn prove(&mut self) -> Result<()> {
        self.show.step("the audit log, verified");
        let owner = self.owner()?;
        let organisation = self.book.notes.organisation.context("the organisation is not there yet")?;
        let mut query = AuditQuery { after: None, limit: Some(gregal_api::page::PAGE_LIMIT_MAX), at: None };
        let (mut key, mut view) = (None, ViewChain::new(organisation));
        let organisation = organisation.to_string();
        for _ in 0..PAGES_MAX {
            let page: AuditList = owner.call("audit_list", &[&organisation]).query(&query).send().await?;
            // The first page tells the key; every later one must be under the same.
            let key = key.get_or_insert_with(|| page.log_key.clone());
            let checkpoint = page.verify(key).context("the audit log does not verify")?;
            self.summary.audit.entries += page.items.len() as u64;
            self.summary.audit.log_size = checkpoint.size;
            for record in &page.items {
                view.push(record.index, &record.body).context("the audit log's view has a gap")?;
            }
            // Later pages are of the same moment, however the log grows meanwhile.
            query.at = Some(checkpoint.size);
            if let Some(next) = page.next {
                query.after = Some(next);
            } else {
                let head = page.view_head.as_deref().context("the audit log's view has no signed head")?;
                view.ends_at(&view_head_open(head, key)?).context("the audit log's view is cut")?;
                ensure!(self.summary.audit.entries > 0, "the audit log says nothing of all this");
                self.summary.audit.verified = true;
                self.show.done(&format!(
                    "{} entries of {} proved against the signed checkpoint",
                    self.summary.audit.entries, self.summary.audit.log_size
                ));
                return Ok(());
            }
        }
        bail!("the audit log has more pages than the tour reads")
    }
}
