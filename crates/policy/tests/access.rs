//! Authorisation through the public door.

use gregal_core::{
    access::{Action, Role},
    id::{KeyId, OrganisationId, ProjectId, SiteId},
};
use gregal_policy::{DenyReason, Policies, Principal, Resource, ResourceKind, Verdict};
use proptest::prelude::*;

const OURS: OrganisationId = OrganisationId::from_u128(1);
const THEIRS: OrganisationId = OrganisationId::from_u128(2);
const HERE: ProjectId = ProjectId::from_u128(11);
const BESIDE: ProjectId = ProjectId::from_u128(12);

fn holder(role: Role, project: Option<ProjectId>) -> Principal {
    Principal::Key { key: KeyId::from_u128(31).into(), role, organisation: Some(OURS), project }
}

fn operator() -> Principal {
    Principal::Key { key: KeyId::from_u128(32).into(), role: Role::Operator, organisation: None, project: None }
}

fn job(organisation: OrganisationId, project: ProjectId) -> Resource {
    Resource::within(ResourceKind::Job, organisation, project, "job_1")
}

fn policies() -> Policies {
    Policies::new().expect("the embedded policies are right")
}

#[test]
fn the_policies_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    shared(&policies());
}

#[test]
fn a_permission_names_the_policy_that_gives_it() {
    let verdict = policies().authorize(&holder(Role::Developer, None), Action::JobCreate, &job(OURS, HERE));
    assert_eq!(verdict, Verdict::Allow { policies: vec!["role.developer".into()] });
    assert!(!verdict.hides());
}

#[test]
fn what_no_role_carries_is_denied_without_hiding_that_it_exists() {
    let verdict = policies().authorize(&holder(Role::Viewer, None), Action::JobCancel, &job(OURS, HERE));
    assert_eq!(verdict, Verdict::Deny { policies: vec![], reason: DenyReason::NoPermit });
    assert!(!verdict.hides());
}

#[test]
fn somebody_elses_object_is_forbidden_by_name_and_hidden() {
    let verdict = policies().authorize(&holder(Role::Owner, None), Action::JobRead, &job(THEIRS, HERE));
    assert_eq!(verdict.policies(), ["tenant.isolation"]);
    assert!(verdict.hides());
}

#[test]
fn a_bound_key_reaches_its_project_not_the_sibling_nor_the_organisation() {
    let policies = policies();
    let bound = holder(Role::Owner, Some(HERE));
    assert!(policies.authorize(&bound, Action::JobRead, &job(OURS, HERE)).is_allowed());
    assert!(policies.authorize(&bound, Action::CatalogueRead, &Resource::cloud()).is_allowed());
    let organisation_key = Resource::key(OURS, None, KeyId::from_u128(5), Role::Inference);
    for (action, resource) in [
        (Action::JobRead, job(OURS, BESIDE)),
        (Action::OrganisationRead, Resource::organisation(OURS)),
        (Action::ResidencyWrite, Resource::organisation(OURS)),
        (Action::KeyCreate, organisation_key),
    ] {
        let verdict = policies.authorize(&bound, action, &resource);
        assert_eq!(verdict.policies(), ["key.bound_to_project"], "{resource:?}");
        assert!(verdict.hides());
    }
}

#[test]
fn an_operator_sees_no_tenants_objects() {
    let policies = policies();
    assert!(policies.authorize(&operator(), Action::OrganisationRead, &Resource::organisation(OURS)).is_allowed());
    for action in [Action::JobRead, Action::JobCancel] {
        let verdict = policies.authorize(&operator(), action, &job(OURS, HERE));
        assert_eq!(verdict.policies(), ["operator.no_tenant_objects"]);
        assert!(verdict.hides());
    }
}

#[test]
fn nobody_makes_or_revokes_a_key_above_what_he_may_grant() {
    let policies = policies();
    for role in Role::ALL.iter().filter(|role| !role.is_operator()) {
        for other in Role::ALL {
            let key = Resource::key(OURS, Some(HERE), KeyId::from_u128(5), *other);
            for action in [Action::KeyCreate, Action::KeyRotate, Action::KeyRevoke] {
                let verdict = policies.authorize(&holder(*role, None), action, &key);
                assert_eq!(verdict.is_allowed(), role.may_grant(*other), "{role:?} {action:?} {other:?}: {verdict:?}");
            }
        }
    }
}

#[test]
fn a_site_dials_in_for_itself_alone() {
    let policies = policies();
    let (me, other) = (SiteId::from_u128(41), SiteId::from_u128(42));
    let site = Principal::Site(me);
    assert!(policies.authorize(&site, Action::SiteSync, &Resource::site(me)).is_allowed());
    assert!(policies.authorize(&site, Action::CatalogueRead, &Resource::cloud()).is_allowed());
    assert_eq!(policies.authorize(&site, Action::SiteSync, &Resource::site(other)).policies(), ["site.itself_only"]);
    for action in Action::ALL {
        assert!(!policies.authorize(&site, *action, &job(OURS, HERE)).is_allowed(), "{action:?}");
        assert!(!policies.authorize(&site, *action, &Resource::organisation(OURS)).is_allowed(), "{action:?}");
    }
    assert!(!policies.authorize(&operator(), Action::SiteSync, &Resource::site(me)).is_allowed());
}

#[test]
fn facts_that_contradict_themselves_are_denied_as_an_error() {
    let policies = policies();
    let homeless =
        Principal::Key { key: KeyId::from_u128(1).into(), role: Role::Owner, organisation: None, project: None };
    let bound_operator = Principal::Key {
        key: KeyId::from_u128(1).into(),
        role: Role::Operator,
        organisation: Some(OURS),
        project: None,
    };
    let mut two_faced = Resource::project(OURS, HERE);
    two_faced.project = Some(BESIDE);
    for (principal, action, resource) in [
        (homeless, Action::CatalogueRead, Resource::cloud()),
        (bound_operator, Action::CatalogueRead, Resource::cloud()),
        (holder(Role::Owner, None), Action::ProjectRead, two_faced),
        (holder(Role::Owner, None), Action::JobCancel, Resource::organisation(OURS)),
    ] {
        let verdict = policies.authorize(&principal, action, &resource);
        assert!(matches!(&verdict, Verdict::Deny { reason: DenyReason::Error(why), .. } if !why.is_empty()));
        assert!(verdict.hides());
    }
}

#[test]
fn home_is_the_widest_place_a_principal_reaches() {
    let policies = policies();
    for principal in [holder(Role::Viewer, None), holder(Role::Viewer, Some(HERE))] {
        assert!(policies.authorize(&principal, Action::JobRead, &principal.home()).is_allowed(), "{principal:?}");
    }
    assert!(policies.authorize(&operator(), Action::OrganisationRead, &operator().home()).is_allowed());
    let site = Principal::Site(SiteId::from_u128(41));
    assert!(policies.authorize(&site, Action::SiteSync, &site.home()).is_allowed());
}

fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    (0..all.len()).prop_map(|index| all[index])
}

fn any_organisation() -> impl Strategy<Value = Option<OrganisationId>> {
    proptest::option::of((1..4_u128).prop_map(OrganisationId::from_u128))
}

fn any_project() -> impl Strategy<Value = Option<ProjectId>> {
    proptest::option::of((11..14_u128).prop_map(ProjectId::from_u128))
}

fn any_principal() -> impl Strategy<Value = Principal> {
    let key = (any_of(Role::ALL), any_organisation(), any_project()).prop_map(|(role, organisation, project)| {
        Principal::Key { key: KeyId::from_u128(31).into(), role, organisation, project }
    });
    prop_oneof![9 => key, 1 => (41..43_u128).prop_map(|id| Principal::Site(SiteId::from_u128(id)))]
}

fn any_kind() -> impl Strategy<Value = ResourceKind> {
    prop_oneof![
        Just(ResourceKind::Cloud),
        Just(ResourceKind::Site),
        Just(ResourceKind::Organisation),
        Just(ResourceKind::Project),
        any_of(Role::ALL).prop_map(ResourceKind::Key),
        any_of(Role::ALL).prop_map(ResourceKind::Member),
        Just(ResourceKind::Dataset),
        Just(ResourceKind::Job),
        Just(ResourceKind::Model),
        Just(ResourceKind::Endpoint),
    ]
}

/// A resource as a confused caller could build it: any id, any belonging.
fn any_resource() -> impl Strategy<Value = Resource> {
    (any_kind(), any_organisation(), any_project(), 0..3_usize).prop_map(|(kind, organisation, project, pick)| {
        let ids = [
            "thing".to_owned(),
            organisation.map_or_else(|| SiteId::from_u128(41).to_string(), |id| id.to_string()),
            project.map_or_else(|| OrganisationId::from_u128(1).to_string(), |id| id.to_string()),
        ];
        Resource { kind, id: ids[pick].clone(), organisation, project, site: None, names: Vec::new() }
    })
}

/// The widest that may ever be allowed, said without Cedar.
fn within_ceiling(principal: &Principal, action: Action, resource: &Resource) -> bool {
    let public = matches!(resource.kind, ResourceKind::Cloud | ResourceKind::Site);
    match *principal {
        Principal::Site(site) => {
            (resource.kind == ResourceKind::Cloud && action == Action::CatalogueRead)
                || (resource.kind == ResourceKind::Site && resource.id == site.to_string())
        }
        Principal::Key { role, organisation, project, .. } if role.is_operator() => {
            let may = matches!(
                action,
                Action::CatalogueRead
                    | Action::SkuWrite
                    | Action::OrganisationCreate
                    | Action::OrganisationRead
                    | Action::QuotaRead
                    | Action::QuotaWrite
                    | Action::SiteCreate
                    | Action::JobPreempt
                    | Action::AuditReadAll
                    | Action::QuarantineRead
                    | Action::DomainRead
                    | Action::DomainWrite
                    | Action::PersonErase
                    | Action::OperatorKeyCreate
                    | Action::OperatorKeyRead
                    | Action::OperatorKeyRevoke
                    | Action::AccessRequest
                    | Action::AccessApprove
                    | Action::AccessRead
                    | Action::AccessEnd
                    | Action::IssuedInvoiceRead
                    | Action::InvoiceIssue
                    | Action::BillingWrite
            );
            organisation.is_none()
                && project.is_none()
                && may
                && (public || resource.kind == ResourceKind::Organisation)
        }
        Principal::Key { organisation: None, .. } => false,
        Principal::Key { role, organisation: Some(mine), project, .. } => {
            if public {
                return action == Action::CatalogueRead && role != Role::Inference;
            }
            let at_home = match resource.kind {
                ResourceKind::Organisation => resource.id == mine.to_string(),
                _ => resource.organisation == Some(mine),
            };
            let in_project = project.is_none_or(|bound| match resource.kind {
                ResourceKind::Organisation => false,
                ResourceKind::Project => resource.id == bound.to_string(),
                _ => resource.project == Some(bound),
            });
            let granted = match (action, resource.kind) {
                (Action::KeyCreate | Action::KeyRotate | Action::KeyRevoke, ResourceKind::Key(other)) => {
                    role.may_grant(other)
                }
                (Action::KeyCreate | Action::KeyRotate | Action::KeyRevoke, _) => false,
                (Action::ScimProvision, ResourceKind::Member(other)) => role.may_grant(other),
                (
                    Action::MemberWrite | Action::MemberRemove | Action::InvitationCreate | Action::InvitationRevoke,
                    kind,
                ) => matches!(kind, ResourceKind::Member(other) if role.may_grant(other)),
                _ => true,
            };
            at_home && in_project && granted
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn in_no_world_is_anything_allowed_above_the_ceiling(
        principal in any_principal(),
        action in any_of(Action::ALL),
        resource in any_resource(),
    ) {
        thread_local!(static POLICIES: Policies = policies());
        let verdict = POLICIES.with(|policies| policies.authorize(&principal, action, &resource));
        if verdict.is_allowed() {
            prop_assert!(within_ceiling(&principal, action, &resource), "{:?}", verdict);
        }
    }
}
