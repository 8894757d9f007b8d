//! The contract: wire types, routes, problem codes, grants, `OpenAPI` and the typed client.
//! Never here: handlers, decisions, or anything that touches a database.

pub mod access;
pub mod audit;
pub mod catalogue;
pub mod client;
pub mod dataset;
pub mod endpoint;
pub mod grant;
pub mod invoice;
pub mod job;
pub mod key;
pub mod model;
pub mod openapi;
pub mod operator_key;
pub mod organisation;
pub mod page;
pub mod person;
pub mod placement;
pub mod policy;
pub mod problem;
pub mod project;
pub mod protocol;
pub mod quota;
pub mod reservation;
pub mod routes;
pub mod scim;
pub mod scope;
pub mod service_account;
pub mod signed;
pub mod site;
pub mod sku;
pub mod token;
pub mod unread;
pub mod usage;
