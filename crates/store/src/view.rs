//! What can be read, inside and outside a transaction.

use sea_orm::{DatabaseConnection, DatabaseExecutor, DatabaseTransaction};

/// Reads. A [`crate::Store`] gives what was committed last; a [`crate::Tx`] also what it wrote itself.
#[derive(Debug)]
pub struct View {
    side: Side,
}

#[derive(Debug)]
enum Side {
    Pool(DatabaseConnection),
    Tx(DatabaseTransaction),
}

impl View {
    pub(crate) const fn of_pool(pool: DatabaseConnection) -> Self {
        Self { side: Side::Pool(pool) }
    }

    pub(crate) const fn of_tx(tx: DatabaseTransaction) -> Self {
        Self { side: Side::Tx(tx) }
    }

    /// Where statements go.
    pub(crate) const fn db(&self) -> DatabaseExecutor<'_> {
        match &self.side {
            Side::Pool(pool) => DatabaseExecutor::Connection(pool),
            Side::Tx(tx) => DatabaseExecutor::Transaction(tx),
        }
    }

    /// The transaction behind this view, to end it.
    pub(crate) fn into_tx(self) -> Option<DatabaseTransaction> {
        match self.side {
            Side::Tx(tx) => Some(tx),
            Side::Pool(_) => None,
        }
    }

    /// The pool behind this view, to close it.
    pub(crate) const fn pool(&self) -> Option<&DatabaseConnection> {
        match &self.side {
            Side::Pool(pool) => Some(pool),
            Side::Tx(_) => None,
        }
    }
}
