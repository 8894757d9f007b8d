//! Write transactions: everything or nothing, and never without an audit entry.

use std::{
    ops::Deref,
    sync::atomic::{AtomicBool, Ordering},
};

use gregal_core::audit::{AuditEntry, LoggedEntry};
use sea_orm::DatabaseTransaction;

use crate::{Error, Result, View, audit, turn::Turn};

/// A write transaction. It reads like a [`View`], writes with `NOUN_insert` and `NOUN_update`, and ends in
/// [`Tx::commit`]. Dropping it instead undoes everything.
///
/// One at a time: on SQLite it holds the file's write lock, on PostgreSQL the row lock on the head of the audit log,
/// taken when it begins. Every statement therefore sees all that was committed before, and a decision made from what
/// was read inside still holds when it is written. Keep it short, and wait for nothing but the store while it is open.
///
/// After a method returned an error the transaction can only be dropped ([`Error::Aborted`]): PostgreSQL refuses to
/// go on by itself, and SQLite is held to the same rule so that code tested on one works on the other.
#[derive(Debug)]
#[must_use = "dropping a transaction undoes it"]
pub struct Tx {
    view: View,
    head: audit::Head,
    failed: AtomicBool,
    /// Last, so that the transaction is over when the next one may begin.
    _turn: Turn,
}

impl Deref for Tx {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Tx {
    /// Takes the place of the writer: the head's row stays locked until the end.
    pub(crate) async fn new(tx: DatabaseTransaction, turn: Turn) -> Result<Self> {
        let view = View::of_tx(tx);
        let head = audit::head_locked(&view).await?;
        Ok(Self { view, head, failed: AtomicBool::new(false), _turn: turn })
    }

    /// Ends the transaction: appends the entries to the audit log, gapless and in this order, and makes everything
    /// durable. Once this returns `Ok`, the change survives a crash of the program and of the machine.
    ///
    /// An empty list is [`Error::NoAudit`] and nothing is written.
    pub async fn commit(self, entries: &[AuditEntry]) -> Result<Vec<LoggedEntry>> {
        if entries.is_empty() {
            return Err(Error::NoAudit);
        }
        self.alive()?;
        let logged = audit::append(&self.view, self.head.clone(), entries).await?;
        self.end().await?;
        Ok(logged)
    }

    /// Ends a transaction that records what was *observed* and decides nothing: heartbeats and leases of sites,
    /// progress of jobs, deliveries of the outbox, forgotten idempotency keys. Everything a tenant or an operator could
    /// dispute (money, usage, states, rights) ends in [`Tx::commit`].
    pub async fn commit_observation(self) -> Result<()> {
        self.alive()?;
        self.end().await
    }

    /// The size of the audit log when this transaction began: it stamps what is written here, in tables that keep it. See
    /// [`View::mark_read`].
    pub fn mark(&self) -> u64 {
        self.head.size()
    }

    fn alive(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) { Err(Error::Aborted) } else { Ok(()) }
    }

    async fn end(self) -> Result<()> {
        let Some(tx) = self.view.into_tx() else { return Err(Error::Aborted) };
        tx.commit().await.map_err(Error::of_commit)
    }

    /// Carries out a write. An error ends the transaction's life, and so does a caller that drops the write halfway:
    /// half of it must never be committed.
    pub(crate) async fn guard<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        self.alive()?;
        let fuse = Fuse(&self.failed);
        let answer = write.await?;
        std::mem::forget(fuse);
        Ok(answer)
    }
}

/// Marks the transaction as failed unless it is taken out first.
struct Fuse<'a>(&'a AtomicBool);

impl Drop for Fuse<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
