//! The control plane as a value, and `Cx`: who asks, when, and under which request. Every use case takes it first.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gregal_api::problem::{Code, Problem};
use gregal_core::{
    access::Action,
    attempts::Attempts,
    audit::AuditEntry,
    id::{OrganisationId, ProjectId, RequestId},
    key::{self, Key, KeyKind},
    network::Network,
    price::PriceBook,
    residency::Jurisdiction,
    scope::Part,
    site::{Site, SiteOperator},
    support::{SUPPORT_S_MAX, SupportAccess},
    time::Time,
    world::World,
};
use gregal_policy::{OwnPolicies, Policies, Principal, Resource, ResourceKind, Verdict};
use gregal_store::{IdempotencyRecord, Store, Tx};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::{
    Error, Result,
    app::{KeyUses, access, audit::Log},
    asks::Asks,
    denials::Denials,
    founding,
    http::{self, peer::Peer},
    identity::{Identity, IdentityOptions},
    metrics::{Metric, Metrics},
    own::Kept,
    signer::Signer,
    tasks::schedule::Passes,
    wakes::{Wake, Wakes},
};

/// What the control plane needs.
#[derive(Debug)]
pub struct ControlOptions {
    /// Its memory.
    pub store: Store,
    /// Time and chance.
    pub world: Arc<dyn World>,
    /// Where it is reached: its public base address.
    pub url: String,
    /// Where the operator is established, for VAT.
    pub seller: Jurisdiction,
    /// The price book a new cloud begins with; an old one keeps its own. It should hold from the beginning of time, so
    /// that a site whose clock is a little behind never reports use without a price.
    pub first_prices: PriceBook,
    /// The audit log's name: unique and lasting, like `audit.example.eu/gregal`.
    pub origin: String,
    /// Version of the program.
    pub code_version: String,
    /// Cleaning time before and after every reservation that is booked from now on, in milliseconds; at most
    /// [`gregal_core::reservation::CLEAN_MS_MAX`].
    pub clean_ms: u32,
    /// Who vouches for people.
    pub identity: IdentityOptions,
    /// Who gets in, from where and for how long.
    pub access: AccessOptions,
    /// Who sells, and how invoices are issued; none before the operator has said so.
    pub invoicing: Option<Invoicing>,
}

/// Who sells, and how invoices are issued.
#[derive(Debug, Clone)]
pub struct Invoicing {
    /// Who sells.
    pub seller: gregal_core::invoice::Seller,
    /// What numbers begin with; a new series begins at 1.
    pub series: String,
    /// Days until an invoice is to be paid.
    pub due_days: u32,
    /// How long after the end of a month its invoices are issued, in seconds; none: only when an operator asks.
    pub after_s: Option<u32>,
}

/// Who gets in, from where and for how long.
#[derive(Debug, Clone)]
pub struct AccessOptions {
    /// Proxies whose `X-Forwarded-For` is believed. From anybody else it is not read.
    pub trusted_proxies: Vec<Network>,
    /// Whoever runs this cloud, and the law they answer to: what an organisation's ceiling says of support's looks. None lets
    /// support look at nothing.
    pub operator: Option<SiteOperator>,
    /// The longest look, in seconds; never more than [`gregal_core::support::SUPPORT_S_MAX`].
    pub support_s_max: u32,
}

impl Default for AccessOptions {
    fn default() -> Self {
        Self { trusted_proxies: Vec::new(), operator: None, support_s_max: SUPPORT_S_MAX }
    }
}

/// The control plane. Cheap to clone; all clones are the same one.
#[derive(Debug, Clone)]
pub struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: ControlOptions,
    policies: Policies,
    kept: Kept,
    signer: Signer,
    metrics: Metrics,
    wakes: Wakes,
    denials: Denials,
    /// Wrong keys, by where they came from.
    attempts: Mutex<Attempts>,
    log: Log,
    passes: Passes,
    identity: Identity,
    asks: Asks,
    key_uses: KeyUses,
    /// Who may make a recorded pass again.
    replays: Semaphore,
}

/// Who acts.
#[derive(Debug, Clone)]
pub enum Actor {
    /// Nobody in particular: public routes.
    Nobody,
    /// The holder of a key.
    Key(Box<Key>),
    /// A site, with its secret.
    Site(Box<Site>),
    /// One of our own tasks.
    System(&'static str),
}

impl Actor {
    /// How audit entries call it.
    fn name(&self) -> String {
        match self {
            Self::Nobody => "nobody".into(),
            // A session's key is called what the log calls its person.
            Self::Key(key) if key.kind == KeyKind::Session => key.name.clone(),
            // Policies know it by that name too; the key is a fact of the entry.
            Self::Key(key) if key.account.is_some() => key.account.map(|id| id.to_string()).unwrap_or_default(),
            Self::Key(key) => key.id.to_string(),
            Self::Site(site) => site.id.to_string(),
            Self::System(task) => format!("system:{task}"),
        }
    }

    /// What audit entries add to that name.
    fn facts(&self) -> serde_json::Map<String, Value> {
        match self {
            Self::Key(key) if key.account.is_some() => {
                serde_json::Map::from_iter([("key".to_owned(), key.id.to_string().into())])
            }
            _ => serde_json::Map::new(),
        }
    }

    fn organisation(&self) -> Option<OrganisationId> {
        match self {
            Self::Key(key) => key.organisation,
            Self::Nobody | Self::Site(_) | Self::System(_) => None,
        }
    }
}

/// The claim of a request to be done once: its idempotency key and what it says.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) key: String,
    pub(crate) digest: String,
}

/// Through which door a request came, as audit entries say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The API.
    Api,
    /// The console, which calls the API in this process.
    Console,
    /// A site, with its secret.
    Site,
    /// One of our own tasks.
    Task,
}

impl Source {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Console => "console",
            Self::Site => "site",
            Self::Task => "task",
        }
    }
}

/// Salts for the audit entries of one request: each its own, so that who may read one entry learns no other's.
#[derive(Debug)]
struct Salts {
    seed: [u8; 32],
    next: AtomicU64,
}

impl Salts {
    fn new(world: &dyn World) -> Self {
        let mut seed = [0; 32];
        world.fill(&mut seed);
        Self { seed, next: AtomicU64::new(0) }
    }

    fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let said = Sha256::new().chain_update(b"gregal audit salt\0").chain_update(self.seed);
        hex::encode(&said.chain_update(number.to_be_bytes()).finalize()[..16])
    }
}

/// Who asks, when, and under which request.
#[derive(Debug, Clone)]
pub struct Cx {
    /// The request.
    pub request: RequestId,
    /// When it came in.
    pub now: Time,
    /// Who asks.
    pub actor: Actor,
    /// Where it came from.
    pub(crate) peer: Peer,
    pub(crate) claim: Option<Arc<Claim>>,
    /// What the organisation of whoever asks wrote for itself.
    pub(crate) own: Option<OwnPolicies>,
    /// Looks that the asker may use now.
    pub(crate) accesses: Arc<Vec<access::Look>>,
    /// What permission was asked for and given, so that a route can be held to having asked for its own.
    granted: Arc<Mutex<Vec<Action>>>,
    /// Whether the policies said that it must be told "not found".
    hidden: Arc<AtomicBool>,
    source: Source,
    salts: Arc<Salts>,
}

impl Cx {
    pub(crate) fn new(world: &dyn World, request: RequestId, now: Time, actor: Actor, source: Source) -> Self {
        Self {
            request,
            now,
            actor,
            peer: Peer::default(),
            claim: None,
            own: None,
            accesses: Arc::default(),
            granted: Arc::default(),
            hidden: Arc::default(),
            source,
            salts: Arc::new(Salts::new(world)),
        }
    }

    /// The key that asks; use cases that need one sit behind routes that need one.
    pub(crate) fn key(&self) -> Result<&Key> {
        match &self.actor {
            Actor::Key(key) => Ok(key),
            _ => Err(Error::refused(Code::Unauthenticated, "this needs a key: `Authorization: Bearer gk_...`")),
        }
    }

    /// What the organisation of whoever asks wrote for itself.
    pub(crate) const fn own(&self) -> Option<&OwnPolicies> {
        self.own.as_ref()
    }

    /// Whether permission for this action was asked for and given.
    pub(crate) fn was_granted(&self, action: Action) -> bool {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).contains(&action)
    }

    /// An audit entry for something this request did.
    pub(crate) fn done(
        &self,
        organisation: Option<OrganisationId>,
        action: &str,
        object: impl std::fmt::Display,
    ) -> AuditEntry {
        AuditEntry {
            at: self.now,
            organisation,
            actor: self.actor.name(),
            action: action.into(),
            object: object.to_string(),
            result: "done".into(),
            reason: None,
            policy: None,
            request: Some(self.request),
            source: Some(self.source.as_str().into()),
            facts: self.actor.facts(),
            salt: Some(self.salts.next()),
            view: None,
        }
    }
}

/// What was answered "not found".
pub(crate) struct Unfound<'a> {
    /// What it would have been, to the policies.
    pub(crate) kind: ResourceKind,
    /// What the request named.
    pub(crate) named: &'a str,
    /// What was answered.
    pub(crate) detail: &'a str,
}

/// Adds to an entry what others may need to know.
pub(crate) trait Facts {
    /// With a fact; never content or a secret.
    fn fact(self, name: &str, value: impl Into<Value>) -> Self;
    /// With the policies that decided.
    fn by(self, policies: &[String]) -> Self;
    /// As something refused, and why.
    fn refused(self, why: impl Into<String>) -> Self;
}

impl Facts for AuditEntry {
    fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }

    fn by(mut self, policies: &[String]) -> Self {
        self.policy = if policies.is_empty() { None } else { Some(policies.join(",")) };
        self
    }

    fn refused(mut self, why: impl Into<String>) -> Self {
        self.result = "refused".into();
        self.reason = Some(why.into());
        self
    }
}

impl Control {
    /// Opens the control plane over its store: loads or makes the signing key, the first price book and the first SKUs,
    /// reads the policies, checks that every route has its handler, and takes in endpoints of before they ran on a hold.
    pub async fn open(options: ControlOptions) -> Result<Self> {
        let policies = Policies::new()?;
        http::router::check()?;
        let identity = Identity::new(options.identity.clone(), &options.url)?;
        let signer = Signer::from_bytes(&founding::founded(&options).await?);
        let shared = Shared {
            options,
            policies,
            kept: Kept::default(),
            signer,
            metrics: Metrics::new(),
            wakes: Wakes::new(),
            denials: Denials::default(),
            attempts: Mutex::default(),
            log: Log::default(),
            passes: Passes::default(),
            identity,
            asks: Asks::default(),
            key_uses: KeyUses::default(),
            replays: Semaphore::new(1),
        };
        let control = Self(Arc::new(shared));
        control.replicas_adopt().await?;
        Ok(control)
    }

    /// Wakes every task and every site that waits for news.
    pub fn poke(&self) {
        self.wakes().all();
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.options.store
    }

    pub(crate) fn world(&self) -> &dyn World {
        &*self.0.options.world
    }

    pub(crate) fn now(&self) -> Time {
        self.world().now()
    }

    pub(crate) fn options(&self) -> &ControlOptions {
        &self.0.options
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.0.policies
    }

    /// Organisations' own policies, as far as they are compiled.
    pub(crate) fn kept(&self) -> &Kept {
        &self.0.kept
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.0.signer
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn wakes(&self) -> &Wakes {
        &self.0.wakes
    }

    pub(crate) fn log(&self) -> &Log {
        &self.0.log
    }

    pub(crate) fn asks(&self) -> &Asks {
        &self.0.asks
    }

    /// Keys' last uses that are not written yet.
    pub(crate) fn key_uses(&self) -> &KeyUses {
        &self.0.key_uses
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Turns at making recorded passes again.
    pub(crate) fn replays(&self) -> &Semaphore {
        &self.0.replays
    }

    pub(crate) fn passes(&self) -> &Passes {
        &self.0.passes
    }

    /// A fresh secret.
    pub(crate) fn secret(&self) -> String {
        let mut entropy = [0; 32];
        self.world().fill(&mut entropy);
        key::secret_from(&entropy)
    }

    /// The context of one of our own tasks.
    pub(crate) fn system(&self, task: &'static str) -> Cx {
        Cx::new(self.world(), RequestId::new(self.world()), self.now(), Actor::System(task), Source::Task)
    }

    /// Asks the policies. Allowed: the ids of the policies that permit it. Denied: "not found" for what the asker may not
    /// know of, "forbidden" for what it may see but not do; written down either way.
    pub(crate) async fn authorize(&self, cx: &Cx, action: Action, resource: &Resource) -> Result<Vec<String>> {
        let verdict = self.verdict(cx, action, resource);
        if let Some((access, Verdict::Allow { policies })) = self.opened(cx, &verdict, action, resource) {
            // Written down before anything is shown.
            self.access_used(cx, access, action, resource).await?;
            cx.granted.lock().unwrap_or_else(PoisonError::into_inner).push(action);
            return Ok(policies);
        }
        match verdict {
            Verdict::Allow { policies } => {
                cx.granted.lock().unwrap_or_else(PoisonError::into_inner).push(action);
                Ok(policies)
            }
            verdict @ Verdict::Deny { .. } => {
                self.metrics().count(Metric::Denials);
                self.denied(cx, action, resource, &verdict).await?;
                let noun = resource.kind.as_str().to_lowercase();
                if verdict.hides() {
                    return Err(Error::missing(&noun, &resource.id));
                }
                Err(forbidden(action, &noun, &verdict))
            }
        }
    }

    /// Asks the policies without consequences.
    pub(crate) fn verdict(&self, cx: &Cx, action: Action, resource: &Resource) -> Verdict {
        match &cx.actor {
            Actor::Key(key) => {
                let principal = Principal::from(&**key);
                self.policies().authorize_narrowed(&key.scope, &principal, action, resource, cx.own())
            }
            Actor::Site(site) => self.policies().authorize(&Principal::Site(site.id), action, resource),
            // Nobody has no role, and our own tasks never come through this door.
            Actor::Nobody | Actor::System(_) => {
                let reason = gregal_policy::DenyReason::NoPermit;
                Verdict::Deny { policies: Vec::new(), reason }
            }
        }
    }

    /// The look that opens what the asker's own role does not.
    fn opened<'a>(
        &self,
        cx: &'a Cx,
        own: &Verdict,
        action: Action,
        resource: &Resource,
    ) -> Option<(&'a SupportAccess, Verdict)> {
        let Actor::Key(key) = &cx.actor else { return None };
        if own.is_allowed() || cx.accesses.is_empty() {
            return None;
        }
        access::opened(self.policies(), &cx.accesses, key, action, resource)
    }

    /// Turns away a key that came from outside its networks, and writes it down.
    pub(crate) async fn admit_peer(&self, cx: &Cx) -> Result<()> {
        let Actor::Key(key) = &cx.actor else { return Ok(()) };
        if key.scope.works_from(cx.peer.0) {
            return Ok(());
        }
        self.metrics().count(Metric::Denials);
        let rule = Part::Networks.rule();
        let mut entry = cx.done(key.organisation, "key:use", key.id).by(&[rule.to_owned()]);
        entry.reason = Some("forbidden".into());
        self.denial_written(cx, entry).await?;
        let mut problem = Problem::new(Code::Forbidden, "this key works only from the networks it was made for");
        problem.rule = Some(rule.to_owned());
        Err(problem.hint("ask from one of them, or with another key").into())
    }

    async fn denied(&self, cx: &Cx, action: Action, resource: &Resource, verdict: &Verdict) -> Result<()> {
        if verdict.hides() {
            // Written where the answer is known (`unfound`), in the same words as of what is not there.
            cx.hidden.store(true, Ordering::Relaxed);
            let policies = verdict.policies().join(",");
            tracing::warn!(
                actor = cx.actor.name(),
                action = action.as_str(),
                policies,
                "somebody else's object was asked for"
            );
            return Ok(());
        }
        let mut entry = cx.done(cx.actor.organisation(), action.as_str(), &resource.id).by(verdict.policies());
        if let Verdict::Deny { reason, .. } = verdict {
            entry.reason = Some(reason.as_str().into());
        }
        self.denial_written(cx, entry).await
    }

    /// Does for what was answered "not found" all that is done where it is somebody else's: asks the policies, and writes the
    /// denial down in the view of whoever asked, who reads it there. So neither how long it takes, nor what the log says, nor
    /// that it says anything, tells which of the two it was.
    pub(crate) async fn unfound(&self, cx: &Cx, action: Action, object: Unfound<'_>) -> Result<()> {
        let Unfound { kind, named, detail } = object;
        if !cx.hidden.load(Ordering::Relaxed) {
            let (organisation, project) = (OrganisationId::from_u128(0), ProjectId::from_u128(0));
            let nobodys = match kind {
                ResourceKind::Organisation => Resource::organisation(organisation),
                ResourceKind::Project => Resource::project(organisation, project),
                kind => Resource::within(kind, organisation, project, named),
            };
            let _ = self.verdict(cx, action, &nobodys);
        }
        let mut entry = cx.done(cx.actor.organisation(), action.as_str(), named);
        entry.reason = Some(detail.to_owned());
        self.denial_written(cx, entry).await
    }

    async fn denial_written(&self, cx: &Cx, mut entry: AuditEntry) -> Result<()> {
        let denial = [&entry.action, &entry.object, entry.reason.as_deref().unwrap_or_default()].join("\n");
        let Some(left_out) = self.0.denials.admit(&entry.actor, &denial, cx.now) else { return Ok(()) };
        entry.result = "denied".into();
        if left_out > 0 {
            entry = entry.fact("left_out_before", left_out);
        }
        self.store().begin().await?.commit(&[entry]).await?;
        Ok(())
    }

    /// Counts a key that nobody has. Some: too many came from there, and this is what to say instead.
    pub(crate) fn guessed(&self, peer: Option<IpAddr>, now: Time) -> Option<Error> {
        let mut attempts = self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let wait_s = attempts.wrong(peer?, now)?;
        let detail = format!("too many keys that do not work came from your address; wait {wait_s} seconds");
        Some(Problem::new(Code::Overloaded, detail).hint("look at the key you send: nobody has it").into())
    }

    /// Writes down that something was refused before anybody was known, within the bounds of all denials.
    pub(crate) async fn refusal_told(
        &self,
        cx: &Cx,
        organisation: Option<OrganisationId>,
        action: &str,
        object: &str,
        why: &str,
    ) -> Result<()> {
        self.metrics().count(Metric::Denials);
        let mut entry = cx.done(organisation, action, object).refused(why);
        entry.actor = Actor::Nobody.name();
        self.denial_written(cx, entry).await
    }

    /// Begins the one transaction of a use case. A request that was carried out before answers what it answered then; a
    /// key that was revoked while the request was on its way stops here.
    pub(crate) async fn begin(&self, cx: &Cx) -> Result<Tx> {
        let tx = self.store().begin().await?;
        let Actor::Key(key) = &cx.actor else { return Ok(tx) };
        if !tx.key_get(key.id).await?.is_some_and(|key| key.works_at(cx.now)) {
            return Err(Error::refused(Code::Unauthenticated, "this key does not work any more"));
        }
        let Some(claim) = &cx.claim else { return Ok(tx) };
        match tx.idempotency_get(key.id, &claim.key).await? {
            None => Ok(tx),
            Some(record) if record.request_digest == claim.digest => Err(Error::Replayed(Box::new(record))),
            Some(_) => Err(Error::refused(
                Code::IdempotencyMismatch,
                "the idempotency key came with another request before: a new request needs a new key",
            )),
        }
    }

    /// Ends a use case's transaction: keeps the answer for repetitions, leaves a message for whoever waits for such a
    /// change, and commits all of it with its audit entries.
    pub(crate) async fn finish(&self, cx: &Cx, tx: Tx, entries: &[AuditEntry], wake: Wake) -> Result<()> {
        if let Some(topic) = wake.topic() {
            tx.outbox_push(topic, &serde_json::json!({ "request": cx.request })).await?;
        }
        tx.commit(entries).await?;
        // The message survives a crash; the nudge makes it quick.
        if wake != Wake::Nobody {
            self.wakes().wake(wake);
            self.wakes().outbox.notify_one();
        }
        Ok(())
    }

    /// As [`Control::finish`], for what makes something: `answer` is what a repetition will get, without secrets.
    pub(crate) async fn finish_created(
        &self,
        cx: &Cx,
        tx: Tx,
        entries: &[AuditEntry],
        wake: Wake,
        answer: &impl serde::Serialize,
    ) -> Result<()> {
        if let (Some(claim), Actor::Key(key)) = (&cx.claim, &cx.actor) {
            let body = serde_json::to_string(answer).map_err(|error| Error::Broken(error.to_string()))?;
            let record = IdempotencyRecord {
                key_id: key.id,
                idem_key: claim.key.clone(),
                request_digest: claim.digest.clone(),
                status: 201,
                body,
                at: cx.now,
            };
            tx.idempotency_put(&record).await?;
        }
        self.finish(cx, tx, entries, wake).await
    }
}

/// What whoever asks is told of a denial that hides nothing: whose rule it is, and who can help.
fn forbidden(action: Action, noun: &str, verdict: &Verdict) -> Error {
    let (action, rule) = (action.as_str(), verdict.policies().first());
    let problem = match rule {
        Some(own) if own.contains(':') => Problem::new(
            Code::Forbidden,
            format!("the organisation's own policy `{own}` forbids `{action}` on this {noun}"),
        )
        .hint("ask an owner; `gregal policy explain` says what would have to change"),
        Some(part) if part.starts_with("key.scope.") => {
            Problem::new(Code::Forbidden, format!("this key's scope leaves out `{action}` on this {noun}"))
                .hint("`whoami` shows a key's scope; ask within it, naming the site or model, or with another key")
        }
        _ => Problem::new(Code::Forbidden, format!("this key's role does not carry `{action}` on this {noun}"))
            .hint("ask with a key of a role that carries it; `whoami` says what a key may do"),
    };
    match rule {
        Some(rule) => problem.rule(rule).into(),
        None => problem.into(),
    }
}
