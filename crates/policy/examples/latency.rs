//! How long a decision takes, in microseconds: `cargo run --release -p gregal-policy --example latency`.

use std::{hint::black_box, time::Instant};

use gregal_core::{
    access::{Action, Role},
    id::{KeyId, OrganisationId, ProjectId, SiteId},
    residency::{Jurisdiction, ResidencyPolicy},
    site::{Site, SiteOperator},
    time::Time,
};
use gregal_policy::{Placement, Policies, Principal, Resource, ResourceKind};

const ROUNDS: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let policies = Policies::new()?;
    println!("parse and validate once: {} us", start.elapsed().as_micros());

    let (organisation, project) = (OrganisationId::from_u128(1), ProjectId::from_u128(11));
    let key = KeyId::from_u128(31);
    let developer =
        Principal::Key { key, role: Role::Developer, organisation: Some(organisation), project: Some(project) };
    let endpoint = Resource::within(ResourceKind::Endpoint, organisation, project, "ep_1");
    let foreign = Resource::within(ResourceKind::Endpoint, OrganisationId::from_u128(2), project, "ep_1");
    measure("authorize, allowed", || policies.authorize(&developer, Action::EndpointInfer, &endpoint));
    measure("authorize, foreign", || policies.authorize(&developer, Action::EndpointInfer, &foreign));

    let law: Jurisdiction = "FR".parse()?;
    let site = Site {
        id: SiteId::from_u128(41),
        name: "lyon".into(),
        jurisdiction: law,
        operator: SiteOperator { name: "acme".into(), jurisdiction: law, parent_jurisdiction: law },
        certifications: ["C5".to_owned()].into(),
        url: None,
        secret_digest: String::new(),
        grid: None,
        capacity: None,
        lease_until: None,
        incarnation: None,
        created_at: Time::from_millis(0),
        version: 1,
    };
    let eu = ResidencyPolicy::eu();
    measure("place, within the EU", || policies.place(&eu, &site, Placement::Route));
    Ok(())
}

fn measure<T>(what: &str, mut decide: impl FnMut() -> T) {
    let mut nanos: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(decide());
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let at = |hundredths: usize| nanos[(nanos.len() - 1) * hundredths / 100] / 1000;
    println!("{what}: p50 {} us, p99 {} us over {ROUNDS} decisions", at(50), at(99));
}
