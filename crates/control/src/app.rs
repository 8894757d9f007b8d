//! The use cases, one file a noun: ask permission, decide (core), write row, audit entry and outbox message at once.

pub(crate) mod access;
pub(crate) mod allowance;
pub(crate) mod audit;
mod billing;
mod catalogue;
pub(crate) mod dataset;
mod domain;
mod endpoint;
mod explain;
mod grant;
mod invitation;
mod invoice;
pub(crate) mod job;
mod key;
mod limit;
mod member;
mod model;
pub(crate) mod money;
mod operator_key;
pub(crate) mod organisation;
mod person;
mod placement;
pub(crate) mod policy;
pub(crate) mod preempt;
mod project;
mod quota;
pub(crate) mod reservation;
pub(crate) mod sign_in;
mod site;
mod sku;
mod usage;

pub(crate) use endpoint::price_item;
