//! Numbered migrations: each runs once, in order, all in one transaction, and is remembered with its digest.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, Statement};
use sha2::{Digest, Sha256};

use crate::{Backend, Error, Result, store};

/// One step of the schema. A released one is never edited: a change is a new step.
struct Migration {
    number: i64,
    name: &'static str,
    /// What both databases run, with the type names they disagree on in braces.
    both: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "begin",
        both: include_str!("../migrations/0001_begin.sql"),
        sqlite: include_str!("../migrations/0001_begin.sqlite.sql"),
        postgres: include_str!("../migrations/0001_begin.postgres.sql"),
    },
    Migration {
        number: 2,
        name: "quarantine",
        both: include_str!("../migrations/0002_quarantine.sql"),
        sqlite: include_str!("../migrations/0002_quarantine.sqlite.sql"),
        postgres: include_str!("../migrations/0002_quarantine.postgres.sql"),
    },
    Migration { number: 3, name: "gone", both: include_str!("../migrations/0003_gone.sql"), sqlite: "", postgres: "" },
    Migration {
        number: 4,
        name: "schedule",
        both: include_str!("../migrations/0004_schedule.sql"),
        sqlite: include_str!("../migrations/0004_schedule.sqlite.sql"),
        postgres: include_str!("../migrations/0004_schedule.postgres.sql"),
    },
    Migration {
        number: 5,
        name: "quotas",
        both: include_str!("../migrations/0005_quotas.sql"),
        sqlite: "",
        postgres: "",
    },
    Migration {
        number: 6,
        name: "reservations",
        both: include_str!("../migrations/0006_reservations.sql"),
        sqlite: "",
        postgres: "",
    },
    Migration { number: 7, name: "skus", both: include_str!("../migrations/0007_skus.sql"), sqlite: "", postgres: "" },
    Migration {
        number: 8,
        name: "changes",
        both: include_str!("../migrations/0008_changes.sql"),
        sqlite: "",
        postgres: "",
    },
    Migration {
        number: 9,
        name: "policies",
        both: include_str!("../migrations/0009_policies.sql"),
        sqlite: "",
        postgres: "",
    },
    Migration {
        number: 10,
        name: "accesses",
        both: include_str!("../migrations/0010_accesses.sql"),
        sqlite: "",
        postgres: "",
    },
    Migration {
        number: 11,
        name: "people",
        both: include_str!("../migrations/0011_people.sql"),
        sqlite: "",
        postgres: "",
    },
    Migration {
        number: 12,
        name: "audit views",
        both: include_str!("../migrations/0012_audit.sql"),
        sqlite: include_str!("../migrations/0012_audit.sqlite.sql"),
        postgres: include_str!("../migrations/0012_audit.postgres.sql"),
    },
    Migration {
        number: 14,
        name: "machines",
        both: include_str!("../migrations/0014_machines.sql"),
        sqlite: "",
        postgres: "",
    },
    Migration {
        number: 16,
        name: "invoices",
        both: include_str!("../migrations/0016_invoices.sql"),
        sqlite: include_str!("../migrations/0016_invoices.sqlite.sql"),
        postgres: include_str!("../migrations/0016_invoices.postgres.sql"),
    },
    Migration { number: 18, name: "used", both: include_str!("../migrations/0018_used.sql"), sqlite: "", postgres: "" },
    Migration { number: 19, name: "scim", both: include_str!("../migrations/0019_scim.sql"), sqlite: "", postgres: "" },
    Migration {
        number: 20,
        name: "passkeys",
        both: include_str!("../migrations/0020_passkeys.sql"),
        sqlite: "",
        postgres: "",
    },
];

/// The version of the schema this program needs. A database beyond it is refused.
pub const NEWEST_MIGRATION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].number;

impl Migration {
    fn sql(&self, backend: Backend) -> String {
        let words: [(&str, &str); 5] = match backend {
            Backend::Sqlite => [
                ("{id}", "TEXT"),
                ("{int}", "INTEGER"),
                ("{bytes}", "BLOB"),
                ("{sequence}", "INTEGER PRIMARY KEY AUTOINCREMENT"),
                ("{strict}", " STRICT"),
            ],
            Backend::Postgres => [
                // Ids sort by their bytes, whatever language the server speaks.
                ("{id}", "TEXT COLLATE \"C\""),
                ("{int}", "BIGINT"),
                ("{bytes}", "BYTEA"),
                ("{sequence}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
                ("{strict}", ""),
            ],
        };
        let own = match backend {
            Backend::Sqlite => self.sqlite,
            Backend::Postgres => self.postgres,
        };
        words.iter().fold(format!("{}\n{own}", self.both), |text, (word, meaning)| text.replace(word, meaning))
    }

    fn digest(&self, backend: Backend) -> String {
        hex::encode(Sha256::digest(self.sql(backend)))
    }
}

/// Brings the database up to date, or says why it cannot be used.
pub(crate) async fn run(writer: &DatabaseConnection, backend: Backend) -> Result<()> {
    let tx = store::begin(writer).await?;
    if backend == Backend::Postgres {
        // Two replicas that start together must not both make the tables. The number is arbitrary and ours.
        tx.execute_unprepared("SELECT pg_advisory_xact_lock(720317455)").await?;
    }
    let make = "CREATE TABLE IF NOT EXISTS schema_migrations \
                (number BIGINT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL)";
    tx.execute_unprepared(make).await?;
    let done = done(&tx).await?;
    if let Some((found, _)) = done.iter().find(|(number, _)| *number > NEWEST_MIGRATION) {
        return Err(Error::Newer { found: *found, known: NEWEST_MIGRATION });
    }
    for migration in MIGRATIONS {
        let digest = migration.digest(backend);
        match done.iter().find(|(number, _)| *number == migration.number) {
            Some((_, before)) if *before == digest => {}
            Some(_) => return Err(Error::Changed { number: migration.number }),
            None => carry_out(&tx, migration, backend, digest).await?,
        }
    }
    tx.commit().await.map_err(Error::of_commit)
}

/// Numbers and digests of what was carried out, newest first.
async fn done(tx: &DatabaseTransaction) -> Result<Vec<(i64, String)>> {
    let backend = tx.get_database_backend();
    let read = Statement::from_string(backend, "SELECT number, digest FROM schema_migrations ORDER BY number DESC");
    let rows = tx.query_all_raw(read).await?;
    rows.iter().map(|row| Ok((row.try_get("", "number")?, row.try_get("", "digest")?))).collect()
}

async fn carry_out(tx: &DatabaseTransaction, step: &Migration, backend: Backend, digest: String) -> Result<()> {
    tx.execute_unprepared(&step.sql(backend)).await?;
    let marks = if tx.get_database_backend() == DbBackend::Postgres { "$1, $2, $3" } else { "?, ?, ?" };
    let remember = Statement::from_sql_and_values(
        tx.get_database_backend(),
        format!("INSERT INTO schema_migrations (number, name, digest) VALUES ({marks})"),
        [step.number.into(), step.name.into(), digest.into()],
    );
    tx.execute_raw(remember).await?;
    tracing::info!(migration.number = step.number, migration.name = step.name, "store migrated");
    Ok(())
}
