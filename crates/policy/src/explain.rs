//! Why a decision is what it is, and what would have to change.

use cedar_policy::{Effect, Policy};
use gregal_core::access::{Action, Role};

use crate::{
    Policies,
    authorize::{BOUND_KEY, DenyReason, NO_MORE_THAN_HELD, Verdict, is_own},
    own::OwnPolicies,
    principal::Principal,
    resource::{Resource, ResourceKind},
};

impl Policies {
    /// A policy of the cloud by its name: whether it permits, and its text.
    pub fn text_of(&self, rule: &str) -> Option<(bool, String)> {
        let loaded = &self.0;
        let sets =
            [loaded.access.whole(), &loaded.residency, &loaded.ceiling, loaded.reach.whole(), loaded.rescue.whole()];
        let named = |policy: &&Policy| AsRef::<str>::as_ref(policy.id()) == rule;
        let found = sets.into_iter().find_map(|set| set.policies().find(named))?;
        Some((found.effect() == Effect::Permit, found.to_string()))
    }

    /// What would have to change for a denial to become a permission, each enough by itself where they are alternatives;
    /// empty for what is allowed, and for what nothing opens.
    pub fn would_need(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource,
        own: Option<&OwnPolicies>,
    ) -> Vec<String> {
        match self.authorize_within(principal, action, resource, own) {
            Verdict::Allow { .. } => Vec::new(),
            Verdict::Deny { policies, reason: DenyReason::NoPermit } if policies.is_empty() => {
                self.would_permit(principal, action, resource, own)
            }
            Verdict::Deny { policies, .. } if !policies.is_empty() && policies.iter().all(|rule| is_own(rule)) => {
                let changed = |rule: &String| format!("`{rule}` changed or removed by an owner");
                let mut all: Vec<String> = policies.iter().map(changed).collect();
                if !self.authorize(principal, action, resource).is_allowed() {
                    let others = self.would_permit(principal, action, resource, None);
                    all.extend(others.into_iter().map(|need| format!("and then {need}")));
                }
                all
            }
            Verdict::Deny { policies, .. } => policies.iter().filter_map(|rule| would_open(rule, resource)).collect(),
        }
    }

    /// Roles that carry it, and whether a permit could give it.
    fn would_permit(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource,
        own: Option<&OwnPolicies>,
    ) -> Vec<String> {
        let Principal::Key { key, organisation: Some(organisation), project, .. } = *principal else {
            return Vec::new();
        };
        let as_role = |role: Role| Principal::Key { key, role, organisation: Some(organisation), project };
        let tenants = Role::ALL.iter().copied().filter(|role| !role.is_operator() && *role != Role::Visitor);
        let carry = tenants.filter(|role| self.authorize_within(&as_role(*role), action, resource, own).is_allowed());
        let roles: Vec<String> = carry.map(|role| format!("`{}`", role.as_str())).collect();
        let mut all = Vec::new();
        if !roles.is_empty() {
            all.push(format!("a key with the role {}", roles.join(" or ")));
        }
        if self.could_be_permitted(principal, action, resource) {
            all.push(format!("a permit for `{}` that an owner writes: `gregal policy put`", action.as_str()));
        }
        all
    }
}

/// What opens a guardrail of the cloud, if anything does.
fn would_open(rule: &str, resource: &Resource) -> Option<String> {
    match (rule, resource.kind) {
        (BOUND_KEY, _) => Some("a key that is bound to no project, or to the one this belongs to".into()),
        (NO_MORE_THAN_HELD, ResourceKind::Key(wanted)) => {
            let may = Role::ALL.iter().filter(|role| role.may_grant(wanted));
            let roles: Vec<String> = may.map(|role| format!("`{}`", role.as_str())).collect();
            (!roles.is_empty()).then(|| format!("a key with the role {}", roles.join(" or ")))
        }
        _ => None,
    }
}
