//! May this principal do this? Default deny, and any error denies.

use cedar_policy::{AuthorizationError, Decision, Entities, Request};
use gregal_core::access::Action;

use crate::{Policies, facts, facts::World, load::Loaded, principal::Principal, resource::Resource};

/// The guardrail that keeps organisations apart.
const ISOLATION: &str = "tenant.isolation";
/// The guardrail that keeps a bound key in its project.
const BOUND_KEY: &str = "key.bound_to_project";
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
            Self::Deny { reason: DenyReason::Error(_), .. } => true,
            Self::Deny { policies, .. } => {
                policies.iter().any(|id| [ISOLATION, BOUND_KEY, PROJECTS, OPERATOR].contains(&id.as_str()))
            }
        }
    }

    fn error(detail: impl std::fmt::Display) -> Self {
        Self::Deny { policies: Vec::new(), reason: DenyReason::Error(detail.to_string()) }
    }
}

impl Policies {
    /// Decides whether `principal` may do `action` to `resource`. Pure: same question, same verdict.
    pub fn authorize(&self, principal: &Principal, action: Action, resource: &Resource) -> Verdict {
        match facts::of_access(&self.0.names, principal, action, resource) {
            Ok(world) => self.0.authorize(world),
            Err(error) => Verdict::error(error),
        }
    }
}

impl Loaded {
    fn authorize(&self, world: World) -> Verdict {
        let request =
            match Request::new(world.principal, world.action, world.resource, world.context, Some(&self.schema)) {
                Ok(request) => request,
                Err(error) => return Verdict::error(error),
            };
        match self.entities(world.entities) {
            Ok(entities) => self.decide(&request, &entities),
            Err(error) => Verdict::error(error),
        }
    }

    /// The decision itself, over a request and facts as they stand. Apart from [`Policies::authorize`] only so that tests
    /// can take facts away.
    pub(crate) fn decide(&self, request: &Request, entities: &Entities) -> Verdict {
        let response = self.authorizer.is_authorized(request, &self.access, entities);
        let diagnostics = response.diagnostics();
        let errors: Vec<String> = diagnostics.errors().map(ToString::to_string).collect();
        if !errors.is_empty() {
            let policies = diagnostics
                .errors()
                .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string());
            let policies = policies.collect();
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
