use std::collections::BTreeSet;

use gregal_core::{
    residency::{self, Jurisdiction, ResidencyPolicy},
    site::Site,
};

use crate::given::{law, site};

fn rules(policy: &ResidencyPolicy, site: &Site) -> Vec<&'static str> {
    policy.refusals(site).into_iter().map(|broken| broken.rule).collect()
}

#[test]
fn a_european_site_with_a_european_owner_is_allowed() {
    assert_eq!(rules(&ResidencyPolicy::eu(), &site("FR", "DE", "SE")), [""; 0]);
}

#[test]
fn each_law_outside_the_list_is_its_own_refusal() {
    let eu = ResidencyPolicy::eu();
    assert_eq!(rules(&eu, &site("US", "FR", "FR")), [residency::SITE_JURISDICTION]);
    assert_eq!(rules(&eu, &site("FR", "US", "FR")), [residency::OPERATOR_JURISDICTION]);
    assert_eq!(rules(&eu, &site("FR", "FR", "US")), [residency::PARENT_JURISDICTION]);
    assert_eq!(rules(&eu, &site("US", "US", "US")), residency::RULES[..3]);
    let two = ResidencyPolicy { jurisdictions: [law("FR"), law("DE")].into(), ..eu };
    let said: Vec<_> = two.refusals(&site("FR", "FR", "GB")).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["`residency.parent_jurisdiction`: the site has GB, the policy asks for DE, FR"]);
}

#[test]
fn certifications_must_all_be_held_and_operators_must_be_named() {
    let lyon = site("FR", "FR", "FR");
    let asks = |names: &[&str]| ResidencyPolicy {
        certifications: names.iter().map(ToString::to_string).collect(),
        ..ResidencyPolicy::eu()
    };
    assert_eq!(rules(&asks(&["ISO27001"]), &lyon), [""; 0]);
    assert_eq!(rules(&asks(&["ISO27001", "SecNumCloud"]), &lyon), [residency::CERTIFICATION]);
    let only = |name: &str| ResidencyPolicy { operators: [name.to_owned()].into(), ..ResidencyPolicy::eu() };
    assert_eq!(rules(&only("Mistral Heberg"), &lyon), [""; 0]);
    assert_eq!(rules(&only("mistral heberg"), &lyon), [residency::OPERATOR]);
}

#[test]
fn an_empty_list_of_laws_allows_no_site() {
    let none = ResidencyPolicy { jurisdictions: BTreeSet::<Jurisdiction>::new(), ..ResidencyPolicy::eu() };
    assert_eq!(rules(&none, &site("FR", "FR", "FR")), residency::RULES[..3]);
}
