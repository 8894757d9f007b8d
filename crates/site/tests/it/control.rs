//! A control plane for tests: signs one intent, remembers what it was told, and fails on request.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use ed25519_dalek::SigningKey;
use gregal_api::{
    grant::{GRANT_PURPOSE, GrantBody, GrantPurpose},
    protocol::{
        AttemptPhase, AttemptRef, INTENT_PURPOSE, Intent, ObservedAttempt, SyncAnswer, SyncRequest, UsageBatch,
        UsageReceipt,
    },
    signed::Signed,
};
use gregal_core::{
    access::Role,
    id::{AllowanceId, EndpointId, KeyId, ModelId, OrganisationId, ProjectId, SiteId},
    key::{digest_of, secret_from},
    meter::UsageEvent,
    money::Nano,
    price,
    residency::ResidencyPolicy,
    site::{Site, SiteOperator},
    time::Time,
    world::{RealWorld, World as _},
};
use tokio::sync::Notify;

pub(crate) const SITE: SiteId = SiteId::from_u128(1);
pub(crate) const ORG: OrganisationId = OrganisationId::from_u128(10);
pub(crate) const OTHER_ORG: OrganisationId = OrganisationId::from_u128(20);
pub(crate) const PROJECT: ProjectId = ProjectId::from_u128(11);
pub(crate) const OTHER_PROJECT: ProjectId = ProjectId::from_u128(21);
pub(crate) const ENDPOINT: EndpointId = EndpointId::from_u128(12);
pub(crate) const OTHER_ENDPOINT: EndpointId = EndpointId::from_u128(22);
pub(crate) const ALLOWANCE: AllowanceId = AllowanceId::from_u128(13);
pub(crate) const SITE_SECRET: &str = "gk_site";

/// A tenant's secret, by number.
pub(crate) fn secret(number: u8) -> String {
    secret_from(&[number; 32])
}

/// The keys of the first intent.
pub(crate) const OWNER: u8 = 1;
pub(crate) const INFERENCE: u8 = 2;
pub(crate) const VIEWER: u8 = 3;
pub(crate) const STRANGER: u8 = 4;
pub(crate) const EXPIRED: u8 = 5;

pub(crate) struct FakeControl {
    pub(crate) url: String,
    pub(crate) state: Arc<ControlState>,
    server: tokio::task::JoinHandle<()>,
}

pub(crate) struct ControlState {
    pub(crate) key: SigningKey,
    intent: Mutex<Intent>,
    usage: Mutex<BTreeMap<String, UsageEvent>>,
    last: Mutex<Option<SyncRequest>>,
    ended: Mutex<BTreeMap<AttemptRef, ObservedAttempt>>,
    ready_seen: Mutex<BTreeSet<AttemptRef>>,
    changed: Notify,
    pub(crate) away: AtomicBool,
    /// Signs with a key that is not control's.
    pub(crate) forging: AtomicBool,
    /// Takes usage and then loses the answer, so many times.
    pub(crate) answers_lost: AtomicU32,
    pub(crate) records_received: AtomicU32,
    pub(crate) acknowledging: AtomicBool,
}

impl Drop for FakeControl {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeControl {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(ControlState {
            key: SigningKey::from_bytes(&[42; 32]),
            intent: Mutex::new(first_intent()),
            usage: Mutex::default(),
            last: Mutex::default(),
            ended: Mutex::default(),
            ready_seen: Mutex::default(),
            changed: Notify::new(),
            away: AtomicBool::new(false),
            forging: AtomicBool::new(false),
            answers_lost: AtomicU32::new(0),
            records_received: AtomicU32::new(0),
            acknowledging: AtomicBool::new(true),
        });
        let router = Router::new()
            .route("/site/v1/sync", post(sync))
            .route("/site/v1/usage", post(usage))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state, server }
    }

    /// Changes what is wanted; the site learns it with its next sync.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Intent)) -> u64 {
        let mut intent = self.state.intent.lock().unwrap();
        change(&mut intent);
        intent.revision += 1;
        self.state.changed.notify_waiters();
        intent.revision
    }

    /// Says what was charged, which is no news: only who asks for the intent again, or gets another one, hears of it.
    pub(crate) fn charge(&self, charged: Nano) {
        self.state.intent.lock().unwrap().allowances[0].charged = charged;
    }

    pub(crate) fn usage(&self) -> Vec<UsageEvent> {
        self.state.usage.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn last(&self) -> Option<SyncRequest> {
        self.state.last.lock().unwrap().clone()
    }

    pub(crate) fn ended(&self, of: AttemptRef) -> Option<ObservedAttempt> {
        self.state.ended.lock().unwrap().get(&of).cloned()
    }

    pub(crate) fn was_ready(&self, of: AttemptRef) -> bool {
        self.state.ready_seen.lock().unwrap().contains(&of)
    }

    pub(crate) fn grant(&self, purpose: GrantPurpose, object: impl ToString) -> String {
        self.grant_of(ORG, PROJECT, purpose, object, 300)
    }

    pub(crate) fn grant_of(
        &self,
        organisation: OrganisationId,
        project: ProjectId,
        purpose: GrantPurpose,
        object: impl ToString,
        seconds: i64,
    ) -> String {
        let body = GrantBody {
            site: SITE,
            purpose,
            object: object.to_string(),
            organisation,
            project,
            key: KeyId::from_u128(1),
            networks: None,
            expires_at: RealWorld.now().plus_seconds(seconds),
        };
        Signed::seal(&self.state.key, GRANT_PURPOSE, &body).to_line()
    }
}

type App = State<Arc<ControlState>>;

async fn sync(
    State(state): App,
    headers: HeaderMap,
    Json(request): Json<SyncRequest>,
) -> Result<Json<SyncAnswer>, StatusCode> {
    if state.away.load(Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(headers["authorization"], format!("Bearer {SITE_SECRET}"));
    let changed = state.changed.notified();
    let is_news = |intent: &Intent| request.intent_again || intent.revision != request.intent_revision;
    let news = is_news(&state.intent.lock().unwrap());
    note(&state, &request);
    if !news && request.wait_ms > 0 {
        drop(tokio::time::timeout(Duration::from_millis(request.wait_ms.into()), changed).await);
    }
    if state.away.load(Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let forged = SigningKey::from_bytes(&[43; 32]);
    let signer = if state.forging.load(Ordering::SeqCst) { &forged } else { &state.key };
    // In this order: an end is not acknowledged with an intent that is older than what became of it.
    let acknowledging = state.acknowledging.load(Ordering::SeqCst);
    let intent = state.intent.lock().unwrap().clone();
    let ended = request.attempts.iter().filter(|one| matches!(one.phase, AttemptPhase::Ended { .. }));
    let attempts_ended = ended.map(|one| AttemptRef { job: one.job, attempt: one.attempt });
    Ok(Json(SyncAnswer {
        site: SITE,
        control_key: hex::encode(state.key.verifying_key().to_bytes()),
        intent: is_news(&intent).then(|| Signed::seal(signer, INTENT_PURPOSE, &intent)),
        lease_until: RealWorld.now().plus_seconds(15),
        attempts_ended: attempts_ended.filter(|_| acknowledging).collect(),
        datasets_stored: request.datasets.iter().map(|dataset| dataset.dataset).collect(),
    }))
}

fn note(state: &ControlState, request: &SyncRequest) {
    for one in &request.attempts {
        let of = AttemptRef { job: one.job, attempt: one.attempt };
        match one.phase {
            AttemptPhase::Starting => {}
            AttemptPhase::Running { .. } => drop(state.ready_seen.lock().unwrap().insert(of)),
            AttemptPhase::Ended { .. } => drop(state.ended.lock().unwrap().insert(of, one.clone())),
        }
    }
    *state.last.lock().unwrap() = Some(request.clone());
}

async fn usage(State(state): App, Json(batch): Json<UsageBatch>) -> Result<Json<UsageReceipt>, StatusCode> {
    if state.away.load(Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let mut receipt = UsageReceipt { accepted: 0, duplicates: 0, refused: Vec::new() };
    let mut known = state.usage.lock().unwrap();
    for event in batch.events {
        event.check(RealWorld.now()).expect("a site sends sane usage");
        state.records_received.fetch_add(1, Ordering::SeqCst);
        match known.insert(event.id.clone(), event.clone()) {
            None => receipt.accepted += 1,
            Some(before) => {
                assert_eq!(before, event, "one id, one fact");
                receipt.duplicates += 1;
            }
        }
    }
    drop(known);
    let lost = state.answers_lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if lost.is_ok() { Err(StatusCode::BAD_GATEWAY) } else { Ok(Json(receipt)) }
}

/// What endpoints stand on.
pub(crate) fn sku() -> gregal_core::sku::Sku {
    gregal_core::sku::default_skus().remove(0)
}

fn first_intent() -> Intent {
    let france = "FR".parse().unwrap();
    let operator = SiteOperator { name: "Gregal".into(), jurisdiction: france, parent_jurisdiction: france };
    let endpoint = |endpoint, organisation, project, name: &str| gregal_api::protocol::WantedEndpoint {
        endpoint,
        organisation,
        project,
        name: name.into(),
        model: ModelId::from_u128(1),
        model_digest: super::world::model_digest(),
        price_item: "embedded".into(),
        shared: None,
        sku: Some(sku()),
        held_ms: 3_600_000,
        billed: gregal_core::job::Billed::default(),
        drain: false,
    };
    let key = |number: u8, role, organisation, project, expires_at| gregal_api::protocol::SiteKey {
        key: KeyId::from_u128(number.into()),
        digest: digest_of(&secret(number)),
        role,
        organisation,
        project,
        account: None,
        scope: gregal_core::scope::Scope::default(),
        expires_at,
    };
    let residency = |organisation| gregal_api::protocol::SiteOrganisation {
        organisation,
        residency: ResidencyPolicy::eu(),
        policies: Vec::new(),
    };
    let past = RealWorld.now().plus_seconds(-1);
    Intent {
        revision: 1,
        site: Site {
            id: SITE,
            name: "local".into(),
            jurisdiction: france,
            operator,
            certifications: BTreeSet::new(),
            url: None,
            secret_digest: digest_of(SITE_SECRET),
            grid: None,
            capacity: None,
            lease_until: None,
            incarnation: None,
            created_at: Time::from_millis(0),
            version: 1,
        },
        made_at: RealWorld.now(),
        attempts: Vec::new(),
        jobs_kept: Vec::new(),
        endpoints: vec![
            endpoint(ENDPOINT, ORG, PROJECT, "chat"),
            endpoint(OTHER_ENDPOINT, OTHER_ORG, OTHER_PROJECT, "theirs"),
        ],
        datasets: Vec::new(),
        keys: vec![
            key(OWNER, Role::Owner, ORG, None, None),
            key(INFERENCE, Role::Inference, ORG, Some(PROJECT), None),
            key(VIEWER, Role::Viewer, ORG, Some(PROJECT), None),
            key(STRANGER, Role::Owner, OTHER_ORG, None, None),
            key(EXPIRED, Role::Owner, ORG, None, Some(past)),
        ],
        keys_revoked: Vec::new(),
        organisations: vec![residency(ORG), residency(OTHER_ORG)],
        allowances: vec![allowance(Nano::from_euro(1))],
        price_books: vec![price::default_book(Time::from_millis(0))],
    }
}

/// The organisation's allowance with so much granted.
pub(crate) fn allowance(granted: Nano) -> gregal_api::protocol::Allowance {
    gregal_api::protocol::Allowance {
        allowance: ALLOWANCE,
        organisation: ORG,
        granted,
        charged: Nano::ZERO,
        expires_at: RealWorld.now().plus_seconds(3_600),
    }
}
