//! Small domain values for tests.

use gregal_core::{
    access::Role,
    audit::AuditEntry,
    dataset::{Dataset, DatasetState},
    endpoint::{Endpoint, EndpointState},
    hold::{Hold, HoldState},
    id::*,
    job::{Billed, Job, JobState, Program},
    key::{Key, digest_of},
    ledger::{Account, Leg, Posting, PostingKind},
    meter::{Meter, UsageEvent},
    model::{Lineage, Model},
    money::Nano,
    organisation::{Organisation, Plan, Project},
    quota::{Quota, QuotaId},
    reservation::{Reservation, ReservationState},
    residency::ResidencyPolicy,
    site::{Site, SiteOperator},
    time::Time,
};
use gregal_store::{Store, Tx};

pub(crate) const NOW: Time = Time::from_millis(1_795_000_000_000);

pub(crate) fn org_id() -> OrganisationId {
    OrganisationId::from_u128(1)
}

pub(crate) fn project_id() -> ProjectId {
    ProjectId::from_u128(1)
}

pub(crate) fn site_id() -> SiteId {
    SiteId::from_u128(1)
}

pub(crate) fn organisation(number: u128, name: &str) -> Organisation {
    Organisation {
        id: OrganisationId::from_u128(number),
        name: name.to_owned(),
        country: "FR".parse().unwrap(),
        vat_id: None,
        billing: None,
        plan: Plan::SelfService,
        credit: Nano::ZERO,
        residency: ResidencyPolicy::eu(),
        share: gregal_core::organisation::FairShare::default(),
        policies: 0,
        support: gregal_core::support::SupportSetting::default(),
        created_at: NOW,
        version: 1,
    }
}

pub(crate) fn quota(organisation: u128, project: Option<u128>, sku: &str) -> Quota {
    let (organisation, project) = (OrganisationId::from_u128(organisation), project.map(ProjectId::from_u128));
    Quota {
        id: QuotaId::of(organisation, project, sku),
        organisation,
        project,
        sku: sku.to_owned(),
        guarantee: 4,
        borrow_max: Some(8),
        lend_max: None,
        version: 1,
    }
}

pub(crate) fn reservation(number: u128, name: &str, state: ReservationState) -> Reservation {
    Reservation {
        id: ReservationId::from_u128(number),
        organisation: org_id(),
        project: project_id(),
        shared: true,
        name: name.to_owned(),
        site: site_id(),
        sku: "cpu.1".into(),
        count: 2,
        from: NOW.plus_seconds(3_600),
        until: NOW.plus_seconds(7_200),
        clean_ms: 300_000,
        hold: HoldId::from_u128(number),
        state,
        active_since: None,
        billed_until: None,
        message: None,
        created_at: NOW,
        cancelled_at: None,
        ended_at: None,
        version: 1,
    }
}

pub(crate) fn project(number: u128, name: &str) -> Project {
    Project {
        id: ProjectId::from_u128(number),
        organisation: org_id(),
        name: name.to_owned(),
        created_at: NOW,
        version: 1,
    }
}

pub(crate) fn key(number: u128, secret: &str) -> Key {
    Key {
        id: KeyId::from_u128(number),
        organisation: Some(org_id()),
        project: Some(project_id()),
        name: "ci".to_owned(),
        role: Role::Developer,
        digest: digest_of(secret),
        kind: gregal_core::key::KeyKind::Made,
        person: None,
        account: None,
        scope: gregal_core::key::Scope::default(),
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
        replaces: None,
        replaced_by: None,
        version: 1,
    }
}

pub(crate) fn site(number: u128, name: &str) -> Site {
    let france = "FR".parse().unwrap();
    Site {
        id: SiteId::from_u128(number),
        name: name.to_owned(),
        jurisdiction: france,
        operator: SiteOperator { name: "Exemple SA".to_owned(), jurisdiction: france, parent_jurisdiction: france },
        certifications: ["ISO27001".to_owned()].into(),
        url: None,
        secret_digest: digest_of(name),
        grid: None,
        capacity: None,
        lease_until: None,
        incarnation: None,
        created_at: NOW,
        version: 1,
    }
}

pub(crate) fn dataset(number: u128, name: &str) -> Dataset {
    Dataset {
        id: DatasetId::from_u128(number),
        organisation: org_id(),
        project: project_id(),
        site: site_id(),
        name: name.to_owned(),
        state: DatasetState::Pending,
        digest: None,
        bytes: Some(u64::MAX),
        created_at: NOW,
        deleted_at: None,
        is_gone: false,
        version: 1,
    }
}

pub(crate) fn job(number: u128) -> Job {
    Job {
        id: JobId::from_u128(number),
        organisation: org_id(),
        project: project_id(),
        submitted_by: KeyId::from_u128(1),
        name: "train ∮ \u{0} \"quoted\"".to_owned(),
        program: Program::Command { argv: vec!["true".to_owned()], inputs: vec![], network: false },
        sku: "cpu.1".to_owned(),
        seconds_max: 60,
        priority: 4,
        preemptible: true,
        stops: 0,
        stopped_for: None,
        told_at: None,
        stopped_at: None,
        ready_at: None,
        state: JobState::Queued,
        waits_for: None,
        waits_causes: Vec::new(),
        promised: None,
        site: Some(site_id()),
        attempt: 0,
        hold: HoldId::from_u128(number),
        reservation: None,
        billed: Billed::default(),
        progress: None,
        heldout: None,
        end: None,
        model: None,
        created_at: NOW,
        started_at: None,
        ended_at: None,
        version: 1,
    }
}

pub(crate) fn model(number: u128, name: &str, version: u32) -> Model {
    Model {
        id: ModelId::from_u128(number),
        organisation: org_id(),
        project: project_id(),
        site: site_id(),
        name: name.to_owned(),
        number: version,
        digest: digest_of("weights"),
        bytes: 4,
        parameters: 2,
        lineage: Lineage {
            job: JobId::from_u128(1),
            dataset: DatasetId::from_u128(1),
            dataset_digest: digest_of("data"),
            base_model: None,
            base_model_digest: None,
            code_version: "1".to_owned(),
            flop: 12,
            tokens: 1,
            energy_mj: 3,
            energy_method: "estimated by a test".to_owned(),
        },
        created_at: NOW,
        version: 1,
    }
}

pub(crate) fn endpoint(number: u128, name: &str, state: EndpointState) -> Endpoint {
    Endpoint {
        id: EndpointId::from_u128(number),
        organisation: org_id(),
        project: project_id(),
        site: site_id(),
        name: name.to_owned(),
        model: ModelId::from_u128(1),
        shared: None,
        sku: "cpu.1".to_owned(),
        hold: Some(HoldId::from_u128(number)),
        held_ms: 3_600_000,
        billed: Billed { ms: 7, until: Some(NOW), energy_mj: 0 },
        placed_at: Some(NOW),
        promised: None,
        state,
        message: None,
        created_at: NOW,
        ready_at: None,
        version: 1,
    }
}

pub(crate) fn hold(number: u128, subject: &str) -> Hold {
    Hold {
        id: HoldId::from_u128(number),
        organisation: org_id(),
        project: Some(project_id()),
        subject: subject.to_owned(),
        amount: Nano::from_euro(5),
        charged: Nano::ZERO,
        state: HoldState::Open,
        created_at: NOW,
        expires_at: None,
        version: 1,
    }
}

pub(crate) fn usage(occasion: &str, meter: Meter, item: &str, quantity: u64, ended_at: Time) -> UsageEvent {
    UsageEvent {
        id: UsageEvent::id_of(site_id(), "job_1", meter, occasion),
        organisation: org_id(),
        project: project_id(),
        site: site_id(),
        meter,
        item: item.to_owned(),
        quantity,
        subject: "job_1".to_owned(),
        started_at: ended_at,
        ended_at,
        allowance: None,
        estimated: None,
    }
}

pub(crate) fn credit(number: u128, nano: i64) -> Posting {
    Posting {
        id: PostingId::from_u128(number),
        organisation: org_id(),
        kind: PostingKind::Credit,
        reference: format!("order {number}"),
        legs: vec![
            Leg { account: Account::Funding, amount: Nano::new(-nano) },
            Leg { account: Account::Available, amount: Nano::new(nano) },
        ],
        at: NOW,
    }
}

pub(crate) fn entry(object: &str) -> AuditEntry {
    AuditEntry {
        at: NOW,
        organisation: Some(org_id()),
        actor: "system:test".to_owned(),
        action: "test:write".to_owned(),
        object: object.to_owned(),
        result: "done".to_owned(),
        reason: None,
        policy: None,
        request: None,
        source: None,
        facts: serde_json::Map::new(),
        salt: None,
        view: None,
    }
}

/// An organisation, a project and a site, for rows that need parents. One audit entry.
pub(crate) async fn parents(store: &Store) {
    let tx = store.begin().await.unwrap();
    tx.organisation_insert(&organisation(1, "acme")).await.unwrap();
    tx.project_insert(&project(1, "lab")).await.unwrap();
    tx.site_insert(&site(1, "lyon")).await.unwrap();
    done(tx).await;
}

/// Commits with an entry.
pub(crate) async fn done(tx: Tx) {
    tx.commit(&[entry("it")]).await.unwrap();
}
