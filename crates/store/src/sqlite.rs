//! SQLite's settings, each chosen on purpose; reasons and costs are in `docs/decisions/2026-11-22-store.md`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::{
    DatabaseConnection, SqlxError,
    sqlx::{
        ConnectOptions as _,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

use crate::{Error, Result, StoreOptions, error, store::without_password};

/// SQLite's page size here, in bytes.
const PAGE_BYTES: u64 = 4096;

/// One connection that writes, and a small pool that reads.
pub(crate) async fn open(options: &StoreOptions) -> Result<(DatabaseConnection, DatabaseConnection)> {
    let path = path_of(&options.url)?;
    file_prepare(&path)?;
    let wait = Duration::from_millis(options.busy_ms_max);
    let connect = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        // Readers see the last commit and never wait for the writer, nor the writer for them.
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode NORMAL may lose the last commits when the power goes; a usage record acknowledged to a site,
        // which then forgets it, must not be among them. One fsync a commit.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(wait)
        .foreign_keys(true)
        .page_size(PAGE_BYTES as u32)
        // A damaged schema must not be able to run code, and deleted secrets must not linger in free pages.
        .pragma("trusted_schema", "OFF")
        // Without it `INSERT OR REPLACE` would get past the triggers that refuse to delete history.
        .pragma("recursive_triggers", "ON")
        .pragma("secure_delete", "ON")
        .pragma("cell_size_check", "ON")
        .disable_statement_logging();
    let to_write = match options.bytes_max {
        Some(bytes) => connect.clone().pragma("max_page_count", (bytes / PAGE_BYTES).max(1).to_string()),
        None => connect.clone(),
    };
    let at = |error: SqlxError| {
        error::classify(&error)
            .unwrap_or_else(|| Error::Unwritable { path: path.clone(), why: error.to_string() })
            .at_path(&path)
    };
    // One writer: SQLite has one write lock, and a queue of tasks at the pool is fair where the lock is not.
    let writer =
        SqlitePoolOptions::new().max_connections(1).acquire_timeout(wait).connect_with(to_write).await.map_err(at)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(options.readers_max.max(1))
        .acquire_timeout(wait)
        .connect_with(connect.pragma("query_only", "ON"))
        .await
        .map_err(at)?;
    Ok((writer.into(), readers.into()))
}

fn path_of(url: &str) -> Result<PathBuf> {
    let bad = |why: &str| Error::BadUrl { url: without_password(url), why: why.to_owned() };
    let path = url.trim();
    let path = path.strip_prefix("sqlite://").or_else(|| path.strip_prefix("sqlite:")).unwrap_or(path);
    if path.is_empty() {
        return Err(bad("it is empty"));
    }
    if path.contains(":memory:") {
        return Err(bad("what must survive a crash cannot live in memory"));
    }
    if path.contains("://") {
        return Err(bad("this database is not spoken here"));
    }
    Ok(PathBuf::from(path))
}

/// Makes the file with its owner's rights only (SQLite gives its log files the same), and sees that it can be written:
/// SQLite itself would open an unwritable file for reading and fail at the first write.
fn file_prepare(path: &Path) -> Result<()> {
    let unwritable = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full,
        _ => Error::Unwritable { path: path.to_owned(), why: error.to_string() },
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(unwritable)?;
    }
    let mut file = fs::OpenOptions::new();
    file.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        file.mode(0o600);
    }
    file.open(path).map_err(unwritable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, Statement};

    use super::*;

    async fn pragma(connection: &DatabaseConnection, name: &str) -> String {
        let read = Statement::from_string(connection.get_database_backend(), format!("PRAGMA {name}"));
        let row = connection.query_one_raw(read).await.unwrap().unwrap();
        row.try_get_by_index::<String>(0)
            .or_else(|_| row.try_get_by_index::<i64>(0).map(|number| number.to_string()))
            .unwrap()
    }

    #[tokio::test]
    async fn every_connection_is_durable_and_readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions::new(folder.path().join("gregal.db").to_str().unwrap());
        let (writer, readers) = open(&options).await.unwrap();
        for connection in [&writer, &readers] {
            assert_eq!(pragma(connection, "journal_mode").await, "wal");
            assert_eq!(pragma(connection, "synchronous").await, "2", "FULL");
            assert_eq!(pragma(connection, "foreign_keys").await, "1");
            assert_eq!(pragma(connection, "busy_timeout").await, "10000");
        }
        assert!(writer.execute_unprepared("CREATE TABLE thing (id INTEGER)").await.is_ok());
        assert!(readers.execute_unprepared("INSERT INTO thing VALUES (1)").await.is_err());
    }
}
