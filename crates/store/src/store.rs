//! Opening the store, and where its transactions begin.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use sea_orm::{
    DatabaseConnection, SqliteTransactionMode, TransactionOptions, TransactionTrait,
    sqlx::{
        ConnectOptions as _,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};

use crate::{
    Error, Result, Tx, View, error, migrate, sqlite,
    turn::{Lane, Turns},
};

/// What the store needs to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Where the data is: a path, `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: String,
    /// How long a writer waits for its turn, in milliseconds.
    pub busy_ms_max: u64,
    /// How many connections read at the same time.
    pub readers_max: u32,
    /// The most bytes an SQLite file may grow to (rounded down to whole pages of 4096); none leaves it to the disk.
    /// PostgreSQL has its own limits.
    pub bytes_max: Option<u64>,
}

impl StoreOptions {
    /// The usual settings for a database: 10 s of patience, 4 readers, no limit on its size.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), busy_ms_max: 10_000, readers_max: 4, bytes_max: None }
    }
}

/// Which database is behind a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file on this machine.
    Sqlite,
    /// A server, shared by several control replicas.
    Postgres,
}

/// The control plane's memory. Cheap to clone; all clones share their connections.
///
/// It derefs to a [`View`], which holds every read; writes begin with [`Store::begin`].
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    view: View,
    writer: DatabaseConnection,
    backend: Backend,
    turns: Turns,
    /// How long a writer waits for its turn.
    busy_max: Duration,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connections' own text could show the server's address and user.
        f.debug_struct("Store").field("backend", &self.0.backend).finish_non_exhaustive()
    }
}

impl Deref for Store {
    type Target = View;

    fn deref(&self) -> &View {
        &self.0.view
    }
}

impl Store {
    /// Opens the database, makes it if it is an SQLite file that does not exist, and brings it up to date.
    ///
    /// A new file can be read by its owner only: it holds the cloud's signing key.
    pub async fn open(options: StoreOptions) -> Result<Self> {
        let url = options.url.trim();
        let busy_max = Duration::from_millis(options.busy_ms_max);
        let (writer, readers, backend) = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let (writer, readers) = postgres_open(&options).await?;
            (writer, readers, Backend::Postgres)
        } else {
            let (writer, readers) = sqlite::open(&options).await?;
            (writer, readers, Backend::Sqlite)
        };
        let shared = Shared { view: View::of_pool(readers), writer, backend, turns: Turns::default(), busy_max };
        migrate::run(&shared.writer, shared.backend).await?;
        let store = Self(Arc::new(shared));
        let filled = store.audit_nodes_fill().await?;
        if filled > 0 {
            tracing::info!(audit.tiles = filled, "the audit log's tiles were made from its entries");
        }
        Ok(store)
    }

    /// Which database is behind it.
    pub fn backend(&self) -> Backend {
        self.0.backend
    }

    /// Begins a write transaction. Waits while another one is open, for `StoreOptions::busy_ms_max` at most, then
    /// answers [`Error::Busy`]; a task that begins a second one while it holds the first waits for itself.
    pub async fn begin(&self) -> Result<Tx> {
        self.begin_in(Lane::Requests).await
    }

    /// As [`Store::begin`], for what keeps the cloud going: its own tasks, and what sites say. It waits for a few
    /// requests at most, however many queue.
    pub async fn begin_upkeep(&self) -> Result<Tx> {
        self.begin_in(Lane::Upkeep).await
    }

    async fn begin_in(&self, lane: Lane) -> Result<Tx> {
        let turn = self.0.turns.wait(lane, self.0.busy_max).await?;
        Tx::new(begin(&self.0.writer).await?, turn).await
    }

    /// Closes every connection; on SQLite this also folds the write-ahead log into the file. Work that is under way
    /// ends first. Other clones answer with errors afterwards.
    pub async fn close(&self) -> Result<()> {
        if let Some(pool) = self.0.view.pool() {
            pool.close_by_ref().await?;
        }
        self.0.writer.close_by_ref().await?;
        Ok(())
    }
}

pub(crate) async fn begin(writer: &DatabaseConnection) -> Result<sea_orm::DatabaseTransaction> {
    // IMMEDIATE takes SQLite's write lock at once: a transaction that read first and wrote later could find its
    // snapshot overtaken in the middle, and no waiting would help it.
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    Ok(writer.begin_with_options(options).await?)
}

/// Two small pools, as on SQLite: readers never wait behind writers that queue for their turn.
async fn postgres_open(options: &StoreOptions) -> Result<(DatabaseConnection, DatabaseConnection)> {
    const WRITERS_MAX: u32 = 4;
    let bad = |why: String| Error::BadUrl { url: without_password(&options.url), why };
    let connect: PgConnectOptions =
        options.url.trim().parse().map_err(|error: sea_orm::SqlxError| bad(error.to_string()))?;
    let wait = Duration::from_millis(options.busy_ms_max);
    let connect = connect.application_name("gregal").disable_statement_logging().options([
        // A server or role set to answer before the log is on disk would lose what we acknowledged.
        ("synchronous_commit", "on".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("lock_timeout", format!("{}ms", options.busy_ms_max)),
        ("statement_timeout", "60s".to_owned()),
        // A replica that hangs with the writer's place must not hold up the others for ever.
        ("idle_in_transaction_session_timeout", "60s".to_owned()),
    ]);
    let pool = |connections: u32| PgPoolOptions::new().max_connections(connections).acquire_timeout(wait);
    let open = |error: sea_orm::SqlxError| {
        error::classify(&error).unwrap_or_else(|| Error::Unreachable { why: error.to_string() })
    };
    let writer = pool(WRITERS_MAX).connect_with(connect.clone()).await.map_err(open)?;
    let readers = pool(options.readers_max.max(1)).connect_with(connect).await.map_err(open)?;
    Ok((writer.into(), readers.into()))
}

/// An address that may be shown and logged.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}"),
        None => url.to_owned(),
    }
}
