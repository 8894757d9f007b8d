//! What can go wrong with the store, and what to do about it.

use std::{path::PathBuf, sync::Arc};

use gregal_core::{ledger::LedgerError, money::Overflow};
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr, SqlxError};

/// Why the store could not do what was asked. Nothing was written when one of these comes back, except for
/// [`Error::CommitUncertain`], which says so.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Somebody else changed it first: read it again and decide again.
    #[error("{noun} `{id}` was changed by somebody else in the meantime")]
    Conflict {
        /// Which noun.
        noun: &'static str,
        /// Its id.
        id: String,
    },
    /// A row that was named does not exist.
    #[error("there is no {what}")]
    Missing {
        /// What was named, for people.
        what: String,
    },
    /// Something that may exist once exists already.
    #[error("this {what} is taken")]
    Taken {
        /// What is taken: `organisation name`, `project name`, `key digest`, `site name`, `site secret`,
        /// `dataset name`, `model version`, `endpoint name`, `hold subject`, `usage id`, `posting id`,
        /// `price book version`, `sku name`, `idempotency key` or `id`.
        what: &'static str,
    },
    /// A number does not fit in the 63 bits both databases count in.
    #[error("{what} is too large to store")]
    TooLarge {
        /// Which number.
        what: &'static str,
    },
    /// A list that must be complete is longer than this store reads at once.
    #[error("there are more than {limit} {what}")]
    TooMany {
        /// What is listed.
        what: &'static str,
        /// The most that are read at once.
        limit: u64,
    },
    /// A posting that may not enter the ledger.
    #[error("the ledger refuses posting `{id}`")]
    Ledger {
        /// The posting.
        id: String,
        /// What is wrong with it.
        source: LedgerError,
    },
    /// A mutation was to be committed without saying who did what.
    #[error("a mutation was to be committed without an audit entry")]
    NoAudit,
    /// The transaction met an error before and can only be dropped.
    #[error("the transaction met an error before and cannot go on")]
    Aborted,
    /// A value that could not be read back was refused before it was written.
    #[error("{noun} `{id}` cannot be stored: {why}")]
    Unstorable {
        /// Which noun.
        noun: &'static str,
        /// Its id.
        id: String,
        /// What cannot be kept.
        why: String,
    },
    /// A stored value cannot be read by this version.
    #[error("the stored {noun} cannot be read: {why}")]
    Unreadable {
        /// Which noun.
        noun: &'static str,
        /// What the reader stumbled over.
        why: String,
    },
    /// Another writer held the database for longer than the time limit.
    #[error("the database was locked by another writer for too long")]
    Busy,
    /// No room is left for what was to be written.
    #[error("the database has no room left to write")]
    Full,
    /// The file, or the folder it is in, cannot be written or opened.
    #[error("the database `{path}` cannot be opened for writing: {why}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        why: String,
    },
    /// The file is damaged or is no database.
    #[error("the database is damaged or is no database: {why}")]
    Corrupt {
        /// What was found.
        why: String,
    },
    /// The disk failed in the middle of reading or writing.
    #[error("the disk failed: {why}")]
    Disk {
        /// What the driver said.
        why: String,
    },
    /// The database was made by a newer version.
    #[error("the database is at version {found}, this program knows versions up to {known}")]
    Newer {
        /// The version found.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A migration that was carried out is not the one this program carries.
    #[error("migration {number} of the database is not the one this program carries")]
    Changed {
        /// Which migration.
        number: i64,
    },
    /// The address of the database makes no sense.
    #[error("`{url}` is no address of a database: {why}")]
    BadUrl {
        /// The address, without its password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server cannot be reached, or hung up.
    #[error("the database server cannot be reached: {why}")]
    Unreachable {
        /// What the driver said.
        why: String,
    },
    /// The server did not let us in.
    #[error("the database server refused access: {why}")]
    Refused {
        /// What the server said.
        why: String,
    },
    /// The connection was lost while committing: the transaction may or may not have happened.
    #[error("the connection was lost while committing, whether it happened is not known")]
    CommitUncertain(#[source] Arc<DbErr>),
    /// Anything else the database said.
    #[error("the database refused the statement")]
    Database(#[source] Arc<DbErr>),
}

impl Error {
    /// What the operator or the caller can do about it, where something can be done.
    pub const fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Conflict { .. } => "read it again and repeat the change",
            Self::Busy => {
                "another process or a long transaction holds the database; see who has the file open, or raise \
                 the store's time limit"
            }
            Self::Full => "free or add disk space, then try again; nothing acknowledged was lost",
            Self::Unwritable { .. } => {
                "give the program's user the right to write the file and its folder, or name another data folder"
            }
            Self::Corrupt { .. } => "stop the program, keep a copy of the file, and restore the last backup",
            Self::Disk { .. } => "look at the disk and the system log before going on; nothing acknowledged was lost",
            Self::Newer { .. } => "run the newer program, or restore a backup taken before the upgrade",
            Self::Changed { .. } => "this database comes from another build; use that build or an empty data folder",
            Self::BadUrl { .. } => "give a path, `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`",
            Self::Unreachable { .. } => "see that the database server runs and listens at the address given",
            Self::Refused { .. } => "see the user, the password, the name of the database and the server's TLS setting",
            Self::CommitUncertain(_) => "send the same request again with the same idempotency key",
            Self::TooMany { .. } => "ask for pages, or for a shorter period",
            _ => return None,
        })
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::Unreachable { .. } | Self::Conflict { .. } | Self::CommitUncertain(_))
    }

    /// Wraps what the driver said while committing.
    pub(crate) fn of_commit(error: DbErr) -> Self {
        match Self::from(error.clone()) {
            // The server may have committed before the line went dead.
            Self::Unreachable { .. } => Self::CommitUncertain(Arc::new(error)),
            other => other,
        }
    }

    /// Wraps what the driver said while opening a file.
    pub(crate) fn at_path(self, at: &std::path::Path) -> Self {
        match self {
            Self::Unwritable { why, .. } => Self::Unwritable { path: at.to_owned(), why },
            other => other,
        }
    }
}

impl From<Overflow> for Error {
    fn from(_: Overflow) -> Self {
        Self::TooLarge { what: "an amount of money" }
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(message)) => return Self::Taken { what: taken(&message) },
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => {
                return Self::Missing { what: "row with the id this one refers to".to_owned() };
            }
            _ => {}
        }
        let sqlx = match &error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => return Self::Busy,
            DbErr::Conn(RuntimeErr::SqlxError(sqlx))
            | DbErr::Exec(RuntimeErr::SqlxError(sqlx))
            | DbErr::Query(RuntimeErr::SqlxError(sqlx)) => Arc::clone(sqlx),
            _ => return Self::Database(Arc::new(error)),
        };
        classify(&sqlx).unwrap_or_else(|| Self::Database(Arc::new(error)))
    }
}

/// What an error of the driver means to us, if it means something particular.
pub(crate) fn classify(error: &SqlxError) -> Option<Error> {
    let why = error.to_string();
    match error {
        SqlxError::PoolTimedOut => Some(Error::Busy),
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::Protocol(_)
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => Some(Error::Unreachable { why }),
        SqlxError::Database(error) => {
            let code = error.code()?;
            // SQLSTATE has five characters; SQLite's extended codes are decimal numbers of at most four digits.
            if code.len() == 5 { of_postgres(&code, why) } else { of_sqlite(code.parse().ok()?, why) }
        }
        _ => None,
    }
}

/// Result codes of SQLite: the low byte is the class (<https://www.sqlite.org/rescode.html>).
fn of_sqlite(code: u32, why: String) -> Option<Error> {
    Some(match code & 0xff {
        1 if why.contains("integer overflow") => Error::TooLarge { what: "a sum" },
        5 | 6 => Error::Busy,
        8 | 14 => Error::Unwritable { path: PathBuf::new(), why },
        10 => Error::Disk { why },
        11 | 26 => Error::Corrupt { why },
        13 => Error::Full,
        _ => return None,
    })
}

/// SQLSTATEs of PostgreSQL (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn of_postgres(code: &str, why: String) -> Option<Error> {
    Some(match code {
        "55P03" | "57014" | "40001" | "40P01" => Error::Busy,
        "25P02" => Error::Aborted,
        "53100" | "53200" => Error::Full,
        "22003" => Error::TooLarge { what: "a number" },
        "57P01" | "57P02" | "57P03" | "53300" | "25P03" => Error::Unreachable { why },
        "XX001" | "XX002" => Error::Corrupt { why },
        "3D000" | "42501" => Error::Refused { why },
        _ if code.starts_with("28") => Error::Refused { why },
        _ if code.starts_with("08") => Error::Unreachable { why },
        _ => return None,
    })
}

/// What a broken uniqueness means: SQLite names the columns, PostgreSQL the constraint.
const TAKEN: &[(&str, &str, &str)] = &[
    ("organisations.name", "organisations_name_once", "organisation name"),
    ("projects.name", "projects_name_once", "project name"),
    ("keys.digest", "keys_digest_once", "key digest"),
    ("sites.name", "sites_name_once", "site name"),
    ("sites.secret_digest", "sites_secret_once", "site secret"),
    ("datasets.name", "datasets_name_once", "dataset name"),
    ("models.number", "models_number_once", "model version"),
    ("endpoints.name", "endpoints_name_once", "endpoint name"),
    ("holds.subject", "holds_subject_once", "hold subject"),
    ("usage_events.id", "usage_events_id_once", "usage id"),
    ("postings.id", "postings_id_once", "posting id"),
    ("price_books.version", "price_books_pkey", "price book version"),
    ("skus.id", "skus_pkey", "sku name"),
    ("idempotency.idem_key", "idempotency_pkey", "idempotency key"),
];

fn taken(message: &str) -> &'static str {
    TAKEN
        .iter()
        .find(|(columns, constraint, _)| message.contains(columns) || message.contains(constraint))
        .map_or("id", |(_, _, what)| what)
}
