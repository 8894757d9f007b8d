//! What every test stands on: a cloud, a tenant in it, and a site that dials in.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request},
};
use gregal_api::{
    protocol::{AttemptPhase, INTENT_PURPOSE, Intent, ObservedAttempt, ObservedDataset, SyncAnswer, SyncRequest},
    routes::route,
    signed::verifying_key,
};
use gregal_control::{AccessOptions, Control, ControlOptions, IdentityOptions};
use gregal_core::{
    access::Role,
    audit::AuditEntry,
    id::{JobId, KeyId, OrganisationId, PersonId, ProjectId, SiteId},
    job::{Billed, JobEnd},
    key::{Key, KeyKind, Scope, digest_of, secret_from},
    ledger::Balances,
    member::Member,
    meter::{Meter, UsageEvent},
    person::{Person, Subject},
    site::{Capacity, SiteOperator},
    time::Time,
    world::World,
};
use gregal_store::{Store, StoreOptions};
use gregal_testkit::SteppedWorld;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// A cloud on an empty store.
pub(crate) struct Cloud {
    pub(crate) control: Control,
    pub(crate) world: Arc<SteppedWorld>,
    pub(crate) store: Store,
    pub(crate) operator: String,
    router: Router,
    _folder: tempfile::TempDir,
}

fn options(store: &Store, world: &Arc<SteppedWorld>, identity: IdentityOptions) -> ControlOptions {
    ControlOptions {
        store: store.clone(),
        world: world.clone(),
        url: "http://127.0.0.1:7480".into(),
        seller: "FR".parse().unwrap(),
        invoicing: None,
        first_prices: gregal_core::price::default_book(gregal_core::time::Time::from_millis(0)),
        origin: "audit.test.example/gregal".into(),
        code_version: "test".into(),
        clean_ms: gregal_core::reservation::CLEAN_MS_DEFAULT,
        identity,
        access: AccessOptions { operator: Some(french()), ..AccessOptions::default() },
    }
}

/// Who runs it.
fn french() -> SiteOperator {
    let law = "FR".parse().unwrap();
    SiteOperator { name: "Hoster".into(), jurisdiction: law, parent_jurisdiction: law }
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The body of a good answer.
    pub(crate) fn good(&self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self.json()
    }

    /// The code of a problem, whose form is checked on the way.
    pub(crate) fn problem(&self) -> String {
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        assert!(problem["request"].as_str().is_some_and(|id| id.starts_with("req_")), "{}", self.text);
        problem["code"].as_str().unwrap().to_owned()
    }
}

impl Cloud {
    pub(crate) async fn open() -> Self {
        Self::open_with(IdentityOptions::default()).await
    }

    /// A cloud with providers for people to sign in with.
    pub(crate) async fn open_with(identity: IdentityOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Arc::new(SteppedWorld::at("2026-11-22T09:30:00Z".parse().unwrap()));
        let path = folder.path().join("control.db");
        let store = Store::open(StoreOptions::new(path.to_str().unwrap())).await.unwrap();
        let control = Control::open(options(&store, &world, identity)).await.unwrap();
        let operator = control.operator_key_ensure().await.unwrap().unwrap();
        Self { router: control.router(), control, world, store, operator, _folder: folder }
    }

    /// The same cloud, whose control plane has started anew over its store.
    pub(crate) async fn restarted(self) -> Self {
        let control = Control::open(options(&self.store, &self.world, IdentityOptions::default())).await.unwrap();
        Self { router: control.router(), control, ..self }
    }

    /// As [`Cloud::restarted`], with other settings of who gets in.
    pub(crate) async fn restarted_with(self, access: AccessOptions) -> Self {
        let options = ControlOptions { access, ..options(&self.store, &self.world, IdentityOptions::default()) };
        let control = Control::open(options).await.unwrap();
        Self { router: control.router(), control, ..self }
    }

    /// As [`Cloud::restarted`], issuing invoices.
    pub(crate) async fn restarted_invoicing(self, invoicing: gregal_control::Invoicing) -> Self {
        let options = options(&self.store, &self.world, IdentityOptions::default());
        let control = Control::open(ControlOptions { invoicing: Some(invoicing), ..options }).await.unwrap();
        Self { router: control.router(), control, ..self }
    }

    /// Another plane over the same store, beside this one.
    pub(crate) async fn beside(&self) -> Self {
        let control = Control::open(options(&self.store, &self.world, IdentityOptions::default())).await.unwrap();
        Self {
            router: control.router(),
            control,
            world: self.world.clone(),
            store: self.store.clone(),
            operator: self.operator.clone(),
            _folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Another control plane over the same store, as a second replica would be.
    pub(crate) async fn another(&self) -> Control {
        Control::open(options(&self.store, &self.world, IdentityOptions::default())).await.unwrap()
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 64 << 20).await.unwrap();
        // Tiles are bytes; whatever looks for words in them finds none.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text, bytes: bytes.to_vec() }
    }

    /// Calls a route of the table; parameters fill its braces.
    pub(crate) async fn call(&self, key: &str, id: &str, parameters: &[&str], body: Value) -> Answer {
        self.call_once(key, id, parameters, body, None).await
    }

    /// As [`Cloud::call`], with an idempotency key.
    pub(crate) async fn call_once(
        &self,
        key: &str,
        id: &str,
        parameters: &[&str],
        body: Value,
        idempotency_key: Option<&str>,
    ) -> Answer {
        let path = path_of(id, parameters);
        self.request(key, route(id).unwrap().method, &path, body, idempotency_key).await
    }

    /// Reads a path with a query.
    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        self.request(key, "GET", path, Value::Null, None).await
    }

    async fn request(&self, key: &str, method: &str, path: &str, body: Value, once: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(once) = once {
            request = request.header("idempotency-key", once);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).unwrap()).await
    }

    /// Makes an organisation with a project and credit.
    pub(crate) async fn tenant(&self, name: &str, credit_cents: u32) -> Tenant {
        let wanted = json!({ "name": name, "country": "FR", "credit_cents": credit_cents });
        let made = self.call(&self.operator, "organisation_create", &[], wanted).await.good();
        let organisation: OrganisationId = made["organisation"]["id"].as_str().unwrap().parse().unwrap();
        let owner = made["owner_key"]["secret"].as_str().unwrap().to_owned();
        let wanted = json!({ "name": "main" });
        let made = self.call(&owner, "project_create", &[&organisation.to_string()], wanted).await.good();
        Tenant { organisation, owner, project: made["id"].as_str().unwrap().parse().unwrap() }
    }

    /// Puts a key into the store, of any role and reach.
    pub(crate) async fn key(
        &self,
        organisation: Option<OrganisationId>,
        project: Option<ProjectId>,
        role: Role,
    ) -> String {
        self.key_put(organisation, project, role, Scope::default()).await
    }

    /// Puts a narrowed key of a whole organisation into the store.
    pub(crate) async fn key_of(&self, organisation: OrganisationId, role: Role, scope: Scope) -> String {
        self.key_put(Some(organisation), None, role, scope).await
    }

    async fn key_put(
        &self,
        organisation: Option<OrganisationId>,
        project: Option<ProjectId>,
        role: Role,
        scope: Scope,
    ) -> String {
        let (mut entropy, now) = ([0; 32], self.world.now());
        self.world.fill(&mut entropy);
        let secret = secret_from(&entropy);
        let key = Key {
            id: KeyId::new(&*self.world),
            organisation,
            project,
            name: "test".into(),
            role,
            digest: digest_of(&secret),
            kind: KeyKind::Made,
            person: None,
            account: None,
            scope,
            created_at: now,
            expires_at: None,
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        let tx = self.store.begin().await.unwrap();
        tx.key_insert(&key).await.unwrap();
        tx.commit(&[entry(now, "test:key")]).await.unwrap();
        secret
    }

    /// Puts somebody into the store as a member, signed in; answers who it is and the key of the session.
    pub(crate) async fn member(
        &self,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        role: Role,
        email: &str,
    ) -> (PersonId, String) {
        let (mut entropy, now) = ([0; 32], self.world.now());
        self.world.fill(&mut entropy);
        let secret = secret_from(&entropy);
        let id = PersonId::new(&*self.world);
        let person = Person {
            id,
            subject: Some(Subject { issuer: "https://id.test.example".into(), subject: id.to_string() }),
            email: email.into(),
            name: Some("Ada Lovelace".into()),
            salt: digest_of(&secret),
            created_at: now,
            erased_at: None,
            version: 1,
        };
        let member = Member { organisation, person: id, role, project, created_at: now, version: 1 };
        let key = Key {
            id: KeyId::new(&*self.world),
            organisation: Some(organisation),
            project,
            name: person.log_name().unwrap(),
            role,
            digest: digest_of(&secret),
            kind: KeyKind::Session,
            person: Some(id),
            account: None,
            scope: Scope::default(),
            created_at: now,
            expires_at: Some(now.plus_seconds(3600)),
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        let tx = self.store.begin().await.unwrap();
        tx.person_insert(&person).await.unwrap();
        tx.member_insert(&member).await.unwrap();
        tx.key_insert(&key).await.unwrap();
        tx.commit(&[entry(now, "test:member")]).await.unwrap();
        (id, secret)
    }

    /// Registers a site and lets it dial in.
    pub(crate) async fn site(&self, name: &str, law: &str) -> FakeSite {
        let wanted = json!({
            "name": name, "jurisdiction": law, "operator_name": "Hoster", "operator_jurisdiction": law,
            "operator_parent_jurisdiction": law,
        });
        let made = self.call(&self.operator, "site_create", &[], wanted).await.good();
        let id: SiteId = made["site"]["id"].as_str().unwrap().parse().unwrap();
        let mut site = FakeSite::new(id, made["secret"].as_str().unwrap().to_owned(), name);
        site.sync(self).await;
        site
    }

    /// Where an organisation's money stands; checks on the way that it adds up to zero and to its postings.
    pub(crate) async fn balances(&self, organisation: OrganisationId) -> Balances {
        let balances = self.store.balances_get(organisation).await.unwrap();
        assert_eq!(balances.sum(), 0, "{balances:?}");
        assert_eq!(balances, self.store.balances_recomputed(organisation).await.unwrap());
        balances
    }

    /// Announces a dataset and lets it arrive at the site.
    pub(crate) async fn dataset(&self, tenant: &Tenant, site: &mut FakeSite, name: &str) -> String {
        let wanted = json!({ "name": name, "site": site.id.to_string() });
        let made = self.call(&tenant.owner, "dataset_create", &[&tenant.project()], wanted).await.good();
        let id = made["dataset"]["id"].as_str().unwrap().to_owned();
        site.report.datasets =
            vec![ObservedDataset { dataset: id.parse().unwrap(), digest: "ab".repeat(32), bytes: 1000 }];
        let answer = site.sync(self).await;
        assert_eq!(answer.datasets_stored, [id.parse().unwrap()]);
        site.report.datasets.clear();
        id
    }

    /// Submits a training of a minute on one core.
    pub(crate) async fn job(&self, tenant: &Tenant, dataset: &str, name: &str) -> JobId {
        let made = self.call(&tenant.owner, "job_create", &[&tenant.project()], training(dataset, name)).await.good();
        made["id"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) async fn job_read(&self, tenant: &Tenant, job: JobId) -> Value {
        self.call(&tenant.owner, "job_read", &[&job.to_string()], Value::Null).await.good()
    }
}

/// A training of a minute on one core.
pub(crate) fn training(dataset: &str, name: &str) -> Value {
    json!({
        "name": name, "sku": "cpu.1", "seconds_max": 60,
        "program": { "kind": "train", "dataset": dataset, "model_name": "facts" },
    })
}

/// A route's path with its parameters filled in.
pub(crate) fn path_of(id: &str, parameters: &[&str]) -> String {
    let mut left = parameters.iter();
    let route = route(id).unwrap_or_else(|| panic!("no route `{id}`"));
    let fill = |part: &str| if part.starts_with('{') { (*left.next().unwrap()).to_owned() } else { part.to_owned() };
    route.path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// An audit entry of a test's own doing.
pub(crate) fn entry(at: Time, action: &str) -> AuditEntry {
    AuditEntry {
        at,
        organisation: None,
        actor: "test".into(),
        action: action.into(),
        object: "test".into(),
        result: "done".into(),
        reason: None,
        policy: None,
        request: None,
        source: None,
        facts: serde_json::Map::new(),
        salt: None,
        view: None,
    }
}

/// An organisation, its owner and its project.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) organisation: OrganisationId,
    pub(crate) owner: String,
    pub(crate) project: ProjectId,
}

impl Tenant {
    pub(crate) fn organisation(&self) -> String {
        self.organisation.to_string()
    }

    pub(crate) fn project(&self) -> String {
        self.project.to_string()
    }
}

/// A site that says what a test lets it say.
pub(crate) struct FakeSite {
    pub(crate) id: SiteId,
    pub(crate) secret: String,
    pub(crate) report: SyncRequest,
    pub(crate) intent: Option<Intent>,
}

impl FakeSite {
    fn new(id: SiteId, secret: String, name: &str) -> Self {
        let report = SyncRequest {
            incarnation: "first".into(),
            url: format!("http://{name}.test"),
            code_version: "test".into(),
            capacity: Capacity {
                cpus_milli: 2000,
                memory_bytes: 16 << 30,
                accelerators: Vec::new(),
                protections_missing: Vec::new(),
                engine: "sim".into(),
                shared: Vec::new(),
            },
            intent_revision: 0,
            intent_again: false,
            wait_ms: 0,
            attempts: Vec::new(),
            replicas: Vec::new(),
            datasets: Vec::new(),
            datasets_gone: Vec::new(),
            allowances: Vec::new(),
            keys_used: Vec::new(),
        };
        Self { id, secret, report, intent: None }
    }

    /// Dials in, takes the intent and believes it only if control signed it for this site.
    pub(crate) async fn sync(&mut self, cloud: &Cloud) -> SyncAnswer {
        let body = serde_json::to_value(&self.report).unwrap();
        let answer = cloud.call(&self.secret, "site_sync", &[], body).await.good();
        let answer: SyncAnswer = serde_json::from_value(answer).unwrap();
        if let Some(signed) = &answer.intent {
            let key = verifying_key(&answer.control_key).unwrap();
            let intent: Intent = signed.open(&key, INTENT_PURPOSE).unwrap();
            assert_eq!(intent.site.id, self.id);
            assert!(intent.revision > self.report.intent_revision, "an intent's number only grows");
            self.report.intent_revision = intent.revision;
            self.intent = Some(intent);
        }
        answer
    }

    /// The intent it acts by.
    pub(crate) fn intent(&self) -> &Intent {
        self.intent.as_ref().expect("the site has dialled in")
    }

    /// Says of one attempt where it stands, and dials in.
    pub(crate) async fn says(&mut self, cloud: &Cloud, job: JobId, attempt: u32, phase: AttemptPhase) -> SyncAnswer {
        self.report.attempts.retain(|seen| seen.job != job);
        self.report.attempts.push(ObservedAttempt { job, attempt, phase, progress: Vec::new() });
        let answer = self.sync(cloud).await;
        for ended in &answer.attempts_ended {
            self.report.attempts.retain(|seen| (seen.job, seen.attempt) != (ended.job, ended.attempt));
        }
        answer
    }

    /// Hands over usage records.
    pub(crate) async fn uses(&self, cloud: &Cloud, events: &[UsageEvent]) -> Value {
        cloud.call(&self.secret, "site_usage", &[], json!({ "events": events })).await.good()
    }

    /// A record of some seconds of one core, by a job.
    pub(crate) fn core_seconds(
        &self,
        cloud: &Cloud,
        tenant: &Tenant,
        job: JobId,
        occasion: &str,
        seconds: u64,
    ) -> UsageEvent {
        let ended_at = cloud.world.now();
        UsageEvent {
            id: UsageEvent::id_of(self.id, &job.to_string(), Meter::ComputeCore, occasion),
            organisation: tenant.organisation,
            project: tenant.project,
            site: self.id,
            meter: Meter::ComputeCore,
            item: "cpu.1".into(),
            quantity: seconds * 1000,
            subject: job.to_string(),
            started_at: ended_at.plus_seconds(-i64::try_from(seconds).unwrap()),
            ended_at,
            allowance: None,
            estimated: None,
        }
    }
}

/// A cloud in which a tenant has ten euros, and a dataset at a site in France.
pub(crate) async fn with_dataset() -> (Cloud, FakeSite, Tenant, String) {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    (cloud, site, tenant, dataset)
}

/// Running since now.
pub(crate) fn running(cloud: &Cloud) -> AttemptPhase {
    AttemptPhase::Running { since: cloud.world.now() }
}

/// Over, for this reason.
pub(crate) fn ended(cloud: &Cloud, reason: &str, succeeded: bool) -> AttemptPhase {
    let now = cloud.world.now();
    AttemptPhase::Ended {
        since: Some(now),
        at: now,
        end: JobEnd { code: Some(i32::from(!succeeded)), reason: reason.into(), hint: None },
        succeeded,
        cancelled: false,
        product: None,
        heldout: None,
        billed: Billed::default(),
    }
}
