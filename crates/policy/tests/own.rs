//! What organisations may write for themselves: random sets, random worlds, random questions. Whatever they wrote, also
//! what no check would store, nothing is allowed beyond the ceiling.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::collections::BTreeSet;

use gregal_core::{
    access::{Action, Role},
    id::{KeyId, OrganisationId, ProjectId, SiteId},
    residency::{Jurisdiction, ResidencyPolicy},
    site::{Site, SiteOperator},
    time::Time,
};
use gregal_policy::{
    DenyReason, OwnPolicies, Placement, Policies, Principal, Resource, ResourceKind, Verdict, Written,
};
use proptest::prelude::*;

const OURS: OrganisationId = OrganisationId::from_u128(1);
const THEIRS: OrganisationId = OrganisationId::from_u128(2);
const HERE: ProjectId = ProjectId::from_u128(11);
const BESIDE: ProjectId = ProjectId::from_u128(12);
const ABROAD: ProjectId = ProjectId::from_u128(21);
const KEY: KeyId = KeyId::from_u128(31);

thread_local!(static POLICIES: Policies = Policies::new().unwrap());

fn holder(role: Role, project: Option<ProjectId>) -> Principal {
    Principal::Key { key: KEY.into(), role, organisation: Some(OURS), project }
}

fn job(organisation: OrganisationId, project: ProjectId) -> Resource {
    Resource::within(ResourceKind::Job, organisation, project, "job_1")
}

/// Policies of an organisation: (project or none, text).
type Texts = Vec<(Option<ProjectId>, String)>;

fn compiled(texts: &Texts) -> OwnPolicies {
    let names: Vec<String> = (0..texts.len()).map(|index| format!("p{index}")).collect();
    let written = texts.iter().zip(&names).map(|((project, text), name)| Written { project: *project, name, text });
    OwnPolicies::compile(OURS, written)
}

fn own(texts: &[&str]) -> OwnPolicies {
    compiled(&texts.iter().map(|text| (None, (*text).to_owned())).collect())
}

fn decide(principal: &Principal, action: Action, resource: &Resource, own: &OwnPolicies) -> Verdict {
    POLICIES.with(|policies| policies.authorize_within(principal, action, resource, Some(own)))
}

const PERMIT_ALL: &str = "permit (principal, action, resource);";
const FORBID_ALL: &str = "forbid (principal, action, resource);";

#[test]
fn a_permit_of_everything_gives_nothing_that_no_permit_may_give() {
    let own = own(&[PERMIT_ALL]);
    let viewer = holder(Role::Viewer, None);
    assert_eq!(
        decide(&viewer, Action::JobCancel, &job(OURS, HERE), &own),
        Verdict::Allow { policies: vec!["organisation:p0".into()] }
    );
    for (action, resource) in [
        (Action::PolicyWrite, Resource::organisation(OURS)),
        (Action::ResidencyWrite, Resource::organisation(OURS)),
        (Action::InvoiceRead, Resource::organisation(OURS)),
        (Action::KeyCreate, Resource::key(OURS, Some(HERE), KEY, Role::Inference)),
        (Action::QuotaShare, Resource::organisation(OURS)),
        (Action::SiteCreate, Resource::cloud()),
        (Action::JobCancel, job(THEIRS, ABROAD)),
    ] {
        assert!(!decide(&viewer, action, &resource, &own).is_allowed(), "{action:?} {resource:?}");
    }
    let bound = holder(Role::Viewer, Some(HERE));
    assert!(decide(&bound, Action::JobCancel, &job(OURS, HERE), &own).is_allowed());
    assert_eq!(decide(&bound, Action::JobCancel, &job(OURS, BESIDE), &own).policies(), ["key.bound_to_project"]);
}

#[test]
fn a_forbid_of_everything_leaves_owners_of_the_whole_their_policies_and_nothing_else() {
    let own = own(&[FORBID_ALL]);
    for action in Action::ALL {
        for resource in [Resource::organisation(OURS), Resource::project(OURS, HERE), job(OURS, HERE)] {
            let allowed = decide(&holder(Role::Owner, None), *action, &resource, &own).is_allowed();
            let is_rescue = matches!(action, Action::PolicyRead | Action::PolicyWrite);
            assert_eq!(allowed, is_rescue && resource.kind != ResourceKind::Job, "{action:?} {resource:?}");
            assert!(!decide(&holder(Role::Owner, Some(HERE)), *action, &resource, &own).is_allowed());
        }
    }
}

#[test]
fn what_errs_or_cannot_be_read_denies_and_owners_can_mend_it() {
    let overflow = "forbid (principal is Holder, action, resource) when { 9223372036854775807 + 1 == 0 };";
    for (text, rule) in [(overflow, "organisation:p0"), ("forbid (principal", "organisation:p0")] {
        let own = own(&[text]);
        let verdict = decide(&holder(Role::Owner, None), Action::JobRead, &job(OURS, HERE), &own);
        assert!(
            matches!(&verdict, Verdict::Deny { policies, reason: DenyReason::Error(_) } if policies == &[rule]),
            "{verdict:?}"
        );
        assert!(!verdict.hides(), "its owners are told what to mend");
        let mend = decide(&holder(Role::Owner, None), Action::PolicyWrite, &Resource::organisation(OURS), &own);
        assert!(mend.is_allowed());
    }
}

#[test]
fn a_projects_policies_speak_of_it_alone() {
    let texts = vec![(Some(HERE), PERMIT_ALL.to_owned()), (Some(BESIDE), FORBID_ALL.to_owned())];
    let own = compiled(&texts);
    let viewer = holder(Role::Viewer, None);
    assert_eq!(decide(&viewer, Action::JobCancel, &job(OURS, HERE), &own).policies(), ["project:p0"]);
    assert_eq!(decide(&viewer, Action::JobRead, &job(OURS, BESIDE), &own).policies(), ["project:p1"]);
    let third = ProjectId::from_u128(13);
    assert!(decide(&viewer, Action::JobRead, &job(OURS, third), &own).is_allowed());
    assert!(!decide(&viewer, Action::JobCancel, &job(OURS, third), &own).is_allowed());
}

#[test]
fn the_policies_of_another_organisation_decide_nothing() {
    let theirs = OwnPolicies::compile(THEIRS, [Written { project: None, name: "p", text: PERMIT_ALL }]);
    let verdict = decide(&holder(Role::Owner, None), Action::JobRead, &job(OURS, HERE), &theirs);
    assert!(matches!(verdict, Verdict::Deny { reason: DenyReason::Error(_), .. }));
}

#[test]
fn whoever_guards_members_or_looks_may_write_it_and_no_permit_reaches_either() {
    POLICIES.with(|policies| {
        let check = |text: &str| policies.check(OURS, Written { project: None, name: "p", text });
        let no_owners = "forbid (principal is Holder in Role::\"admin\", action == Action::\"invitation:create\", resource is Member) \
                         when { resource.role == Role::\"developer\" };";
        let no_looks = "forbid (principal is Holder in Role::\"visitor\", action == Action::\"job:read\", resource);";
        for text in [no_owners, no_looks] {
            assert!(check(text).unwrap().applies > 0, "{text}");
        }
        let rules = own(&[no_owners, no_looks]);
        let invite = Resource::member(OURS, None, "somebody", Role::Developer);
        let told = decide(&holder(Role::Admin, None), Action::InvitationCreate, &invite, &rules);
        assert_eq!(told.policies(), ["organisation:p0"]);
        let look = holder(Role::Visitor, None);
        assert_eq!(decide(&look, Action::JobRead, &job(OURS, HERE), &rules).policies(), ["organisation:p1"]);
        for text in [
            "permit (principal is Holder, action == Action::\"member:write\", resource) when { resource in principal.organisation };",
            "permit (principal is Holder in Role::\"visitor\", action == Action::\"job:cancel\", resource) \
             when { resource in principal.organisation };",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    });
}

#[test]
fn a_check_accepts_what_stays_within_and_counts_where_it_applies() {
    POLICIES.with(|policies| {
        let check = |project, text: &str| policies.check(OURS, Written { project, name: "p", text });
        let one = check(
            None,
            "permit (principal is Holder in Role::\"viewer\", action == Action::\"job:cancel\", resource) \
             when { resource in principal.organisation };",
        )
        .unwrap();
        assert!(one.permits && !one.about_places && one.applies > 0 && one.applies < one.tried, "{one:?}");
        let place = check(
            None,
            "forbid (principal is Ceiling, action == Action::\"place:backup\", resource is Ground) \
             unless { resource.certifications.contains(\"SecNumCloud\") };",
        )
        .unwrap();
        assert!(!place.permits && place.about_places && place.applies > 0 && place.applies < place.tried, "{place:?}");
        let named =
            check(None, &format!("forbid (principal == Holder::\"{KEY}\", action, resource in Project::\"{HERE}\");"))
                .unwrap();
        assert_eq!(named.names, [("Holder".into(), KEY.to_string()), ("Project".into(), HERE.to_string())]);
        assert!(named.applies > 0);
        // Within a project nothing else is asked, so a permit need not say that it stays there.
        check(Some(HERE), "permit (principal is Holder, action == Action::\"job:cancel\", resource);").unwrap();
        let at_times = "forbid (principal is Holder, action, resource) \
                        when { principal.bound || 9223372036854775807 + 1 == 0 };";
        let erring = check(None, at_times).unwrap_err();
        assert!(
            erring.detail.contains("cannot be evaluated") && erring.detail.contains("a key with the role"),
            "{erring}"
        );
        let above = check(Some(HERE), "forbid (principal is Ceiling, action, resource is Ground);").unwrap_err();
        assert!(above.detail.contains("whole organisation"), "{above}");
    });
}

// ---- random sets

fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    (0..all.len()).prop_map(|index| all[index])
}

/// Scopes and conditions that a tenant might write, and some that no check would let through.
const PRINCIPALS: &[&str] = &[
    "principal",
    "principal is Holder",
    "principal is Holder in Role::\"viewer\"",
    "principal in Role::\"developer\"",
    "principal == Holder::\"key_0000000000000000000000000z\"",
    "principal is Operator",
    "principal is Site",
    "principal is Ceiling",
];
const RESOURCES: &[&str] = &[
    "resource",
    "resource is Job",
    "resource is Ground",
    "resource is Key",
    "resource in Organisation::\"org_00000000000000000000000001\"",
    "resource in Project::\"prj_0000000000000000000000000b\"",
];
const CONDITIONS: &[&str] = &[
    "",
    "when { resource in principal.organisation }",
    "unless { resource in principal.organisation }",
    "when { true }",
    "when { principal has project && resource in principal.project }",
    "unless { principal has project }",
    "when { principal.bound }",
    "when { resource in principal.project }",
    "when { principal.grants.contains(Role::\"inference\") }",
    "when { resource.role == Role::\"owner\" }",
    "when { 9223372036854775807 + 1 == 0 }",
    "when { principal.bound || 9223372036854775807 + 1 == 0 }",
    "when { resource.jurisdiction == \"US\" }",
    "unless { resource.certifications.contains(\"C5\") }",
    "when { principal.jurisdictions.contains(\"US\") }",
    "when { context.anything }",
];

fn any_actions() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("action".to_owned()),
        3 => any_of(Action::ALL).prop_map(|action| format!("action == Action::\"{}\"", action.as_str())),
        1 => any_of(Placement::ALL).prop_map(|what| format!("action == Action::\"place:{}\"", what.as_str())),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    let effect = prop_oneof![2 => Just("permit"), 1 => Just("forbid")];
    let formed = (effect, any_of(PRINCIPALS), any_actions(), any_of(RESOURCES), any_of(CONDITIONS)).prop_map(
        |(effect, principal, action, resource, condition)| {
            format!("{effect} ({principal}, {action}, {resource}) {condition};")
        },
    );
    prop_oneof![60 => formed, 1 => Just("permit (principal".to_owned()), 1 => Just(String::new())]
}

fn any_texts() -> impl Strategy<Value = Texts> {
    let project = prop_oneof![3 => Just(None), 1 => Just(Some(HERE)), 1 => Just(Some(BESIDE)), 1 => Just(Some(ABROAD))];
    proptest::collection::vec((project, any_text()), 0..6)
}

fn any_principal() -> impl Strategy<Value = Principal> {
    let bound = prop_oneof![2 => Just(None), 1 => Just(Some(HERE)), 1 => Just(Some(ABROAD))];
    let tenant = (any_of(Role::ALL), bound).prop_map(|(role, project)| match role {
        role if role.is_operator() => Principal::Key { key: KEY.into(), role, organisation: None, project: None },
        role => holder(role, project),
    });
    prop_oneof![12 => tenant, 1 => Just(Principal::Site(SiteId::from_u128(41)))]
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let place = prop_oneof![4 => Just((OURS, HERE)), 2 => Just((OURS, BESIDE)), 3 => Just((THEIRS, ABROAD))];
    let kind = prop_oneof![
        Just(ResourceKind::Cloud),
        Just(ResourceKind::Site),
        Just(ResourceKind::Organisation),
        Just(ResourceKind::Project),
        any_of(Role::ALL).prop_map(ResourceKind::Key),
        Just(ResourceKind::Dataset),
        Just(ResourceKind::Job),
        Just(ResourceKind::Model),
        Just(ResourceKind::Endpoint),
        Just(ResourceKind::Reservation),
    ];
    (kind, place).prop_map(|(kind, (organisation, project))| match kind {
        ResourceKind::Cloud => Resource::cloud(),
        ResourceKind::Site => Resource::site(SiteId::from_u128(41)),
        ResourceKind::Organisation => Resource::organisation(organisation),
        ResourceKind::Project => Resource::project(organisation, project),
        other => Resource::within(other, organisation, project, "thing"),
    })
}

/// What a permit could ever give, said without Cedar.
fn may_be_permitted(action: Action) -> bool {
    !matches!(
        action,
        Action::CatalogueRead
            | Action::SkuWrite
            | Action::OrganisationCreate
            | Action::ResidencyWrite
            | Action::PolicyWrite
            | Action::QuotaWrite
            | Action::QuotaShare
            | Action::KeyCreate
            | Action::KeyRotate
            | Action::KeyRevoke
            | Action::MemberRead
            | Action::MemberWrite
            | Action::MemberRemove
            | Action::InvitationCreate
            | Action::InvitationRead
            | Action::InvitationRevoke
            | Action::DomainRead
            | Action::ScimConfigure
            | Action::ScimProvision
            | Action::DomainWrite
            | Action::PersonErase
            | Action::OperatorKeyCreate
            | Action::OperatorKeyRead
            | Action::OperatorKeyRevoke
            | Action::AccessRequest
            | Action::AccessApprove
            | Action::AccessConsent
            | Action::AccessConfigure
            | Action::AccessRead
            | Action::AccessEnd
            | Action::SiteCreate
            | Action::SiteSync
            | Action::JobPreempt
            | Action::InvoiceRead
            | Action::AuditReadAll
            | Action::QuarantineRead
    )
}

/// The widest a tenant's key may ever reach, said without Cedar.
fn within_reach(role: Role, bound: Option<ProjectId>, action: Action, resource: &Resource) -> bool {
    if matches!(resource.kind, ResourceKind::Cloud | ResourceKind::Site) {
        return action == Action::CatalogueRead && role != Role::Inference;
    }
    let in_project = bound.is_none_or(|bound| resource.project == Some(bound));
    let held = match (action, resource.kind) {
        (Action::KeyCreate | Action::KeyRotate | Action::KeyRevoke, ResourceKind::Key(other))
        | (
            Action::MemberWrite | Action::MemberRemove | Action::InvitationCreate | Action::InvitationRevoke,
            ResourceKind::Member(other),
        ) => role.may_grant(other),
        (
            Action::KeyCreate
            | Action::KeyRotate
            | Action::KeyRevoke
            | Action::MemberWrite
            | Action::MemberRemove
            | Action::InvitationCreate
            | Action::InvitationRevoke,
            _,
        ) => false,
        _ => true,
    };
    resource.organisation == Some(OURS) && in_project && held
}

const TENANTS: &[Role] =
    &[Role::Owner, Role::Admin, Role::Developer, Role::Inference, Role::Viewer, Role::Billing, Role::Auditor];
const LAWS: &[&str] = &["FR", "DE", "US"];

fn law(code: &str) -> Jurisdiction {
    code.parse().unwrap()
}

fn any_site() -> impl Strategy<Value = Site> {
    let laws = (any_of(LAWS), any_of(LAWS), any_of(LAWS));
    (laws, any::<bool>()).prop_map(|((at, operator, parent), has_c5)| Site {
        id: SiteId::from_u128(41),
        name: "somewhere".into(),
        jurisdiction: law(at),
        operator: SiteOperator { name: "acme".into(), jurisdiction: law(operator), parent_jurisdiction: law(parent) },
        certifications: if has_c5 { ["C5".to_owned()].into() } else { BTreeSet::new() },
        url: None,
        secret_digest: String::new(),
        grid: None,
        capacity: None,
        lease_until: None,
        incarnation: None,
        created_at: Time::from_millis(0),
        version: 1,
    })
}

fn any_residency() -> impl Strategy<Value = ResidencyPolicy> {
    (1..8_usize, any::<bool>(), any::<bool>()).prop_map(|(bits, asks_c5, names_other)| ResidencyPolicy {
        jurisdictions: (0..3).filter(|bit| bits >> bit & 1 == 1).map(|bit| law(LAWS[bit])).collect(),
        certifications: if asks_c5 { ["C5".to_owned()].into() } else { BTreeSet::new() },
        operators: if names_other { ["other".to_owned()].into() } else { BTreeSet::new() },
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })]

    #[test]
    fn whatever_an_organisation_writes_nothing_is_allowed_beyond_the_ceiling(
        texts in any_texts(),
        principal in any_principal(),
        action in any_of(Action::ALL),
        resource in any_resource(),
    ) {
        let own = compiled(&texts);
        let verdict = decide(&principal, action, &resource, &own);
        let without = POLICIES.with(|policies| policies.authorize(&principal, action, &resource));
        match principal {
            Principal::Key { role, organisation: Some(_), project, .. } if verdict.is_allowed() => {
                prop_assert!(within_reach(role, project, action, &resource), "{:?}", verdict);
                prop_assert!(without.is_allowed() || may_be_permitted(action), "{:?}", verdict);
            }
            Principal::Key { organisation: Some(_), .. } => {}
            // Nobody's own policies speak of operators and sites.
            _ => prop_assert_eq!(&verdict, &without),
        }
        if matches!(without, Verdict::Deny { reason: DenyReason::Forbidden | DenyReason::Error(_), .. }) {
            prop_assert_eq!(&verdict, &without, "a guardrail of the cloud holds as it stands");
        }
    }

    #[test]
    fn whatever_an_organisation_writes_its_content_stays_under_its_ceiling(
        texts in any_texts(),
        residency in any_residency(),
        site in any_site(),
        what in any_of(Placement::ALL),
    ) {
        let own = compiled(&texts);
        let verdict = POLICIES.with(|policies| policies.place_within(&residency, &site, what, Some(&own)));
        if verdict.allowed {
            prop_assert!(residency.refusals(&site).is_empty(), "{:?}", verdict);
        }
        let without = POLICIES.with(|policies| policies.place(&residency, &site, what));
        prop_assert!(without.allowed || verdict.rule == without.rule || verdict.rules == ["residency.evaluation_error"]);
    }

    #[test]
    fn a_forbid_holds_whatever_stands_beside_it(
        texts in any_texts(),
        action in any_of(Action::ALL),
        resource in any_resource(),
        role in any_of(TENANTS),
    ) {
        let mut texts = texts;
        texts.push((None, FORBID_ALL.into()));
        let verdict = decide(&holder(role, None), action, &resource, &compiled(&texts));
        let is_rescued = role == Role::Owner && matches!(action, Action::PolicyRead | Action::PolicyWrite);
        prop_assert!(!verdict.is_allowed() || is_rescued, "{:?}", verdict);
    }

}

proptest! {
    // A check tries every case there is, each time.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn what_a_check_lets_through_neither_errs_nor_permits_beyond_reach(
        text in any_text(),
        principal in any_principal(),
        action in any_of(Action::ALL),
        resource in any_resource(),
    ) {
        let checked = POLICIES.with(|policies| policies.check(OURS, Written { project: None, name: "p", text: &text }));
        let Principal::Key { organisation: Some(_), .. } = principal else { return Ok(()) };
        if checked.is_err() {
            return Ok(());
        }
        let verdict = decide(&principal, action, &resource, &compiled(&vec![(None, text)]));
        let errs = matches!(&verdict, Verdict::Deny { reason: DenyReason::Error(_), policies } if !policies.is_empty());
        prop_assert!(!errs, "{:?}", verdict);
    }
}
