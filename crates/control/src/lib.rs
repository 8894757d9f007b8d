//! The control plane: use cases, HTTP, reconcilers, the ledger's and the audit log's keeper, and the console's pages.
//! Never here: content (prompts, completions, objects, logs, weights), engines, SQL, or a socket that it binds itself.
//!
//! [`Control::open`] builds it from [`ControlOptions`]; [`Control::router`] answers requests and [`Control::run`] carries
//! out the reconcilers. A request goes `http/` (translate) > `app/` (ask permission, decide in core, one transaction) and
//! back. Every route stands in [`gregal_api::routes::ROUTES`]; `http/router.rs` binds each to exactly one handler.

mod app;
mod asks;
mod console;
mod context;
mod crowd;
mod denials;
mod error;
mod founding;
mod http;
mod identity;
mod metrics;
mod names;
mod own;
mod signer;
mod sync;
mod tasks;
mod wakes;

pub use context::{AccessOptions, Actor, Control, ControlOptions, Cx, Invoicing};
pub use error::Error;
pub use identity::{IdentityOptions, ProviderOptions};

/// What every call of this room answers.
pub type Result<T> = std::result::Result<T, Error>;
