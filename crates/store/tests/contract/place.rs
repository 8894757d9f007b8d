//! Where a test's database is.

use gregal_store::{Store, StoreOptions};
use sea_orm::{ConnectionTrait, Database, DbErr};

/// An empty database of the test's own.
pub(crate) struct Place {
    pub(crate) url: String,
    /// A folder to remove in the end.
    pub(crate) folder: Option<tempfile::TempDir>,
    /// A statement to run in the end, and where.
    pub(crate) farewell: Option<(String, String)>,
}

impl Place {
    pub(crate) async fn open(&self) -> Store {
        Store::open(StoreOptions::new(&self.url)).await.unwrap()
    }

    /// A store with little patience.
    pub(crate) async fn open_impatient(&self, busy_ms_max: u64) -> Store {
        Store::open(StoreOptions { busy_ms_max, ..StoreOptions::new(&self.url) }).await.unwrap()
    }

    /// Runs a statement behind the store's back.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), DbErr> {
        Self::execute_at(&self.url, sql).await
    }

    /// Cleans up after a test that held; what a failed one leaves can be looked at.
    pub(crate) async fn remove(self) {
        if let Some((url, sql)) = &self.farewell {
            Self::execute_at(url, sql).await.unwrap();
        }
        if let Some(folder) = self.folder {
            folder.close().unwrap();
        }
    }

    /// Runs a statement on a connection of its own.
    pub(crate) async fn execute_at(url: &str, sql: &str) -> Result<(), DbErr> {
        let connection = Database::connect(url).await?;
        let answer = connection.execute_unprepared(sql).await;
        connection.close().await?;
        answer.map(|_| ())
    }
}
