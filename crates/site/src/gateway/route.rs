//! Who asks, and which endpoint that is for. Decides from the intent alone; nothing on a request's path calls home.

use std::{collections::BTreeSet, net::IpAddr};

use gregal_api::{
    grant::{GRANT_PURPOSE, GRANT_SECONDS_MAX, GrantBody, GrantPurpose},
    protocol::{SiteKey, WantedEndpoint},
    signed::Signed,
};
use gregal_core::{
    access::Action,
    id::{EndpointId, KeyId, OrganisationId, ProjectId},
    key::{SECRET_PREFIX, digest_of},
    network::Network,
    scope::{Part, Scope},
    time::Time,
};
use gregal_policy::{HolderId, Placement, Policies, Principal, Resource, ResourceKind};

use super::{openai::error::ApiError, presented::Presented};
use crate::agent::intent::Standing;

/// Who asks for inference.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// The holder of a key, who may do what its role carries.
    Key { key: KeyId, principal: Principal, organisation: OrganisationId, project: Option<ProjectId>, scope: Scope },
    /// The holder of a grant for one endpoint: control has authorised it.
    Grant { key: KeyId, organisation: OrganisationId, project: ProjectId, endpoint: EndpointId, scope: Scope },
}

/// Checks a grant: control's signature, this site, this purpose, and time.
pub(crate) fn grant(standing: &Standing, line: &str, purpose: GrantPurpose, now: Time) -> Option<GrantBody> {
    let body: GrantBody = Signed::from_line(line).ok()?.open(standing.control_key.as_ref()?, GRANT_PURPOSE).ok()?;
    let in_time = now < body.expires_at && body.expires_at <= now.plus_seconds(GRANT_SECONDS_MAX + 60);
    let is_taken_back = is_taken_back(standing, body.key);
    let is_ours = Some(body.site) == standing.site && body.purpose == purpose;
    (is_ours && in_time && !is_taken_back).then_some(body)
}

/// Whether control took a key back in the last minutes: its grants are over with it, and what they opened.
pub(crate) fn is_taken_back(standing: &Standing, key: KeyId) -> bool {
    standing.intent.as_ref().is_some_and(|intent| intent.keys_revoked.contains(&key))
}

/// Whether a grant works from this address.
pub(crate) fn works_from(networks: Option<&BTreeSet<Network>>, peer: Option<IpAddr>) -> bool {
    let scope = Scope { networks: networks.cloned(), ..Scope::default() };
    scope.works_from(peer)
}

fn out_of_scope(part: Part) -> ApiError {
    out_of_scope_by(part.rule())
}

fn out_of_scope_by(rule: &str) -> ApiError {
    ApiError::forbidden(&format!("the key is narrowed and leaves this out (`{rule}`)"))
}

/// Finds out who carries this credential. What is unknown, revoked, expired or forged is nobody.
pub(crate) fn caller(standing: &Standing, presented: &Presented, now: Time) -> Result<Caller, ApiError> {
    let credential = presented.credential.as_deref().ok_or_else(ApiError::no_key)?;
    if standing.intent.is_none() {
        // Who is a stranger is not known yet.
        return Err(ApiError::unavailable("the site waits for its first word from the control plane"));
    }
    if !credential.starts_with(SECRET_PREFIX) {
        let body = grant(standing, credential, GrantPurpose::Infer, now).ok_or_else(ApiError::bad_key)?;
        // A grant ends with the key that asked for it: revoking the one takes the other back.
        let working = |key: &SiteKey| key.key == body.key && key.expires_at.is_none_or(|end| now < end);
        let key = standing.intent.as_ref().and_then(|intent| intent.keys.iter().find(|key| working(key)));
        let key = key.ok_or_else(ApiError::bad_key)?;
        // What the key was narrowed to when the grant was given, and what it is narrowed to now.
        if !(works_from(body.networks.as_ref(), presented.peer) && key.scope.works_from(presented.peer)) {
            return Err(out_of_scope(Part::Networks));
        }
        let endpoint = body.object.parse().map_err(|_| ApiError::bad_key())?;
        return Ok(Caller::Grant {
            key: body.key,
            organisation: body.organisation,
            project: body.project,
            endpoint,
            scope: key.scope.clone(),
        });
    }
    let key = standing.key(&digest_of(credential)).ok_or_else(ApiError::bad_key)?;
    if key.expires_at.is_some_and(|end| end <= now) {
        return Err(ApiError::bad_key());
    }
    if !key.scope.works_from(presented.peer) {
        return Err(out_of_scope(Part::Networks));
    }
    let (organisation, project) = (key.organisation, key.project);
    let holder = HolderId::of(key.key, key.account);
    let principal = Principal::Key { key: holder, role: key.role, organisation: Some(organisation), project };
    Ok(Caller::Key { key: key.key, principal, organisation, project, scope: key.scope.clone() })
}

impl Caller {
    /// The key behind it: of a grant, the one that asked for it.
    pub(crate) const fn key(&self) -> KeyId {
        match self {
            Self::Key { key, .. } | Self::Grant { key, .. } => *key,
        }
    }

    /// Whether an endpoint is within this caller's reach at all; what is not does not exist for it.
    fn reaches(&self, endpoint: &WantedEndpoint) -> bool {
        match self {
            Self::Key { organisation, project, .. } => {
                endpoint.organisation == *organisation && project.is_none_or(|project| project == endpoint.project)
            }
            Self::Grant { organisation, project, endpoint: granted, .. } => {
                endpoint.endpoint == *granted && endpoint.organisation == *organisation && endpoint.project == *project
            }
        }
    }

    /// Whether its role lets it ask this endpoint.
    fn may_infer(&self, standing: &Standing, policies: &Policies, endpoint: &WantedEndpoint) -> Result<(), ApiError> {
        let names = [endpoint.endpoint.to_string(), endpoint.name.clone(), endpoint.model.to_string()];
        let resource =
            Resource::within(ResourceKind::Endpoint, endpoint.organisation, endpoint.project, endpoint.endpoint)
                .at(standing.site)
                .called(names);
        let own = standing.own(endpoint.organisation);
        let verdict = match self {
            Self::Key { principal, scope, .. } => {
                policies.authorize_narrowed(scope, principal, Action::EndpointInfer, &resource, own)
            }
            Self::Grant { scope, .. } => policies.within(scope, Action::EndpointInfer, &resource),
        };
        let rule = verdict.policies().first().filter(|rule| rule.starts_with("key.scope."));
        if verdict.is_allowed() {
            Ok(())
        } else if verdict.hides() {
            Err(ApiError::model_not_found(&endpoint.name))
        } else if let Some(rule) = rule {
            Err(out_of_scope_by(rule))
        } else if let Some(own) = verdict.policies().first() {
            Err(ApiError::forbidden(&format!("the organisation's own policy `{own}` forbids `endpoint:infer` here")))
        } else {
            Err(ApiError::forbidden("the key's role may not ask served models (`endpoint:infer`)"))
        }
    }
}

/// Endpoints the caller may ask, for listing.
pub(crate) fn endpoints<'a>(standing: &'a Standing, policies: &Policies, caller: &Caller) -> Vec<&'a WantedEndpoint> {
    let mut found: Vec<_> = standing
        .endpoints()
        .iter()
        .filter(|endpoint| !endpoint.drain && caller.reaches(endpoint))
        .filter(|endpoint| caller.may_infer(standing, policies, endpoint).is_ok())
        .collect();
    found.sort_unstable_by_key(|endpoint| (&endpoint.name, endpoint.endpoint));
    found
}

/// The endpoint a request's `model` names: an endpoint's name in the key's project, `PROJECT/NAME`, or an endpoint's id.
/// Somebody else's is not found; one whose content may not be here is refused, naming the rule.
pub(crate) fn endpoint<'a>(
    standing: &'a Standing,
    policies: &Policies,
    caller: &Caller,
    model: &str,
) -> Result<&'a WantedEndpoint, ApiError> {
    let named = |endpoint: &&WantedEndpoint| {
        let in_project = model
            .split_once('/')
            .is_some_and(|(project, name)| endpoint.name == name && project == endpoint.project.to_string());
        endpoint.name == model || in_project || model == endpoint.endpoint.to_string()
    };
    let reached = standing.endpoints().iter().filter(|endpoint| caller.reaches(endpoint));
    let mut found = reached.filter(named);
    let Some(endpoint) = found.next() else { return Err(ApiError::model_not_found(model)) };
    if let Some(other) = found.next() {
        return Err(ApiError::invalid(
            Some("model"),
            format!(
                "several projects serve `{}`; say `{}/{}` or `{}/{}`",
                endpoint.name, endpoint.project, endpoint.name, other.project, other.name
            ),
        ));
    }
    let key = if let Caller::Key { key, .. } = caller { Some(*key) } else { None };
    if key.is_some_and(|key| standing.allowed.knows(key, endpoint.endpoint)) {
        return Ok(endpoint);
    }
    caller.may_infer(standing, policies, endpoint)?;
    let site = standing.intent.as_ref().map(|intent| &intent.site);
    if let (Some(residency), Some(site)) = (standing.residency(endpoint.organisation), site) {
        let own = standing.own(endpoint.organisation);
        let verdict = policies.place_within(residency, site, Placement::Route, own);
        if !verdict.allowed {
            let rule = verdict.rule.unwrap_or_else(|| "residency.unknown".into());
            return Err(ApiError::residency(&rule, &verdict.because));
        }
    } else {
        // Without a ceiling nobody can say that the content may be here.
        return Err(ApiError::residency(
            "residency.unknown",
            "this site was not told where the organisation's content may be",
        ));
    }
    if let Some(key) = key {
        standing.allowed.note(key, endpoint.endpoint);
    }
    Ok(endpoint)
}
