//! Residency through the public door.

use std::collections::BTreeSet;

use gregal_core::{
    id::SiteId,
    residency::{Jurisdiction, ResidencyPolicy},
    site::{Site, SiteOperator},
    time::Time,
};
use gregal_policy::{Placement, Policies};
use proptest::prelude::*;

fn law(code: &str) -> Jurisdiction {
    code.parse().expect("a country code")
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn site(at: &str, operator: &str, operator_at: &str, parent_at: &str, certifications: &[&str]) -> Site {
    Site {
        id: SiteId::from_u128(41),
        name: "lyon".into(),
        jurisdiction: law(at),
        operator: SiteOperator {
            name: operator.into(),
            jurisdiction: law(operator_at),
            parent_jurisdiction: law(parent_at),
        },
        certifications: names(certifications),
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

#[test]
fn a_european_site_of_a_european_operator_is_allowed() {
    let verdict = Policies::new().unwrap().place(
        &ResidencyPolicy::eu(),
        &site("FR", "acme", "DE", "DE", &[]),
        Placement::Dataset,
    );
    assert!(verdict.allowed);
    assert_eq!((verdict.rule, verdict.rules.len(), verdict.would_need), (None, 0, None));
    assert_eq!(
        verdict.because,
        "site `lyon` under FR law, run by `acme`, is within the organisation's residency policy"
    );
}

#[test]
fn a_european_operator_owned_abroad_is_refused_for_its_parent() {
    let verdict = Policies::new().unwrap().place(
        &ResidencyPolicy::eu(),
        &site("FR", "acme", "IE", "US", &[]),
        Placement::Endpoint,
    );
    assert!(!verdict.allowed);
    assert_eq!(verdict.rule.as_deref(), Some("residency.parent_jurisdiction"));
    assert_eq!(
        verdict.because,
        "an endpoint may not be at site `lyon`: the parent of its operator `acme` is established in US, \
         allowed are the member states of the European Union"
    );
    assert_eq!(verdict.would_need.as_deref(), Some("`US` among the organisation's allowed jurisdictions"));
}

#[test]
fn each_rule_refuses_alone_and_says_what_it_would_need() {
    let policies = Policies::new().unwrap();
    let policy = ResidencyPolicy {
        jurisdictions: [law("DE"), law("FR")].into(),
        certifications: names(&["C5", "ISO27001"]),
        operators: names(&["acme"]),
    };
    let both = ["C5", "ISO27001"];
    for (site, rule, need) in [
        (
            site("US", "acme", "FR", "FR", &both),
            "residency.site_jurisdiction",
            "`US` among the organisation's allowed jurisdictions",
        ),
        (
            site("FR", "acme", "CH", "FR", &both),
            "residency.operator_jurisdiction",
            "`CH` among the organisation's allowed jurisdictions",
        ),
        (
            site("FR", "acme", "FR", "GB", &both),
            "residency.parent_jurisdiction",
            "`GB` among the organisation's allowed jurisdictions",
        ),
        (site("FR", "acme", "FR", "DE", &["C5"]), "residency.certification", "`ISO27001` held by the site"),
        (
            site("FR", "apex", "FR", "DE", &both),
            "residency.operator",
            "`apex` among the organisation's named operators",
        ),
    ] {
        for what in Placement::ALL {
            let verdict = policies.place(&policy, &site, *what);
            assert!(!verdict.allowed);
            assert_eq!(verdict.rules, [rule]);
            assert_eq!(verdict.would_need.as_deref(), Some(need));
        }
    }
    assert!(policies.place(&policy, &site("FR", "acme", "FR", "DE", &both), Placement::Job).allowed);
}

#[test]
fn several_refusals_are_told_in_order_and_the_first_one_speaks() {
    let policy = ResidencyPolicy { certifications: names(&["C5"]), ..ResidencyPolicy::eu() };
    let verdict = Policies::new().unwrap().place(&policy, &site("US", "acme", "US", "US", &[]), Placement::Route);
    assert_eq!(
        verdict.rules,
        [
            "residency.site_jurisdiction",
            "residency.operator_jurisdiction",
            "residency.parent_jurisdiction",
            "residency.certification"
        ]
    );
    assert_eq!(verdict.rule.as_ref(), verdict.rules.first());
    assert!(verdict.because.contains("it stands under US law"), "{}", verdict.because);
}

#[test]
fn a_policy_that_allows_no_jurisdiction_allows_no_site() {
    let policy = ResidencyPolicy { jurisdictions: BTreeSet::new(), ..ResidencyPolicy::eu() };
    let verdict = Policies::new().unwrap().place(&policy, &site("FR", "acme", "FR", "FR", &[]), Placement::Model);
    assert!(!verdict.allowed);
    assert!(verdict.because.contains("no jurisdiction is allowed"), "{}", verdict.because);
}

const LAWS: &[&str] = &["FR", "DE", "US", "CH"];
const CERTIFICATIONS: &[&str] = &["C5", "ISO27001", "SecNumCloud"];
const OPERATORS: &[&str] = &["acme", "apex", "a\"); permit(principal, action, resource);//"];

fn some_of(all: &'static [&'static str]) -> impl Strategy<Value = BTreeSet<String>> {
    (0..1_usize << all.len()).prop_map(move |bits| {
        let picked = all.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
        picked.map(|(_, name)| (*name).to_owned()).collect()
    })
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    (0..all.len()).prop_map(|index| all[index])
}

fn any_policy() -> impl Strategy<Value = ResidencyPolicy> {
    (some_of(LAWS), some_of(CERTIFICATIONS), some_of(OPERATORS)).prop_map(|(laws, certifications, operators)| {
        ResidencyPolicy { jurisdictions: laws.iter().map(|code| law(code)).collect(), certifications, operators }
    })
}

fn any_site() -> impl Strategy<Value = Site> {
    (one_of(LAWS), one_of(OPERATORS), one_of(LAWS), one_of(LAWS), some_of(CERTIFICATIONS)).prop_map(
        |(at, operator, operator_at, parent_at, certifications)| Site {
            certifications,
            ..site(at, operator, operator_at, parent_at, &[])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn in_no_world_does_content_stand_outside_the_ceiling(
        policy in any_policy(),
        site in any_site(),
        what in one_placement(),
    ) {
        thread_local!(static POLICIES: Policies = Policies::new().unwrap());
        let verdict = POLICIES.with(|policies| policies.place(&policy, &site, what));
        // The third opinion: core's own evaluation, which knows nothing of Cedar.
        let expected: Vec<&str> = policy.refusals(&site).into_iter().map(|broken| broken.rule).collect();
        prop_assert_eq!(verdict.allowed, expected.is_empty());
        prop_assert_eq!(&verdict.rules, &expected);
        prop_assert_eq!(verdict.rule.is_some(), !verdict.allowed);
        prop_assert_eq!(verdict.would_need.is_some(), !verdict.allowed);
    }
}

fn one_placement() -> impl Strategy<Value = Placement> {
    (0..Placement::ALL.len()).prop_map(|index| Placement::ALL[index])
}
