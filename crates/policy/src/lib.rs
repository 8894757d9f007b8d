//! Who may do what, and where content may be: the schema, the policies (Cedar) and their evaluation.
//! Never here: input, output, clocks, authentication (who somebody is), or a decision that another room could overrule.
//!
//! Two questions, one value:
//!
//! - [`Policies::authorize`]: may this principal do this action to this resource?
//! - [`Policies::place`]: may content of an organisation with this residency policy be at this site?
//!
//! Both deny by default, and both deny when anything errs. Cedar itself skips a policy that errs, so a guardrail that
//! trips over a missing fact would silently stop guarding; here an error anywhere is a denial of its own kind.

mod authorize;
mod catalogue;
mod check;
#[cfg(test)]
mod deletion;
mod explain;
mod facts;
mod load;
mod own;
mod place;
mod prepared;
mod principal;
mod resource;
mod scope;

use std::sync::Arc;

pub use crate::{
    authorize::{DenyReason, Verdict},
    check::{Checked, Refused, refuse_unknown},
    load::Error,
    own::{OwnPolicies, Written},
    place::{Placement, PlacementVerdict},
    principal::{HolderId, Principal},
    resource::{Resource, ResourceKind},
};

/// The schema and policies, parsed and validated once. Clones share them; safe to use from many threads.
#[derive(Clone, Debug)]
pub struct Policies(Arc<load::Loaded>);

impl Policies {
    /// Parses the embedded schema and policies and validates them strictly.
    ///
    /// Fails only if the embedded files are wrong, which the tests of this room would have shown.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Arc::new(load::Loaded::embedded()?)))
    }
}
