//! The control plane's memory and the only room that speaks SQL: SQLite by default, PostgreSQL by the same code.
//! Never here: decisions, clocks, ids, permissions, or content; it writes what it is given, all of it or nothing.
//!
//! [`Store`] reads; [`Store::begin`] gives a [`Tx`], which reads and writes and ends in [`Tx::commit`] with at least one
//! audit entry. Row, audit entry and outbox message are one transaction, so what was done and the record of it cannot
//! drift apart. Both are a [`View`], so a function that only reads takes `&View` and works inside and outside a
//! transaction. Rows carry typed columns for what is looked up and the whole domain value as one JSON `document`: the
//! document is the truth, the columns are its index and are written from it in the same statement.

mod access;
mod audit;
mod dataset;
mod endpoint;
mod error;
mod hold;
mod idempotency;
mod invoice;
mod job;
mod job_progress;
mod key;
mod key_use;
mod lease;
mod ledger;
mod meta;
mod migrate;
mod model;
mod noun;
mod organisation;
mod outbox;
mod page;
mod passkey;
mod person;
mod policy;
mod price;
mod project;
mod quarantine;
mod quota;
mod reservation;
mod schedule;
mod scim;
mod service_account;
mod site;
mod sku;
mod sqlite;
mod store;
mod turn;
mod tx;
mod usage;
mod used;
mod view;

pub use audit::{AUDIT_LEAVES_MAX, AUDIT_PAGE_MAX};
pub use error::Error;
pub use idempotency::IdempotencyRecord;
pub use invoice::KeptInvoice;
pub use job_progress::PROGRESS_POINTS_MAX;
pub use lease::Lease;
pub use migrate::NEWEST_MIGRATION;
pub use outbox::OutboxMessage;
pub use page::{LIST_MAX, Listed, PAGE_MAX, Page};
pub use quarantine::Quarantined;
pub use schedule::{PassDecision, PassPlace};
pub use store::{Backend, Store, StoreOptions};
pub use tx::Tx;
pub use usage::{StoredUsage, UsageInserted, UsageSum};
pub use view::View;

/// What every call of this room answers.
pub type Result<T> = std::result::Result<T, Error>;
