//! The worlds a policy of an organisation is tried in: every role, bound and not, against everything of its own, of a
//! sibling project and of somebody else, with every id the policy names. A policy sees nothing beyond these facts, so
//! what holds in all of them holds.

use std::collections::BTreeSet;

use cedar_policy::Effect;
use gregal_core::{
    access::Role,
    id::{KeyId, OrganisationId, ProjectId, SiteId},
    residency::{Jurisdiction, ResidencyPolicy},
    site::{Site, SiteOperator},
    time::Time,
};

use crate::{
    principal::{HolderId, Principal},
    resource::{Resource, ResourceKind},
};

/// Somebody else, and a project of theirs. Ids are made from clocks and chance: nobody has these.
const THEIRS: OrganisationId = OrganisationId::from_u128(1);
const ABROAD: ProjectId = ProjectId::from_u128(2);
/// Two projects that the policy does not name.
const SOME: [ProjectId; 2] = [ProjectId::from_u128(3), ProjectId::from_u128(4)];
/// Something the policy does not name.
const THING: &str = "thing";

/// What a policy names: kinds of entities, and ids.
pub(crate) type Names = BTreeSet<(String, String)>;

/// The ids of a kind that a policy names.
fn named<'a>(names: &'a Names, kind: &'a str) -> impl Iterator<Item = &'a str> {
    names.iter().filter(move |(named, _)| named == kind).map(|(_, id)| id.as_str())
}

fn parsed<T: std::str::FromStr>(names: &Names, kind: &str) -> Vec<T> {
    named(names, kind).filter_map(|id| id.parse().ok()).collect()
}

/// Every holder of a key of the organisation, and where a policy forbids, whoever looks in by a support access too: no
/// permit reaches visitors.
pub(crate) fn holders(
    organisation: OrganisationId,
    names: &Names,
    own: Option<ProjectId>,
    effect: Effect,
) -> Vec<Principal> {
    let mut keys: Vec<HolderId> = vec![KeyId::from_u128(5).into()];
    keys.extend(parsed::<HolderId>(names, "Holder"));
    keys.extend(parsed::<KeyId>(names, "Key").into_iter().map(HolderId::from));
    let mut bounds: Vec<Option<ProjectId>> = vec![None, Some(SOME[0])];
    bounds.extend(own.into_iter().chain(parsed(names, "Project")).map(Some));
    let is_meant = |role: &Role| !role.is_operator() && (effect == Effect::Forbid || *role != Role::Visitor);
    let roles = Role::ALL.iter().copied().filter(is_meant);
    let mut all = Vec::new();
    for role in roles {
        for &key in &keys {
            let held =
                bounds.iter().map(|&project| Principal::Key { key, role, organisation: Some(organisation), project });
            all.extend(held);
        }
    }
    all
}

/// Everything there can be, of the organisation and of somebody else.
pub(crate) fn resources(organisation: OrganisationId, names: &Names, own: Option<ProjectId>) -> Vec<Resource> {
    let mut all = vec![Resource::cloud(), Resource::organisation(organisation), Resource::organisation(THEIRS)];
    all.extend([SiteId::from_u128(6)].into_iter().chain(parsed(names, "Site")).map(Resource::site));
    let mut places: Vec<(OrganisationId, ProjectId)> = vec![(THEIRS, ABROAD)];
    let projects = SOME.into_iter().chain(own).chain(parsed(names, "Project"));
    places.extend(projects.map(|project| (organisation, project)));
    for (of, project) in places {
        all.push(Resource::project(of, project));
        for kind in [
            ResourceKind::Dataset,
            ResourceKind::Job,
            ResourceKind::Model,
            ResourceKind::Endpoint,
            ResourceKind::Reservation,
        ] {
            let ids = [THING].into_iter().chain(named(names, kind.as_str()));
            all.extend(ids.map(|id| Resource::within(kind, of, project, id)));
        }
        let ids: Vec<KeyId> = [KeyId::from_u128(7)].into_iter().chain(parsed(names, "Key")).collect();
        for role in Role::ALL {
            let keys =
                ids.iter().flat_map(|id| [Some(project), None].map(|bound| Resource::key(of, bound, *id, *role)));
            all.extend(keys);
            let members = [THING].into_iter().chain(named(names, "Member"));
            all.extend(
                members.flat_map(|id| [Some(project), None].map(|bound| Resource::member(of, bound, id, *role))),
            );
        }
    }
    all
}

/// Ceilings that a policy could tell apart.
pub(crate) fn ceilings(words: &BTreeSet<String>) -> Vec<ResidencyPolicy> {
    let mut wide = ResidencyPolicy::eu();
    wide.jurisdictions.extend(laws(words));
    wide.certifications.extend(words.iter().cloned());
    wide.operators.extend(words.iter().cloned());
    vec![ResidencyPolicy::eu(), wide]
}

fn laws(words: &BTreeSet<String>) -> Vec<Jurisdiction> {
    const NAMED_MAX: usize = 2;
    let mut laws: Vec<Jurisdiction> = words.iter().filter_map(|word| word.parse().ok()).take(NAMED_MAX).collect();
    laws.extend(["FR", "US"].iter().filter_map(|code| code.parse::<Jurisdiction>().ok()));
    laws.sort_unstable();
    laws.dedup();
    laws
}

/// Sites on both sides of every word the policy says: each law for site, operator and parent, with and without.
pub(crate) fn sites(names: &Names, words: &BTreeSet<String>) -> Vec<Site> {
    let laws = laws(words);
    let ids: Vec<SiteId> = [SiteId::from_u128(6)].into_iter().chain(parsed(names, "Ground")).collect();
    let mut operators: Vec<String> = words.iter().take(2).cloned().collect();
    operators.push("somebody else".into());
    let certifications: [BTreeSet<String>; 2] = [BTreeSet::new(), words.clone()];
    let mut all = Vec::new();
    for id in ids {
        for (law, of_operator, of_parent) in triples(&laws) {
            for name in &operators {
                for certifications in &certifications {
                    let operator =
                        SiteOperator { name: name.clone(), jurisdiction: of_operator, parent_jurisdiction: of_parent };
                    all.push(site(id, law, operator, certifications.clone()));
                }
            }
        }
    }
    all
}

fn triples(laws: &[Jurisdiction]) -> impl Iterator<Item = (Jurisdiction, Jurisdiction, Jurisdiction)> {
    laws.iter().flat_map(move |a| laws.iter().flat_map(move |b| laws.iter().map(move |c| (*a, *b, *c))))
}

fn site(id: SiteId, law: Jurisdiction, operator: SiteOperator, certifications: BTreeSet<String>) -> Site {
    Site {
        id,
        name: "somewhere".into(),
        jurisdiction: law,
        operator,
        certifications,
        url: None,
        secret_digest: String::new(),
        grid: None,
        capacity: None,
        lease_until: None,
        incarnation: None,
        created_at: Time::from_millis(0),
        version: 1,
    }
}

/// How an answer calls a principal of these worlds.
pub(crate) fn who(principal: &Principal) -> String {
    match principal {
        Principal::Key { role, project: None, .. } => format!("a key with the role `{}`", role.as_str()),
        Principal::Key { role, .. } => format!("a key with the role `{}`, bound to a project", role.as_str()),
        Principal::Site(_) => "a site".into(),
    }
}

/// How an answer calls a thing of these worlds.
pub(crate) fn what(resource: &Resource, organisation: OrganisationId) -> String {
    let kind = match resource.kind {
        ResourceKind::Key(role) => format!("a key with the role `{}`", role.as_str()),
        ResourceKind::Member(role) => format!("a member with the role `{}`", role.as_str()),
        ResourceKind::Cloud => return "the cloud".into(),
        ResourceKind::Organisation if resource.organisation == Some(organisation) => return "the organisation".into(),
        ResourceKind::Organisation | ResourceKind::Endpoint => format!("an {}", resource.kind.as_str().to_lowercase()),
        other => format!("a {}", other.as_str().to_lowercase()),
    };
    match resource.organisation {
        Some(of) if of == organisation => format!("{kind} of the organisation"),
        Some(_) if resource.kind == ResourceKind::Organisation => "another organisation".into(),
        Some(_) => format!("{kind} of another organisation"),
        None => kind,
    }
}
