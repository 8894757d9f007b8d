//! Verbs as people and scripts meet them: exit status, stdout and stderr, against a cloud that answers from a script.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]
#![expect(clippy::needless_pass_by_value, reason = "`json!` values are made for the call")]

mod audit;
mod audit_export;
mod chat;
mod content;
mod errors;
mod fake;
mod invoice;
mod issued;
mod job;
mod lists;
mod log;
mod login;
mod make;
mod policy;
mod quota;
mod reservation;
mod sku;
