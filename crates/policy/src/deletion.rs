//! Takes facts away, one by one, and shows that what was denied stays denied. Nothing validates the thinned facts here:
//! the policies alone have to hold.

use cedar_policy::{Decision, Entities, Entity, Request};
use gregal_core::{
    access::{Action, Role},
    id::{KeyId, OrganisationId, ProjectId, SiteId},
    residency::{Jurisdiction, ResidencyPolicy},
    site::{Site, SiteOperator},
    time::Time,
};

use crate::{
    authorize::{DenyReason, Verdict},
    facts::{self, World},
    load::Loaded,
    own::{OwnPolicies, Written},
    place::Placement,
    prepared::Asked,
    principal::Principal,
    resource::{Resource, ResourceKind},
};

const OURS: OrganisationId = OrganisationId::from_u128(1);
const THEIRS: OrganisationId = OrganisationId::from_u128(2);
const HERE: ProjectId = ProjectId::from_u128(11);
const BESIDE: ProjectId = ProjectId::from_u128(12);
const ABROAD: ProjectId = ProjectId::from_u128(21);

fn holder(role: Role, project: Option<ProjectId>) -> Principal {
    let organisation = (!role.is_operator()).then_some(OURS);
    let project = project.filter(|_| !role.is_operator());
    Principal::Key { key: KeyId::from_u128(31).into(), role, organisation, project }
}

fn principals() -> Vec<Principal> {
    let keys = Role::ALL.iter().flat_map(|role| [holder(*role, None), holder(*role, Some(HERE))]);
    keys.chain([Principal::Site(SiteId::from_u128(41))]).collect()
}

fn resources() -> Vec<Resource> {
    let mut all = vec![
        Resource::cloud(),
        Resource::site(SiteId::from_u128(41)),
        Resource::site(SiteId::from_u128(42)),
        Resource::organisation(OURS),
        Resource::organisation(THEIRS),
    ];
    for (organisation, project) in [(OURS, HERE), (OURS, BESIDE), (THEIRS, ABROAD)] {
        all.push(Resource::project(organisation, project));
        for kind in [
            ResourceKind::Dataset,
            ResourceKind::Job,
            ResourceKind::Model,
            ResourceKind::Endpoint,
            ResourceKind::Reservation,
        ] {
            all.push(Resource::within(kind, organisation, project, "thing"));
        }
        for role in [Role::Owner, Role::Inference, Role::Operator] {
            all.push(Resource::key(organisation, Some(project), KeyId::from_u128(51), role));
            all.push(Resource::key(organisation, None, KeyId::from_u128(52), role));
            all.push(Resource::member(organisation, Some(project), "thing", role));
            all.push(Resource::member(organisation, None, "thing", role));
        }
    }
    all
}

/// The same facts with one thing less: an entity, an attribute, or a belonging. Each with what was taken.
fn with_one_fact_less(facts: &[Entity]) -> Vec<(String, Vec<Entity>)> {
    let mut all = Vec::new();
    for (index, entity) in facts.iter().enumerate() {
        let (uid, attributes, parents) = entity.clone().into_inner();
        let mut without = facts.to_vec();
        without.remove(index);
        all.push((format!("entity {uid}"), without));
        let mut thinner = |what: String, entity: Entity| {
            let mut others = facts.to_vec();
            others[index] = entity;
            all.push((what, others));
        };
        for name in attributes.keys() {
            let mut fewer = attributes.clone();
            fewer.remove(name);
            thinner(format!("{uid}.{name}"), Entity::new(uid.clone(), fewer, parents.clone()).unwrap());
        }
        for parent in &parents {
            let mut fewer = parents.clone();
            fewer.remove(parent);
            thinner(format!("{uid} in {parent}"), Entity::new(uid.clone(), attributes.clone(), fewer).unwrap());
        }
    }
    all
}

fn bare_request(world: &World) -> Request {
    let World { principal, action, resource, context, .. } = world;
    Request::new(principal.clone(), action.clone(), resource.clone(), context.clone(), None).unwrap()
}

fn unvalidated(facts: Vec<Entity>) -> Entities {
    Entities::from_entities(facts, None).unwrap()
}

#[test]
fn no_missing_fact_turns_a_denial_into_a_permission() {
    let loaded = Loaded::embedded().unwrap();
    let (mut denials, mut deletions) = (0, 0);
    for principal in principals() {
        for resource in resources() {
            for action in Action::ALL {
                let world = facts::of_access(&loaded.names, &principal, *action, &resource).unwrap();
                let request = bare_request(&world);
                if loaded.decide(Asked::About(*action), &request, &unvalidated(world.entities.clone())).is_allowed() {
                    continue;
                }
                denials += 1;
                for (taken, facts) in with_one_fact_less(&world.entities) {
                    deletions += 1;
                    let verdict = loaded.decide(Asked::About(*action), &request, &unvalidated(facts));
                    assert!(
                        !verdict.is_allowed(),
                        "without {taken}, {principal:?} may {} {resource:?}: {verdict:?}",
                        action.as_str()
                    );
                }
            }
        }
    }
    assert!(denials > 10_000 && deletions > 4 * denials, "{denials} denials, {deletions} deletions");
}

#[test]
fn cedar_alone_would_allow_what_an_error_denies_here() {
    let loaded = Loaded::embedded().unwrap();
    let owner = holder(Role::Owner, None);
    let operators_key = Resource::key(OURS, None, KeyId::from_u128(51), Role::Operator);
    let world = facts::of_access(&loaded.names, &owner, Action::KeyCreate, &operators_key).unwrap();
    let request = bare_request(&world);
    let (_, facts) =
        with_one_fact_less(&world.entities).into_iter().find(|(taken, _)| taken.ends_with(".grants")).unwrap();
    let facts = unvalidated(facts);
    assert_eq!(loaded.authorizer.is_authorized(&request, loaded.access.whole(), &facts).decision(), Decision::Allow);
    let verdict = loaded.decide(Asked::About(Action::KeyCreate), &request, &facts);
    assert!(
        matches!(&verdict, Verdict::Deny { policies, reason: DenyReason::Error(_) } if policies == &["key.no_more_than_held"]),
        "{verdict:?}"
    );
    assert!(verdict.hides());
}

#[test]
fn no_missing_fact_lets_content_onto_ground_that_was_refused() {
    let loaded = Loaded::embedded().unwrap();
    let laws: Vec<Jurisdiction> = ["FR", "US"].iter().map(|code| code.parse().unwrap()).collect();
    let names = |name: &str| [name.to_owned()].into();
    // The operator's name is a fact that residency does not always ask for.
    let text = "forbid (principal is Ceiling, action, resource is Ground) when { resource.operator == \"acme\" };";
    let own = OwnPolicies::compile(OURS, [Written { project: None, name: "not-acme", text }]);
    let mut refusals = 0;
    for bits in 0..64_usize {
        let law = |bit: usize| laws[bits >> bit & 1];
        let site = Site {
            id: SiteId::from_u128(41),
            name: "somewhere".into(),
            jurisdiction: law(0),
            operator: SiteOperator { name: "acme".into(), jurisdiction: law(1), parent_jurisdiction: law(2) },
            certifications: if bits >> 3 & 1 == 1 { names("C5") } else { names("ISO27001") },
            url: None,
            secret_digest: String::new(),
            grid: None,
            capacity: None,
            lease_until: None,
            incarnation: None,
            created_at: Time::from_millis(0),
            version: 1,
        };
        let policy = ResidencyPolicy {
            jurisdictions: [laws[0]].into(),
            certifications: if bits >> 4 & 1 == 1 { names("C5") } else { [].into() },
            operators: if bits >> 5 & 1 == 1 { names("other") } else { [].into() },
        };
        for what in Placement::ALL {
            let world = facts::of_placement(&loaded.names, &policy, &site, *what).unwrap();
            let request = bare_request(&world);
            let request_of = &request;
            let is_no = |rules: Result<Vec<String>, String>| rules.map_or(true, |rules| !rules.is_empty());
            let by_own = |facts: &Entities| is_no(loaded.own_rules(request_of, facts, &own));
            assert!(by_own(&unvalidated(world.entities.clone())));
            for (taken, facts) in with_one_fact_less(&world.entities) {
                let facts = unvalidated(facts);
                let ours = is_no(loaded.residency_rules(request_of, &facts));
                assert!(ours || by_own(&facts), "without {taken}, {site:?} is allowed beside a guardrail about it");
            }
            let refused = |facts| is_no(loaded.residency_rules(request_of, &unvalidated(facts)));
            if !refused(world.entities.clone()) {
                continue;
            }
            refusals += 1;
            for (taken, facts) in with_one_fact_less(&world.entities) {
                assert!(refused(facts), "without {taken}, {policy:?} allows {site:?}");
            }
        }
    }
    assert!(refusals > 200, "{refusals} refusals");
}

/// Sets of an organisation's own that lean on every fact there is, each guardrail beside permits that do not ask for it.
const OWN: &[&[&str]] = &[
    &[
        "permit (principal, action, resource);",
        "forbid (principal is Holder in Role::\"developer\", action, resource);",
    ],
    &[
        "permit (principal, action, resource);",
        "forbid (principal is Holder, action, resource) when { principal has project && resource in principal.project };",
    ],
    &[
        "permit (principal, action, resource);",
        "forbid (principal is Holder, action, resource) when { principal.bound };",
    ],
    &[
        "permit (principal, action, resource);",
        "forbid (principal is Holder, action, resource) when { resource in principal.organisation };",
    ],
    &[
        "permit (principal, action, resource);",
        "forbid (principal is Holder, action, resource is Key) when { resource.role == Role::\"inference\" };",
    ],
    &[
        "permit (principal, action, resource);",
        "forbid (principal is Holder, action, resource) when { principal.grants.contains(Role::\"inference\") };",
    ],
    &[
        "permit (principal is Holder, action, resource) when { !(principal has project) };",
        "permit (principal is Holder, action, resource) when { !(principal in Role::\"viewer\") };",
    ],
];

#[test]
fn no_missing_fact_turns_a_denial_into_a_permission_beside_an_organisations_own_policies() {
    let loaded = Loaded::embedded().unwrap();
    let holders = || principals().into_iter().filter(|who| matches!(who, Principal::Key { organisation: Some(_), .. }));
    let by_project = format!("forbid (principal is Holder, action, resource in Project::\"{HERE}\");");
    let by_project = ["permit (principal, action, resource);", by_project.as_str()];
    let (mut denials, mut deletions) = (0, 0);
    for texts in OWN.iter().copied().chain([&by_project[..]]) {
        let names: Vec<String> = (0..texts.len()).map(|index| format!("p{index}")).collect();
        let written = texts.iter().zip(&names).map(|(text, name)| Written { project: None, name, text });
        let own = OwnPolicies::compile(OURS, written);
        for (principal, resource) in holders().flat_map(|who| resources().into_iter().map(move |what| (who, what))) {
            // One action a kind of rule: carried by roles, by permits alone, by neither, and of keys.
            for action in
                [Action::JobRead, Action::JobCancel, Action::AuditRead, Action::PolicyWrite, Action::KeyCreate]
            {
                let world = facts::of_access(&loaded.names, &principal, action, &resource).unwrap();
                let request = bare_request(&world);
                let slice = || Some((&own, resource.project));
                if loaded
                    .compose(Asked::About(action), &request, &unvalidated(world.entities.clone()), slice())
                    .is_allowed()
                {
                    continue;
                }
                denials += 1;
                for (taken, facts) in with_one_fact_less(&world.entities) {
                    deletions += 1;
                    let verdict = loaded.compose(Asked::About(action), &request, &unvalidated(facts), slice());
                    assert!(
                        !verdict.is_allowed(),
                        "without {taken}, beside {texts:?}, {principal:?} may {} {resource:?}: {verdict:?}",
                        action.as_str()
                    );
                }
            }
        }
    }
    assert!(denials > 5_000 && deletions > 3 * denials, "{denials} denials, {deletions} deletions");
}
