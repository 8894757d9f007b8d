//! HTTP: translate what came in, call the use case, translate back. No decisions, no store.

mod access;
mod audit;
mod catalogue;
mod dataset;
mod endpoint;
mod envelope;
mod extract;
mod grant;
mod guard;
mod invoice;
mod job;
mod key;
mod model;
mod organisation;
pub(crate) mod peer;
mod person;
mod placement;
mod policy;
mod project;
mod quota;
mod reservation;
pub(crate) mod router;
mod service_account;
mod site;
mod sku;
mod token;
mod usage;
