//! How long a decision takes: `cargo run --release -p gregal-policy --example latency`, with `--json` for programs.
//!
//! An organisation with policies of its own decides beside others that have a thousand among them. Only its own slice is
//! asked; the same thousand in one set are measured too, for comparison.

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use gregal_core::{
    access::{Action, Role},
    id::{KeyId, OrganisationId, ProjectId, SiteId},
    residency::{Jurisdiction, ResidencyPolicy},
    site::{Site, SiteOperator},
    time::Time,
};
use gregal_policy::{OwnPolicies, Placement, Policies, Principal, Resource, ResourceKind, Written};

const ROUNDS: usize = 20_000;
/// Policies of others, and how many each of them has.
const OTHERS: usize = 1_000;
const EACH: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    let mut figures: Vec<(&str, u128)> = Vec::new();
    let start = Instant::now();
    let policies = Policies::new()?;
    figures.push(("parse_and_validate_us", start.elapsed().as_micros()));

    let (organisation, project) = (OrganisationId::from_u128(1), ProjectId::from_u128(11));
    let key = KeyId::from_u128(31).into();
    let developer =
        Principal::Key { key, role: Role::Developer, organisation: Some(organisation), project: Some(project) };
    let endpoint = Resource::within(ResourceKind::Endpoint, organisation, project, "ep_1");
    let foreign = Resource::within(ResourceKind::Endpoint, OrganisationId::from_u128(2), project, "ep_1");
    let ask = |own: Option<&OwnPolicies>| policies.authorize_within(&developer, Action::EndpointInfer, &endpoint, own);
    measure(&mut figures, ["roles_p50_us", "roles_p99_us"], || ask(None));
    measure(&mut figures, ["foreign_p50_us", "foreign_p99_us"], || {
        policies.authorize(&developer, Action::EndpointInfer, &foreign)
    });

    // Everybody's slices are there; the one that is asked is looked up as the rooms that decide do.
    let start = Instant::now();
    let mut slices = BTreeMap::new();
    for number in 0..OTHERS / EACH {
        let of = OrganisationId::from_u128(100 + number as u128);
        slices.insert(of, compiled(of, EACH));
    }
    slices.insert(organisation, compiled(organisation, EACH));
    figures.push(("compile_one_slice_us", start.elapsed().as_micros() / (OTHERS / EACH + 1) as u128));
    measure(&mut figures, ["own_p50_us", "own_p99_us"], || ask(slices.get(&organisation)));
    compare(
        &mut figures,
        || ask(slices.get(&organisation)),
        || policies.authorize_by_everything(&developer, Action::EndpointInfer, &endpoint, slices.get(&organisation)),
    );
    let alone = BTreeMap::from([(organisation, compiled(organisation, EACH))]);
    measure(&mut figures, ["alone_p50_us", "alone_p99_us"], || ask(alone.get(&organisation)));
    let all = compiled(organisation, OTHERS + EACH);
    measure(&mut figures, ["all_in_one_set_p50_us", "all_in_one_set_p99_us"], || ask(Some(&all)));

    let (eu, site) = (ResidencyPolicy::eu(), site()?);
    measure(&mut figures, ["place_p50_us", "place_p99_us"], || policies.place(&eu, &site, Placement::Route));
    print(&figures, json);
    Ok(())
}

/// As many policies, of the kinds people write: by role, by key, by project, and two about places.
fn compiled(organisation: OrganisationId, many: usize) -> OwnPolicies {
    let text = |index: usize| {
        let id = KeyId::from_u128(1_000 + index as u128);
        match index % 4 {
            0 => "forbid (principal is Holder in Role::\"viewer\", action == Action::\"endpoint:infer\", resource);".into(),
            1 => format!("forbid (principal == Holder::\"{id}\", action, resource);"),
            2 => "permit (principal is Holder in Role::\"viewer\", action == Action::\"job:cancel\", resource) \
                  when { resource in principal.organisation };"
                .into(),
            _ => "forbid (principal is Holder, action in [Action::\"endpoint:infer\", Action::\"dataset:delete\"], resource) \
                  when { principal has project && resource in Project::\"prj_00000000000000000000000009\" };"
                .to_owned(),
        }
    };
    let texts: Vec<(String, String)> = (0..many).map(|index| (format!("p{index}"), text(index))).collect();
    OwnPolicies::compile(organisation, texts.iter().map(|(name, text)| Written { project: None, name, text }))
}

fn site() -> Result<Site, Box<dyn std::error::Error>> {
    let law: Jurisdiction = "FR".parse()?;
    Ok(Site {
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
    })
}

fn measure<T>(figures: &mut Vec<(&str, u128)>, names: [&'static str; 2], mut decide: impl FnMut() -> T) {
    let mut nanos: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(decide());
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    // Rounded up: a decision is never said to be quicker than it was.
    let at = |hundredths: usize| nanos[(nanos.len() - 1) * hundredths / 100].div_ceil(1000);
    figures.push((names[0], at(50)));
    figures.push((names[1], at(99)));
}

/// Both ways turn by turn, so that a busy machine slows both alike: the best of batches each, and how they compare.
fn compare<T>(figures: &mut Vec<(&str, u128)>, mut quick: impl FnMut() -> T, mut slow: impl FnMut() -> T) {
    const BATCHES: usize = 40;
    const TURNS: usize = 250;
    let mut best = [[u128::MAX; 2]; 2];
    for _ in 0..BATCHES {
        let mut nanos = [const { Vec::new() }; 2];
        for _ in 0..TURNS {
            let start = Instant::now();
            black_box(quick());
            nanos[0].push(start.elapsed().as_nanos());
            let start = Instant::now();
            black_box(slow());
            nanos[1].push(start.elapsed().as_nanos());
        }
        for (best, nanos) in best.iter_mut().zip(&mut nanos) {
            nanos.sort_unstable();
            best[0] = best[0].min(nanos[nanos.len() / 2]);
            best[1] = best[1].min(nanos[nanos.len() * 99 / 100]);
        }
    }
    let [quick, slow] = best;
    figures.push(("own_batch_p50_us", quick[0].div_ceil(1000)));
    figures.push(("own_batch_p99_us", quick[1].div_ceil(1000)));
    figures.push(("everything_batch_p50_us", slow[0].div_ceil(1000)));
    figures.push(("everything_batch_p99_us", slow[1].div_ceil(1000)));
    figures.push(("everything_to_own_percent", slow[0] * 100 / quick[0].max(1)));
}

fn print(figures: &[(&str, u128)], json: bool) {
    if json {
        let fields: Vec<String> = figures.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        println!("{{ {} }}", fields.join(", "));
        return;
    }
    for (name, value) in figures {
        println!("{name:<28} {value}");
    }
}
