//! The console: pages for people, rendered on the server. It has no private door: whatever a page shows or does goes through
//! the public API, called in this process with the key of whoever signed in. Content (logs, prompts, answers, datasets) never
//! comes here either: a page gets a grant, and the browser talks to the site itself.

mod api;
mod asset;
mod audit;
mod cli;
mod dataset;
mod decisions;
mod endpoint;
mod envelope;
mod failure;
mod invoice;
mod issued;
mod job;
mod key;
mod member;
mod model;
mod month;
mod organisation;
mod overview;
mod page;
mod passkey;
mod placement;
mod plot;
mod policy;
mod posted;
mod provider;
mod quota;
mod reservation;
mod service_account;
mod session;
mod sign_in;
mod site;
mod sku;
mod usage;
mod visitor;
mod welcome;
mod words;

use std::sync::Arc;

use axum::{
    Router,
    http::Uri,
    middleware::from_fn_with_state,
    response::Redirect,
    routing::{any, get, post},
};
use gregal_api::problem::{Code, Problem};
use gregal_core::world::World;

use self::{failure::Failure, passkey::Questions, provider::Flows, session::Sessions};
use crate::Control;

/// What the console needs.
#[derive(Debug)]
pub(crate) struct ConsoleOptions {
    /// Time and chance.
    pub(crate) world: Arc<dyn World>,
    /// Where browsers reach the control plane: its public base address.
    pub(crate) url: String,
    /// The one door beside the API: what makes a key where there is none yet (`app/sign_in.rs`).
    pub(crate) door: Control,
}

/// The console. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Console(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    api: Router,
    sessions: Sessions,
    flows: Flows,
    questions: Questions,
    door: Control,
    world: Arc<dyn World>,
    /// Scheme, host and port of the public address.
    origin: Option<String>,
    /// Whether cookies are for encrypted connections only.
    is_secure: bool,
}

impl Console {
    fn new(api: Router, options: ConsoleOptions) -> Self {
        let origin = page::origin_of(&options.url);
        let is_secure = origin.as_deref().is_some_and(|origin| origin.starts_with("https://"));
        let ConsoleOptions { world, door, .. } = options;
        let (sessions, flows, questions) = (Sessions::default(), Flows::default(), Questions::default());
        Self(Arc::new(Shared { api, sessions, flows, questions, door, world, origin, is_secure }))
    }

    /// Text nobody can guess: 64 hex digits.
    fn random(&self) -> String {
        let mut bytes = [0; 32];
        self.0.world.fill(&mut bytes);
        hex::encode(bytes)
    }
}

/// The console's pages over the API's router: `/`, `/console` and everything below it.
pub(crate) fn router(api: Router, options: ConsoleOptions) -> Router {
    let console = Console::new(api, options);
    Router::new()
        .route("/", get(home))
        .route("/console/", get(home))
        .route("/console", get(overview::page))
        .route("/console/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/console/sign-in/begin", post(provider::begin))
        .route("/console/sign-in/callback", get(provider::callback))
        .route("/console/passkeys", get(passkey::list).post(passkey::add_begin))
        .route("/console/passkeys/sign-in", post(passkey::sign_in_begin))
        .route("/console/passkeys/signed", post(passkey::sign_in_finish))
        .route("/console/passkeys/join", post(passkey::join_begin))
        .route("/console/passkeys/joined", post(passkey::join_finish))
        .route("/console/passkeys/added", post(passkey::add_finish))
        .route("/console/passkeys/{passkey}/remove", post(passkey::remove))
        .route("/console/welcome", get(welcome::page))
        .route("/console/welcome/enter", post(welcome::enter))
        .route("/console/welcome/join", post(welcome::join))
        .route("/console/welcome/sign-out", post(welcome::sign_out))
        .route("/console/cli", get(cli::ask).post(cli::allow))
        .route("/console/device", get(cli::device).post(cli::device_word))
        .route("/console/service-accounts", get(service_account::list).post(service_account::create))
        .route("/console/members", get(member::list).post(member::invite))
        .route("/console/members/{person}", post(member::write))
        .route("/console/members/{person}/remove", post(member::remove))
        .route("/console/invitations/{invitation}/revoke", post(member::revoke))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/assets/{name}", get(asset::read))
        .route("/console/projects", post(organisation::project_create))
        .route("/console/projects/{project}/jobs", get(job::list))
        .route("/console/jobs/{job}", get(job::page))
        .route("/console/jobs/{job}/live", get(job::live))
        .route("/console/jobs/{job}/cancel", post(job::cancel))
        .route("/console/jobs/{job}/grant", post(job::grant))
        .route("/console/projects/{project}/models", get(model::list))
        .route("/console/models/{model}", get(model::page))
        .route("/console/projects/{project}/endpoints", get(endpoint::list).post(endpoint::create))
        .route("/console/endpoints/{endpoint}", get(endpoint::page))
        .route("/console/endpoints/{endpoint}/live", get(endpoint::live))
        .route("/console/endpoints/{endpoint}/delete", post(endpoint::delete))
        .route("/console/endpoints/{endpoint}/grant", post(endpoint::grant))
        .route("/console/projects/{project}/reservations", get(reservation::list).post(reservation::create))
        .route("/console/reservations/{reservation}/cancel", post(reservation::cancel))
        .route("/console/projects/{project}/datasets", get(dataset::list).post(dataset::create))
        .route("/console/projects/{project}/datasets/live", get(dataset::live))
        .route("/console/datasets/{dataset}/delete", post(dataset::delete))
        .route("/console/projects/{project}/keys", get(key::list).post(key::create))
        .route("/console/keys/{key}/revoke", post(key::revoke))
        .route("/console/projects/{project}/placement", get(placement::page))
        .route("/console/projects/{project}/policies", get(policy::list))
        .route("/console/projects/{project}/quotas", get(quota::project))
        .route("/console/organisations/{organisation}/quotas", get(quota::organisation))
        .route("/console/usage", get(usage::page))
        .route("/console/invoice", get(invoice::page))
        .route("/console/invoices", get(issued::page))
        .route("/console/invoices/{invoice}/{format}", get(issued::download))
        .route("/console/audit", get(audit::page))
        .route("/console/sites", get(site::list))
        .route("/console/skus", get(sku::list).post(sku::create))
        .route("/console/skus/{sku}/retire", post(sku::retire))
        .route("/console/organisations", get(organisation::list))
        .route("/console/{*rest}", any(unknown))
        .layer(from_fn_with_state(console.clone(), envelope::envelope))
        .with_state(console)
}

async fn home() -> Redirect {
    Redirect::to("/console")
}

async fn unknown(_: Uri) -> Failure {
    Problem::new(Code::NotFound, "the console has no such page").into()
}
