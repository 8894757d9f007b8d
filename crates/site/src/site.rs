//! A site: options in, a router to serve and loops to run out.

use std::{
    fs::File,
    future::Future,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{any, get, post, put},
};
use gregal_api::{client::Client, unread};
use gregal_core::{attempts::Attempts, id::RequestId, network::Network, site::Capacity, world::World};
use gregal_engine::Engine;
use gregal_policy::Policies;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    agent::{
        self,
        datasets::Datasets,
        intent::Desk,
        jobs::{Jobs, state::AttemptState},
        replicas::Replicas,
    },
    content, durable,
    error::Error,
    external::External,
    gateway::{admit::Ledger, openai},
    key_use::KeyUses,
    metrics::Metrics,
    objects::{Keep, SiteKey},
    spool::{self, Spool},
};

/// What a site needs.
#[derive(Clone)]
pub struct SiteOptions {
    /// Where it keeps everything; only one process may use it.
    pub data_dir: PathBuf,
    /// Where the control plane answers.
    pub control_url: String,
    /// The secret this site dials in with (`gk_...`).
    pub site_secret: String,
    /// Where tenants reach this site.
    pub url: String,
    /// Time and chance.
    pub world: Arc<dyn World>,
    /// What really runs things.
    pub engine: Arc<dyn Engine>,
    /// Program and first arguments that run the embedded language-model engine: `["/usr/bin/gregal", "lm"]`.
    pub lm_program: Vec<String>,
    /// What the site has for rent.
    pub capacity: Capacity,
    /// Servers that the operator trusts, each offered as a shared model.
    pub external: Vec<External>,
    /// What a core is taken to draw where the engine counts no energy, in milliwatts.
    pub core_mw: u64,
    /// Version of this program.
    pub code_version: String,
    /// The console's origin (`http://127.0.0.1:7480`), whose pages may call this site from a browser.
    pub console_origin: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed. From anybody else it is not read.
    pub trusted_proxies: Vec<Network>,
    /// Times and limits.
    pub tuning: Tuning,
}

impl std::fmt::Debug for SiteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteOptions").field("data_dir", &self.data_dir).field("url", &self.url).finish_non_exhaustive()
    }
}

/// Times and limits of a site. The defaults suit a laptop and a rack.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Length of a metered interval, in milliseconds.
    pub meter_interval_ms: u64,
    /// Length of the first metered interval of a served model, in milliseconds; later ones grow to thirty times that.
    pub replica_interval_ms: u64,
    /// How often engines, logs and sockets are looked at, in milliseconds.
    pub tick_ms: u64,
    /// The longest a client waits for the first token, in milliseconds.
    pub first_token_ms_max: u64,
    /// The longest a started answer may be silent, in milliseconds.
    pub stream_idle_ms_max: u64,
    /// How long control may wait with its answer while jobs run, in milliseconds.
    pub sync_busy_ms: u32,
    /// The same while nothing happens.
    pub sync_idle_ms: u32,
    /// The first wait after control could not be reached, in milliseconds; doubled each time.
    pub retry_ms: u64,
    /// The longest of these waits, in milliseconds.
    pub retry_ms_max: u64,
    /// The longest a replica may take to answer first, in milliseconds.
    pub load_ms_max: u64,
    /// The longest a replica that runs may be silent before it is started anew, in milliseconds.
    pub silent_ms_max: u64,
    /// The longest a stopping replica waits for requests that have begun, in milliseconds.
    pub drain_ms_max: u64,
    /// Requests at one replica at once.
    pub requests_in_flight_max: usize,
    /// Whether jobs that ask for it may reach the network.
    pub network_for_jobs: bool,
    /// The largest dataset, in bytes.
    pub dataset_bytes_max: u64,
    /// How much usage may wait.
    pub spool: spool::Limits,
    /// How long keys are believed after the last word from control, in milliseconds.
    pub keys_believed_ms: u64,
    /// The longest a stop may take, in milliseconds.
    pub stop_ms_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            meter_interval_ms: 2_000,
            replica_interval_ms: 2_000,
            tick_ms: 200,
            first_token_ms_max: 120_000,
            stream_idle_ms_max: 60_000,
            sync_busy_ms: 500,
            sync_idle_ms: 5_000,
            retry_ms: 250,
            retry_ms_max: 5_000,
            load_ms_max: 300_000,
            silent_ms_max: 30_000,
            drain_ms_max: 30_000,
            requests_in_flight_max: 64,
            network_for_jobs: false,
            dataset_bytes_max: 16 << 30,
            spool: spool::Limits::default(),
            keys_believed_ms: 3_600_000,
            stop_ms_max: 45_000,
        }
    }
}

/// What every part of a site shares.
pub(crate) struct Shared {
    pub(crate) options: SiteOptions,
    pub(crate) incarnation: String,
    pub(crate) control: Client,
    pub(crate) policies: Policies,
    pub(crate) desk: Desk,
    pub(crate) spool: Spool,
    pub(crate) ledger: Ledger,
    pub(crate) keep: Keep,
    pub(crate) datasets: Datasets,
    pub(crate) writing: content::Writing,
    pub(crate) jobs: Jobs,
    pub(crate) replicas: Replicas,
    pub(crate) metrics: Metrics,
    /// Wrong keys, by where they came from.
    pub(crate) attempts: Mutex<Attempts>,
    pub(crate) key_uses: KeyUses,
    pub(crate) followers: Arc<Semaphore>,
    /// Poked when control should hear something at once.
    pub(crate) news: Notify,
    /// Everything that works: attempts, replicas, requests. Stopped first.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Set when the work has ended and the last word may be said.
    pub(crate) stop_talking: CancellationToken,
    synced_at: AtomicI64,
    _lock: File,
}

impl Shared {
    /// Notes that control answered.
    pub(crate) fn synced(&self) {
        let now = self.options.world.now();
        self.synced_at.store(now.as_millis(), Ordering::Relaxed);
        self.desk.heard(now);
    }

    /// Whether keys may be believed: control's last word is not too long ago. What it took back since is not known here.
    pub(crate) fn believes_keys(&self) -> bool {
        // A clock that was set back a little is no reason to refuse; one set far back is.
        let silent_ms = self.options.world.now().as_millis().abs_diff(self.desk.heard_at());
        silent_ms <= self.options.tuning.keys_believed_ms
    }
}

/// A site. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    shared: Arc<Shared>,
    carried_on: Arc<Mutex<Vec<AttemptState>>>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("url", &self.shared.options.url).finish_non_exhaustive()
    }
}

impl Site {
    /// Opens the data folder and takes up what was left there. Nothing runs yet; requests can be served already, by the
    /// last intent that control signed.
    pub async fn open(options: SiteOptions) -> Result<Self, Error> {
        if options.lm_program.is_empty() {
            return Err(Error::Option("`lm_program` names the program that trains and serves models".into()));
        }
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(options)).await;
        let site = opened.map_err(|error| Error::Option(format!("the site's start was cut short: {error}")))??;
        let standing = site.shared.desk.current();
        if let Some(intent) = standing.intent.as_ref().filter(|_| !standing.is_uncounted) {
            site.shared.ledger.granted(&intent.allowances).await;
        }
        Ok(site)
    }

    fn open_blocking(options: SiteOptions) -> Result<Self, Error> {
        let folder = options.data_dir.clone();
        durable::private_folder(&folder).map_err(Error::io("could not make the data folder", &folder))?;
        let folder = folder.canonicalize().map_err(Error::io("could not find", &folder))?;
        let lock_path = folder.join("site.lock");
        let lock = File::create(&lock_path).map_err(Error::io("could not make", &lock_path))?;
        lock.try_lock().map_err(|_| Error::InUse { folder: folder.display().to_string() })?;
        let objects = folder.join("objects");
        let something_stored = Keep::holds_something(&objects);
        let key = SiteKey::load(&folder.join("keys").join("site.key"), options.world.as_ref(), something_stored)?;
        let spool = Spool::open(&folder.join("spool"), options.tuning.spool)?;
        let (jobs, carried_on) = Jobs::open(&folder.join("jobs"), spool.next())?;
        let mut random = [0u8; 8];
        options.world.fill(&mut random);
        let shared_models = options.external.iter().map(External::offer).collect();
        let capacity = Capacity { shared: shared_models, ..options.capacity.clone() };
        let shared = Shared {
            incarnation: hex::encode(random),
            control: Client::new(&options.control_url, Some(options.site_secret.clone()))?,
            policies: Policies::new()?,
            desk: Desk::open(&folder, spool.is_whole())?,
            ledger: Ledger::new(spool.clone()),
            spool,
            keep: Keep::open(&objects, key, Arc::clone(&options.world))?,
            datasets: Datasets::open(&folder.join("datasets"))?,
            writing: content::Writing::default(),
            jobs,
            replicas: Replicas::open(
                &folder.join("replicas"),
                &folder.join("replica-bills"),
                options.tuning.requests_in_flight_max,
            )?,
            metrics: Metrics::default(),
            attempts: Mutex::default(),
            followers: content::followers(),
            key_uses: KeyUses::default(),
            news: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            stop_talking: CancellationToken::new(),
            synced_at: AtomicI64::new(0),
            _lock: lock,
            options: SiteOptions { data_dir: folder, capacity, ..options },
        };
        Ok(Self { shared: Arc::new(shared), carried_on: Arc::new(Mutex::new(carried_on)) })
    }

    /// Where tenants reach it.
    pub fn url(&self) -> &str {
        &self.shared.options.url
    }

    /// Resolves when the site has what it needs to know who may do what: an intent that control signed, of now or of before a
    /// restart. It needs [`Site::run`] to be under way.
    pub async fn introduced(&self) {
        // The sender lives as long as the site does.
        let _ = self.shared.desk.subscribe().wait_for(|standing| standing.intent.is_some()).await;
    }

    /// The routes tenants call.
    pub fn router(&self) -> Router {
        let shared = &self.shared;
        let router = Router::new()
            .route("/v1/models", get(openai::models))
            .route("/v1/models/{*model}", get(openai::model_read))
            .route("/v1/chat/completions", post(openai::chat))
            .route("/v1/completions", post(openai::completion))
            .route("/v1/{*rest}", any(openai::not_implemented))
            .route("/content/v1/datasets/{dataset}", put(content::dataset_write).get(content::dataset_read))
            .route("/content/v1/jobs/{job}/logs", get(content::job_logs))
            .route("/healthz", get(healthz))
            .route("/metrics", get(metrics))
            // Each route bounds what it reads by itself: a dataset is larger than a question.
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(from_fn_with_state(Arc::clone(shared), name_request))
            .with_state(Arc::clone(shared));
        match shared.options.console_origin.as_deref().and_then(|origin| HeaderValue::from_str(origin).ok()) {
            Some(origin) => router.layer(cors(origin)),
            None => router,
        }
    }

    /// Runs the agent until `shutdown` resolves; then lets requests end, jobs save their work, and says the last word to
    /// control. May be called once.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let shared = &self.shared;
        let carried_on = std::mem::take(&mut *self.carried_on.lock().unwrap_or_else(PoisonError::into_inner));
        agent::reap(shared, &carried_on).await;
        for state in carried_on {
            agent::jobs::carry_on(shared, state);
        }
        let talkers = TaskTracker::new();
        talkers.spawn(agent::sync::run(Arc::clone(shared)));
        talkers.spawn(agent::upload::run(Arc::clone(shared)));
        shared.tasks.spawn(agent::supervise(Arc::clone(shared)));
        shutdown.await;
        tracing::info!("the site stops: requests end, jobs save their work");
        shared.stop.cancel();
        shared.tasks.close();
        let patience = Duration::from_millis(shared.options.tuning.stop_ms_max);
        if tokio::time::timeout(patience, shared.tasks.wait()).await.is_err() {
            tracing::warn!("some work did not end in time; it is taken up with the next start");
        }
        shared.stop_talking.cancel();
        talkers.close();
        talkers.wait().await;
    }
}

fn cors(origin: HeaderValue) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::exact(origin))
        .allow_methods([Method::GET, Method::POST, Method::PUT])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static(content::DIGEST_HEADER)])
        .expose_headers([HeaderName::from_static("x-request-id")])
        .max_age(Duration::from_mins(10))
}

/// Gives each request an id, and tells it.
async fn name_request(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::new(shared.options.world.as_ref());
    request.extensions_mut().insert(id);
    let mut response = answer(request, next).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// Lets a route answer, and the client hear it even where its body was not wanted.
async fn answer(request: Request, next: Next) -> Response {
    let (request, unread) = unread::lend(request);
    let response = next.run(request.map(Body::new)).await;
    unread.drain().await;
    response
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let synced_at = shared.synced_at.load(Ordering::Relaxed);
    let age_ms = (synced_at > 0).then(|| shared.options.world.now().as_millis().saturating_sub(synced_at));
    Json(json!({
        "status": "ok",
        "intent_revision": shared.desk.current().revision(),
        "control_answered_ms_ago": age_ms,
        "usage_waiting": shared.spool.waiting(),
        "usage_room": shared.ledger.has_room(),
    }))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> String {
    shared.metrics.text(&[
        ("gregal_site_usage_waiting", "Usage records that wait to be handed over.", shared.spool.waiting()),
        ("gregal_site_spool_bytes", "Bytes of the usage spool.", shared.spool.bytes()),
        ("gregal_site_intent_revision", "Revision of the intent held.", shared.desk.current().revision()),
    ])
}
