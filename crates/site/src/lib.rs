//! The data plane of one place under one law: the inference gateway, tenants' objects, the usage spool, and the agent that
//! dials control and makes what is so what is wanted.
//! Never here: a database, the ledger, somebody else's content, or anything that needs control's answer to serve a request.

mod agent;
mod content;
mod durable;
mod error;
mod external;
mod gateway;
mod key_use;
mod metrics;
pub mod objects;
mod site;
pub mod spool;

pub use content::DatasetStored;
pub use error::Error;
pub use external::External;
pub use site::{Site, SiteOptions, Tuning};
