//! What a run that has ended adds to what its organisation used: in the transaction that ends it, so that it counts once.

use gregal_core::{job::Job, used::Used};
use gregal_store::Tx;

use super::facts;
use crate::{Control, Result};

impl Control {
    /// Counts the run of a job that has ended, if it ever ran.
    pub(crate) async fn run_counted(&self, tx: &Tx, ended: &Job) -> Result<()> {
        let Some(run) = facts::ran(ended, &tx.skus_all().await?) else { return Ok(()) };
        let before = tx.used_get(run.organisation, &run.sku).await?;
        let before = before.unwrap_or_else(|| Used::none(run.organisation, run.sku.clone()));
        Ok(tx.used_put(&before.and(&run, self.now())).await?)
    }
}
