//! Gregal's vocabulary and its decisions: plain values in, plain answers out, the same on every machine.
//! Never here: input, output, SQL, HTTP, threads, or a clock that is read (`world` only says what a clock is).

pub mod access;
pub mod audit;
pub mod dataset;
pub mod endpoint;
pub mod energy;
pub mod hold;
pub mod id;
pub mod invoice;
pub mod job;
pub mod key;
pub mod ledger;
pub mod merkle;
pub mod meter;
pub mod model;
pub mod money;
pub mod network;
pub mod organisation;
pub mod place;
pub mod price;
pub mod queue;
pub mod quota;
pub mod quote;
pub mod replica;
pub mod reservation;
pub mod residency;
pub mod schedule;
pub mod scope;
pub mod site;
pub mod sku;
pub mod support;
pub mod time;
pub mod vat;
pub mod world;
