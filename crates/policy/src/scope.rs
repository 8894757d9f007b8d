//! Keys narrowed by their makers: a must-permit in front of the policies, for both planes.

use gregal_core::{
    access::Action,
    scope::{Asked, Part, Scope},
};

use crate::{
    OwnPolicies, Policies, Principal, Verdict,
    authorize::DenyReason,
    resource::{Resource, ResourceKind},
};

impl Policies {
    /// As [`Policies::authorize_within`], for the holder of a key narrowed to `scope`. Both must allow: a scope permits nothing by
    /// itself, and what the policies deny is told as they tell it. A refusal by scope names its part: `key.scope.sites`.
    pub fn authorize_narrowed(
        &self,
        scope: &Scope,
        principal: &Principal,
        action: Action,
        resource: &Resource,
        own: Option<&OwnPolicies>,
    ) -> Verdict {
        let verdict = self.authorize_within(principal, action, resource, own);
        match scope.refuses(&resource.asked(action)) {
            Some(part) if verdict.is_allowed() => refused(part),
            _ => verdict,
        }
    }
}

impl Policies {
    /// Whether a scope alone lets something through: for grants, whose action control allowed when it signed them.
    pub fn within(&self, scope: &Scope, action: Action, resource: &Resource) -> Verdict {
        match scope.refuses(&resource.asked(action)) {
            Some(part) => refused(part),
            None => Verdict::Allow { policies: Vec::new() },
        }
    }
}

/// The denial of what a key's scope leaves out.
pub(crate) fn refused(part: Part) -> Verdict {
    Verdict::Deny { policies: vec![part.rule().to_owned()], reason: DenyReason::Forbidden }
}

impl Resource {
    fn asked(&self, action: Action) -> Asked<'_> {
        Asked {
            action,
            is_public: matches!(self.kind, ResourceKind::Cloud | ResourceKind::Site),
            project: self.project,
            site: self.site,
            names: &self.names,
        }
    }
}
