//! The control plane as a whole: its real router and store, a world whose clock and chance are given, and a site that
//! speaks the protocol as a real one does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

mod access;
mod audit;
mod authorisation;
mod console;
mod endpoint;
mod hostile;
mod http;
mod idempotency;
mod invoice;
mod job;
mod key;
mod login;
mod money;
mod organisation;
mod passkey;
mod people;
mod policy;
mod preempt;
mod quota;
mod replica;
mod reservation;
mod schedule;
mod scim;
mod service_account;
mod sign_in;
mod site;
mod sku;
mod usage;
mod workload;
mod world;
