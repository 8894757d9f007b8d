//! Policies laid out by the action they can speak of, so that a decision asks a handful and not all. What is left out has
//! the action in its scope against it: it could neither have decided nor erred. Nothing is decided here.

use std::sync::OnceLock;

use cedar_policy::{ActionConstraint, EntityId, EntityTypeName, EntityUid, Policy, PolicySet, RequestEnv, Schema};
use gregal_core::access::Action;

use crate::{principal::Principal, resource::ResourceKind};

/// Which policies of a set are asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    /// Those that can speak of this action.
    About(Action),
    /// All of them: the slow way, which tests and debug builds hold the quick one against.
    Everything,
}

/// A set, and what of it can speak of each action, laid out when first asked for.
#[derive(Debug)]
pub(crate) struct Slices {
    whole: PolicySet,
    about: Vec<OnceLock<PolicySet>>,
}

impl Slices {
    pub(crate) fn new(whole: PolicySet) -> Self {
        let about = Action::ALL.iter().map(|_| OnceLock::new()).collect();
        Self { whole, about }
    }

    /// All of it.
    pub(crate) const fn whole(&self) -> &PolicySet {
        &self.whole
    }

    /// What has to be asked.
    pub(crate) fn of(&self, asked: Asked) -> &PolicySet {
        match asked {
            Asked::About(action) => match self.about.get(action as usize) {
                Some(about) => about.get_or_init(|| about_action(&self.whole, action).unwrap_or(self.whole.clone())),
                None => &self.whole,
            },
            Asked::Everything => &self.whole,
        }
    }
}

/// The policies whose scope lets the action through. None where it cannot be laid out; then all are asked.
fn about_action(whole: &PolicySet, action: Action) -> Option<PolicySet> {
    let kind: EntityTypeName = "Action".parse().ok()?;
    let action = EntityUid::from_type_name_and_id(kind, EntityId::new(action.as_str()));
    let mut about = PolicySet::new();
    for policy in whole.policies() {
        let policy = match policy.action_constraint() {
            ActionConstraint::Any => policy.clone(),
            ActionConstraint::Eq(named) if named == action => policy.clone(),
            ActionConstraint::In(named) if named.contains(&action) => narrowed(policy, &action)?,
            ActionConstraint::Eq(_) | ActionConstraint::In(_) => continue,
        };
        about.add(policy).ok()?;
    }
    Some(about)
}

/// The same policy with this one action in its scope: Cedar builds a scope's list of actions anew at every decision.
fn narrowed(policy: &Policy, action: &EntityUid) -> Option<Policy> {
    let mut tree = policy.to_json().ok()?;
    let entity = serde_json::json!({ "type": action.type_name().to_string(), "id": action.id().unescaped() });
    *tree.get_mut("action")? = serde_json::json!({ "op": "==", "entity": entity });
    Policy::from_json(Some(policy.id().clone()), tree).ok()
}

/// Which actions apply to what, and for whom: what the schema says, as a table.
#[derive(Debug)]
pub(crate) struct Applies(Vec<u64>);

/// The kinds of askers, as the schema spells them.
const ASKERS: [&str; 3] = ["Holder", "Operator", "Site"];
/// Room for nouns in a row of the table.
const NOUNS: usize = 16;

impl Applies {
    pub(crate) fn new(schema: &Schema) -> Self {
        let mut table = vec![0; Action::ALL.len()];
        for env in schema.request_envs() {
            if let Some((action, bit)) = place_of(&env) {
                table[action] |= bit;
            }
        }
        Self(table)
    }

    /// Whether the schema lets this question be asked at all.
    pub(crate) fn ask(&self, principal: &Principal, action: Action, kind: ResourceKind) -> bool {
        let asker = match principal {
            Principal::Key { role, .. } if role.is_operator() => 1,
            Principal::Key { .. } => 0,
            Principal::Site(_) => 2,
        };
        self.0.get(action as usize).is_some_and(|row| row & bit(asker, kind.index()) != 0)
    }
}

/// Where a question of the schema stands in the table; none for questions about places.
fn place_of(env: &RequestEnv) -> Option<(usize, u64)> {
    let asker = ASKERS.iter().position(|asker| *asker == env.principal().basename())?;
    let action = Action::ALL.iter().position(|action| action.as_str() == env.action().id().unescaped())?;
    let noun = ResourceKind::NOUNS.iter().position(|noun| *noun == env.resource().basename())?;
    Some((action, bit(asker, noun)))
}

const fn bit(asker: usize, noun: usize) -> u64 {
    1 << (asker * NOUNS + noun)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    #[test]
    fn no_action_stands_for_others_so_that_a_scope_says_all_there_is_to_know() {
        let loaded = Loaded::embedded().unwrap();
        assert_eq!(loaded.schema.action_groups().count(), 0);
        assert!(Action::ALL.iter().enumerate().all(|(index, action)| *action as usize == index));
        assert!(ResourceKind::NOUNS.len() <= NOUNS && ASKERS.len() * NOUNS <= 64);
    }

    #[test]
    fn every_action_is_laid_out_and_asks_fewer_than_all() {
        let loaded = Loaded::embedded().unwrap();
        for action in Action::ALL {
            let about = about_action(loaded.access.whole(), *action).unwrap();
            assert!(about.num_of_policies() < loaded.access.whole().num_of_policies(), "{}", action.as_str());
            // The guardrails that speak of every action are always among them.
            for rule in ["tenant.isolation", "key.bound_to_project", "operator.no_tenant_objects", "site.itself_only"] {
                assert!(about.policies().any(|policy| policy.id().to_string() == rule), "{rule}, {}", action.as_str());
            }
        }
    }
}
