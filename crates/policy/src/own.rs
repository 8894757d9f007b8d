//! What an organisation wrote for itself, compiled: one slice an organisation, asked beside the cloud's own policies and
//! never mixed with them. A text in here can therefore neither replace nor rename a rule of ours.

use std::{collections::BTreeMap, sync::Arc};

use cedar_policy::{ActionConstraint, Authorizer, Decision, Entities, Policy, PolicyId, PolicySet, Request};
use gregal_core::{
    id::{OrganisationId, ProjectId},
    policy::rule_of,
};

use crate::prepared::{Asked, Slices};

/// One policy as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<'a> {
    /// The project it speaks for; none speaks for the whole organisation.
    pub project: Option<ProjectId>,
    /// What it is called.
    pub name: &'a str,
    /// One policy in Cedar.
    pub text: &'a str,
}

/// An organisation's own policies, compiled once. Clones share them.
#[derive(Debug, Clone)]
pub struct OwnPolicies(Arc<Own>);

#[derive(Debug)]
struct Own {
    organisation: OrganisationId,
    /// The rule that could not be read, and why; then nothing but an owner's mending is allowed.
    broken: Option<(String, String)>,
    access: Slices,
    projects: BTreeMap<ProjectId, Slices>,
    placing: PolicySet,
    has_permits: bool,
}

/// What one slice says of a question.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) permits: Vec<String>,
    pub(crate) forbids: Vec<String>,
    /// Rules that erred, and what went wrong.
    pub(crate) errors: Vec<(String, String)>,
}

impl OwnPolicies {
    /// Compiles what was stored. A text that cannot be read is not skipped: it may have been a guardrail, so everything
    /// is denied until an owner has mended it.
    pub fn compile<'a>(organisation: OrganisationId, written: impl IntoIterator<Item = Written<'a>>) -> Self {
        let mut read = Read::default();
        for one in written {
            let rule = rule_of(one.project.is_some(), one.name);
            if let Err(why) = read.take(one, &rule) {
                read.broken = Some((rule, why));
            }
        }
        let Read { broken, access, projects, placing, has_permits } = read;
        let projects = projects.into_iter().map(|(project, set)| (project, Slices::new(set))).collect();
        Self(Arc::new(Own { organisation, broken, access: Slices::new(access), projects, placing, has_permits }))
    }

    /// Whose they are.
    pub fn organisation(&self) -> OrganisationId {
        self.0.organisation
    }

    /// Whether any of them permits something: then a role alone does not say what a key may do.
    pub fn has_permits(&self) -> bool {
        self.0.has_permits
    }

    /// Whether any of them speaks about where content may be.
    pub fn speaks_of_places(&self) -> bool {
        self.0.placing.num_of_policies() > 0 || self.0.broken.is_some()
    }

    /// What they say of a request for something in this project, or in none.
    pub(crate) fn of_access(
        &self,
        by: &Authorizer,
        asked: Asked,
        request: &Request,
        entities: &Entities,
        project: Option<ProjectId>,
    ) -> Said {
        let mut said = self.said_first();
        said.ask(by, request, entities, self.0.access.of(asked));
        if let Some(policies) = project.and_then(|project| self.0.projects.get(&project)) {
            said.ask(by, request, entities, policies.of(asked));
        }
        said
    }

    /// What they say of content at a place.
    pub(crate) fn of_place(&self, by: &Authorizer, request: &Request, entities: &Entities) -> Said {
        let mut said = self.said_first();
        said.ask(by, request, entities, &self.0.placing);
        said
    }

    fn said_first(&self) -> Said {
        Said { errors: self.0.broken.iter().cloned().collect(), ..Said::default() }
    }
}

/// What has been read so far.
#[derive(Default)]
struct Read {
    broken: Option<(String, String)>,
    access: PolicySet,
    projects: BTreeMap<ProjectId, PolicySet>,
    placing: PolicySet,
    has_permits: bool,
}

impl Read {
    fn take(&mut self, one: Written<'_>, rule: &str) -> Result<(), String> {
        let policy = Policy::parse(Some(PolicyId::new(rule)), one.text).map_err(|error| error.to_string())?;
        self.has_permits |= policy.effect() == cedar_policy::Effect::Permit;
        let set = match one.project {
            None if is_about_places(&policy) => &mut self.placing,
            None => &mut self.access,
            Some(project) => self.projects.entry(project).or_default(),
        };
        set.add(policy).map_err(|error| error.to_string())
    }
}

/// Whether a policy speaks of content at places: it says so in its scope.
pub(crate) fn is_about_places(policy: &Policy) -> bool {
    let places = |action: &cedar_policy::EntityUid| action.id().unescaped().starts_with("place:");
    let by_principal = match policy.principal_constraint() {
        cedar_policy::PrincipalConstraint::Is(kind) | cedar_policy::PrincipalConstraint::IsIn(kind, _) => {
            kind.basename() == "Ceiling"
        }
        cedar_policy::PrincipalConstraint::Eq(uid) | cedar_policy::PrincipalConstraint::In(uid) => {
            uid.type_name().basename() == "Ceiling"
        }
        cedar_policy::PrincipalConstraint::Any => false,
    };
    by_principal
        || match policy.action_constraint() {
            ActionConstraint::Any => false,
            ActionConstraint::Eq(action) => places(&action),
            ActionConstraint::In(actions) => actions.iter().any(places),
        }
}

impl Said {
    pub(crate) fn ask(&mut self, by: &Authorizer, request: &Request, entities: &Entities, policies: &PolicySet) {
        if policies.is_empty() {
            return;
        }
        let response = by.is_authorized(request, policies, entities);
        let diagnostics = response.diagnostics();
        for cedar_policy::AuthorizationError::PolicyEvaluationError(error) in diagnostics.errors() {
            self.errors.push((error.policy_id().to_string(), error.to_string()));
        }
        // Cedar names the forbids of a denial and the permits of a permission; a denial without any has no reason.
        let reasons = diagnostics.reason().map(ToString::to_string);
        match response.decision() {
            Decision::Allow => self.permits.extend(reasons),
            Decision::Deny => self.forbids.extend(reasons),
        }
    }
}
