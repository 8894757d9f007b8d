//! Facts that tests start from.

use gregal_core::{
    id::{OrganisationId, PostingId, ProjectId, SiteId},
    ledger::{Leg, Posting, PostingKind},
    meter::{Meter, UsageEvent},
    money::Nano,
    organisation::{Organisation, Plan},
    residency::{Jurisdiction, ResidencyPolicy},
    schedule::Item,
    site::{Site, SiteOperator},
    time::Time,
};
use proptest::test_runner::Config;

/// Seeds of failures are printed, not written next to the sources.
pub(crate) fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

pub(crate) fn law(code: &str) -> Jurisdiction {
    code.parse().unwrap()
}

pub(crate) fn time(text: &str) -> Time {
    text.parse().unwrap()
}

pub(crate) fn organisation(country: &str, vat_id: Option<&str>) -> Organisation {
    Organisation {
        id: OrganisationId::from_u128(1),
        name: "Aurora".into(),
        country: law(country),
        vat_id: vat_id.map(Into::into),
        billing: None,
        plan: Plan::SelfService,
        credit: Nano::from_euro(100),
        residency: ResidencyPolicy::eu(),
        share: gregal_core::organisation::FairShare::default(),
        policies: 0,
        support: gregal_core::support::SupportSetting::default(),
        created_at: Time::default(),
        version: 1,
    }
}

pub(crate) fn site(jurisdiction: &str, operator: &str, parent: &str) -> Site {
    Site {
        id: SiteId::from_u128(1),
        name: "lyon".into(),
        jurisdiction: law(jurisdiction),
        operator: SiteOperator {
            name: "Mistral Heberg".into(),
            jurisdiction: law(operator),
            parent_jurisdiction: law(parent),
        },
        certifications: ["ISO27001".to_owned()].into(),
        url: None,
        secret_digest: String::new(),
        grid: None,
        capacity: None,
        lease_until: None,
        incarnation: None,
        created_at: Time::default(),
        version: 1,
    }
}

pub(crate) fn event(number: u32, meter: Meter, item: &str, quantity: u64, ended_at: Time) -> UsageEvent {
    let site = SiteId::from_u128(1);
    UsageEvent {
        id: UsageEvent::id_of(site, "job_x", meter, &format!("attempt 1, interval {number}")),
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        site,
        meter,
        item: item.into(),
        quantity,
        subject: "job_x".into(),
        started_at: ended_at.plus_seconds(-10),
        ended_at,
        allowance: None,
        estimated: None,
    }
}

pub(crate) fn posting(kind: PostingKind, legs: Vec<Leg>) -> Posting {
    Posting {
        id: PostingId::from_u128(1),
        organisation: OrganisationId::from_u128(1),
        kind,
        reference: "a test".into(),
        legs,
        at: Time::default(),
    }
}

/// What takes so many cores on one machine, with a GiB of memory for each, and nothing else.
pub(crate) fn item(cores: u32) -> Item {
    Item {
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        sku: format!("cpu.{cores}"),
        cpus_milli: cores * 1000,
        memory_bytes: u64::from(cores) << 30,
        gpus: 0,
        gpu_model: None,
        priority: 0,
        preemptible: false,
        stops: 0,
        worked_ms: 0,
        units: 0,
        members: 1,
        within: None,
        spread: false,
        gpu_milli: 0,
        apart: None,
    }
}
