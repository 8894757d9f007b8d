//! May this principal do this? Default deny, and any error denies.

use cedar_policy::{AuthorizationError, Decision, Entities, PolicySet, Request};
use gregal_core::{access::Action, id::ProjectId};

use crate::{
    Policies, facts,
    facts::World,
    load::{Loaded, known_entities},
    own::OwnPolicies,
    prepared::Asked,
    principal::Principal,
    resource::Resource,
};

/// The guardrail that keeps organisations apart.
const ISOLATION: &str = "tenant.isolation";
/// The guardrail that keeps a bound key in its project.
pub(crate) const BOUND_KEY: &str = "key.bound_to_project";
/// The guardrail that keeps keys from making keys above them.
pub(crate) const NO_MORE_THAN_HELD: &str = "key.no_more_than_held";
/// The part of a key's scope that says which projects it reaches.
const PROJECTS: &str = "key.scope.projects";
/// The guardrail that keeps operators out of what tenants own.
const OPERATOR: &str = "operator.no_tenant_objects";

/// What was decided, with what an audit entry needs to say why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be done.
    Allow {
        /// The ids of the policies that permit it.
        policies: Vec<String>,
    },
    /// It may not be done.
    Deny {
        /// The ids of the guardrails that forbid it, or of the policies that erred; empty if nothing permits it.
        policies: Vec<String>,
        /// What kind of denial this is.
        reason: DenyReason,
    },
}

/// What kind of denial it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DenyReason {
    /// No policy permits it: the role does not carry the action.
    NoPermit,
    /// A guardrail forbids it, whatever the role.
    Forbidden,
    /// It could not be decided; the text is for operators. An action that does not apply to the resource lands here too.
    Error(String),
}

impl DenyReason {
    /// A stable code for audit entries and problem details.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoPermit => "no_permit",
            Self::Forbidden => "forbidden",
            Self::Error(_) => "evaluation_error",
        }
    }
}

impl Verdict {
    /// Whether it may be done.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// The ids of the policies that decided, for the audit entry.
    pub fn policies(&self) -> &[String] {
        match self {
            Self::Allow { policies } | Self::Deny { policies, .. } => policies,
        }
    }

    /// Whether the asker must be told "not found": the resource is somebody else's, or nobody could tell.
    /// A denial that does not hide ("your role does not carry this") may say so.
    pub fn hides(&self) -> bool {
        match self {
            Self::Allow { .. } => false,
            // What an organisation's own policy tripped over is its owners' to mend: they are told.
            Self::Deny { reason: DenyReason::Error(_), policies } => {
                policies.is_empty() || !policies.iter().all(|rule| is_own(rule))
            }
            Self::Deny { policies, .. } => {
                policies.iter().any(|id| [ISOLATION, BOUND_KEY, PROJECTS, OPERATOR].contains(&id.as_str()))
            }
        }
    }

    /// Whether two verdicts say the same. The words of an error are for operators, and its parts may come in any order.
    fn is_as(&self, other: &Self) -> bool {
        let reason = |verdict: &Self| match verdict {
            Self::Allow { .. } => "",
            Self::Deny { reason, .. } => reason.as_str(),
        };
        (self.is_allowed(), self.policies(), reason(self)) == (other.is_allowed(), other.policies(), reason(other))
    }

    fn error(detail: impl std::fmt::Display) -> Self {
        Self::Deny { policies: Vec::new(), reason: DenyReason::Error(detail.to_string()) }
    }
}

/// Whether a rule is one an organisation wrote for itself.
pub(crate) fn is_own(rule: &str) -> bool {
    rule.starts_with("organisation:") || rule.starts_with("project:")
}

impl Policies {
    /// Decides whether `principal` may do `action` to `resource` by the cloud's own policies alone. Pure: same question,
    /// same verdict.
    pub fn authorize(&self, principal: &Principal, action: Action, resource: &Resource) -> Verdict {
        self.authorize_within(principal, action, resource, None)
    }

    /// As [`Policies::authorize`], with what the principal's organisation wrote for itself. Its forbids are added to the
    /// cloud's; its permits are added to roles, as far as `reach.cedar` agrees. Whatever it wrote, nothing is allowed that
    /// a guardrail of the cloud forbids, and any error denies.
    pub fn authorize_within(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource,
        own: Option<&OwnPolicies>,
    ) -> Verdict {
        // Operators and sites belong to no organisation: nobody's own policies speak of them.
        let own = own.filter(|_| matches!(principal, Principal::Key { organisation: Some(_), .. }));
        let asker = match principal {
            Principal::Key { organisation, .. } => *organisation,
            Principal::Site(_) => None,
        };
        if own.is_some_and(|own| Some(own.organisation()) != asker) {
            return Verdict::error("the policies of another organisation were brought");
        }
        let own = own.map(|own| (own, resource.project));
        let verdict = self.0.quickly(principal, action, resource, own);
        debug_assert!(
            verdict.is_as(&self.0.slowly(principal, action, resource, own)),
            "asking fewer policies changes no answer: {principal:?}, {action:?}, {resource:?}"
        );
        verdict
    }

    /// As [`Policies::authorize_within`], the slow way: every fact is held against the schema, and every policy is asked.
    /// Tests and benches hold the quick way against it.
    pub fn authorize_by_everything(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource,
        own: Option<&OwnPolicies>,
    ) -> Verdict {
        self.0.slowly(principal, action, resource, own.map(|own| (own, resource.project)))
    }
}

impl Policies {
    /// Whether a permit that an organisation writes could give this, as far as its reach goes.
    pub(crate) fn could_be_permitted(&self, principal: &Principal, action: Action, resource: &Resource) -> bool {
        let Ok(world) = facts::of_access(&self.0.names, principal, action, resource) else { return false };
        let World { principal, action: uid, resource, context, entities } = world;
        let request = Request::new(principal, uid, resource, context, Some(&self.0.schema));
        match (request, self.0.entities(entities)) {
            (Ok(request), Ok(entities)) => self.0.permits(self.0.reach.of(Asked::About(action)), &request, &entities),
            _ => false,
        }
    }
}

/// An organisation's own policies, and the project a question is about.
pub(crate) type Slice<'a> = (&'a OwnPolicies, Option<ProjectId>);

impl Loaded {
    /// The decision: the facts are known to hold to the schema, and only policies that can speak of the action are asked.
    fn quickly(&self, principal: &Principal, action: Action, resource: &Resource, own: Option<Slice<'_>>) -> Verdict {
        if !self.applies.ask(principal, action, resource.kind) {
            return self.slowly(principal, action, resource, own);
        }
        let world = match facts::of_access(&self.names, principal, action, resource) {
            Ok(world) => world,
            Err(error) => return Verdict::error(error),
        };
        let request = Request::new(world.principal, world.action, world.resource, world.context, None);
        match (request, known_entities(world.entities)) {
            (Ok(request), Ok(entities)) => self.compose(Asked::About(action), &request, &entities, own),
            (Err(error), _) => Verdict::error(error),
            (_, Err(error)) => Verdict::error(error),
        }
    }

    /// The same decision, with everything checked and asked.
    fn slowly(&self, principal: &Principal, action: Action, resource: &Resource, own: Option<Slice<'_>>) -> Verdict {
        let world = match facts::of_access(&self.names, principal, action, resource) {
            Ok(world) => world,
            Err(error) => return Verdict::error(error),
        };
        let request = Request::new(world.principal, world.action, world.resource, world.context, Some(&self.schema));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Verdict::error(error),
        };
        match self.entities(world.entities) {
            Ok(entities) => self.compose(Asked::Everything, &request, &entities, own),
            Err(error) => Verdict::error(error),
        }
    }

    /// The cloud's decision, and then what the organisation's own policies change of it: less by their forbids, more by
    /// their permits as far as they reach.
    pub(crate) fn compose(
        &self,
        asked: Asked,
        request: &Request,
        entities: &Entities,
        own: Option<Slice<'_>>,
    ) -> Verdict {
        let ours = self.decide(asked, request, entities);
        let Some((own, project)) = own else { return ours };
        if matches!(ours, Verdict::Deny { reason: DenyReason::Forbidden | DenyReason::Error(_), .. }) {
            return ours;
        }
        if ours.is_allowed() && self.permits(self.rescue.of(asked), request, entities) {
            return ours;
        }
        let said = own.of_access(&self.authorizer, asked, request, entities, project);
        if !said.errors.is_empty() {
            let (mut policies, details): (Vec<_>, Vec<_>) = said.errors.into_iter().unzip();
            policies.sort_unstable();
            return Verdict::Deny { policies, reason: DenyReason::Error(details.join("; ")) };
        }
        if !said.forbids.is_empty() {
            return Verdict::Deny { policies: sorted(said.forbids), reason: DenyReason::Forbidden };
        }
        if !ours.is_allowed() && !said.permits.is_empty() && self.permits(self.reach.of(asked), request, entities) {
            return Verdict::Allow { policies: sorted(said.permits) };
        }
        ours
    }

    /// Whether a set of ours permits; an error does not.
    pub(crate) fn permits(&self, policies: &PolicySet, request: &Request, entities: &Entities) -> bool {
        if policies.is_empty() {
            return false;
        }
        let response = self.authorizer.is_authorized(request, policies, entities);
        response.decision() == Decision::Allow && response.diagnostics().errors().next().is_none()
    }

    /// The decision itself, over a request and facts as they stand. Apart from [`Policies::authorize`] only so that tests
    /// can take facts away.
    pub(crate) fn decide(&self, asked: Asked, request: &Request, entities: &Entities) -> Verdict {
        let response = self.authorizer.is_authorized(request, self.access.of(asked), entities);
        let diagnostics = response.diagnostics();
        let errors: Vec<String> = diagnostics.errors().map(ToString::to_string).collect();
        if !errors.is_empty() {
            let policies = diagnostics
                .errors()
                .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string());
            let policies = sorted(policies.collect());
            return Verdict::Deny { policies, reason: DenyReason::Error(errors.join("; ")) };
        }
        let mut policies: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
        policies.sort_unstable();
        match response.decision() {
            Decision::Allow => Verdict::Allow { policies },
            Decision::Deny if policies.is_empty() => Verdict::Deny { policies, reason: DenyReason::NoPermit },
            Decision::Deny => Verdict::Deny { policies, reason: DenyReason::Forbidden },
        }
    }
}

fn sorted(mut policies: Vec<String>) -> Vec<String> {
    policies.sort_unstable();
    policies
}
