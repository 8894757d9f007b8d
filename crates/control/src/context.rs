//! The control plane as a value, and `Cx`: who asks, when, and under which request. Every use case takes it first.

use std::sync::{Arc, Mutex, PoisonError};

use gregal_api::problem::{Code, Problem};
use gregal_core::{
    access::Action,
    audit::AuditEntry,
    id::{OrganisationId, RequestId},
    key::{self, Key},
    network::Network,
    price::PriceBook,
    residency::Jurisdiction,
    scope::Part,
    site::{Site, SiteOperator},
    support::{SUPPORT_S_MAX, SupportAccess},
    time::Time,
    world::World,
};
use gregal_policy::{Policies, Principal, Resource, Verdict};
use gregal_store::{IdempotencyRecord, Store, Tx};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::{
    Error, Result,
    app::{access, audit::Log},
    denials::Denials,
    founding,
    http::{self, peer::Peer},
    metrics::{Metric, Metrics},
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
    /// Who gets in, from where and for how long.
    pub access: AccessOptions,
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
    signer: Signer,
    metrics: Metrics,
    wakes: Wakes,
    denials: Denials,
    log: Log,
    passes: Passes,
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
            Self::Key(key) => key.id.to_string(),
            Self::Site(site) => site.id.to_string(),
            Self::System(task) => format!("system:{task}"),
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
    /// Looks that the asker may use now.
    pub(crate) accesses: Arc<Vec<SupportAccess>>,
    /// What permission was asked for and given, so that a route can be held to having asked for its own.
    granted: Arc<Mutex<Vec<Action>>>,
}

impl Cx {
    pub(crate) fn new(request: RequestId, now: Time, actor: Actor) -> Self {
        Self {
            request,
            now,
            actor,
            peer: Peer::default(),
            claim: None,
            accesses: Arc::default(),
            granted: Arc::default(),
        }
    }

    /// The key that asks; use cases that need one sit behind routes that need one.
    pub(crate) fn key(&self) -> Result<&Key> {
        match &self.actor {
            Actor::Key(key) => Ok(key),
            _ => Err(Error::refused(Code::Unauthenticated, "this needs a key: `Authorization: Bearer gk_...`")),
        }
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
            facts: serde_json::Map::new(),
        }
    }
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
        let signer = Signer::from_bytes(&founding::founded(&options).await?);
        let shared = Shared {
            options,
            policies,
            signer,
            metrics: Metrics::new(),
            wakes: Wakes::new(),
            denials: Denials::default(),
            log: Log::default(),
            passes: Passes::default(),
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
        Cx::new(RequestId::new(self.world()), self.now(), Actor::System(task))
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
                Err(forbidden(action, &noun, &verdict).into())
            }
        }
    }

    /// Asks the policies without consequences.
    pub(crate) fn verdict(&self, cx: &Cx, action: Action, resource: &Resource) -> Verdict {
        match &cx.actor {
            Actor::Key(key) => self.policies().authorize_within(&key.scope, &Principal::from(&**key), action, resource),
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
        let said = format!("{}\n{rule}", cx.actor.name());
        if let Some(left_out) = self.0.denials.admit(&said, cx.now) {
            let policies = [rule.to_owned()];
            let mut entry = cx.done(key.organisation, "key:use", key.id).by(&policies);
            entry.result = "denied".into();
            entry.reason = Some("forbidden".into());
            let entry = if left_out > 0 { entry.fact("left_out_before", left_out) } else { entry };
            self.store().begin().await?.commit(&[entry]).await?;
        }
        let mut problem = Problem::new(Code::Forbidden, "this key works only from the networks it was made for");
        problem.rule = Some(rule.to_owned());
        Err(problem.hint("ask from one of them, or with another key").into())
    }

    async fn denied(&self, cx: &Cx, action: Action, resource: &Resource, verdict: &Verdict) -> Result<()> {
        let said = format!("{}\n{}\n{}", cx.actor.name(), action.as_str(), resource.id);
        let Some(left_out) = self.0.denials.admit(&said, cx.now) else { return Ok(()) };
        // It belongs to the view of whoever knocked: the other organisation must not learn of it, nor fill up by it.
        let mut entry = cx.done(cx.actor.organisation(), action.as_str(), &resource.id).by(verdict.policies());
        entry.result = "denied".into();
        if let Verdict::Deny { reason, .. } = verdict {
            entry.reason = Some(reason.as_str().into());
        }
        if left_out > 0 {
            entry = entry.fact("left_out_before", left_out);
        }
        self.store().begin().await?.commit(&[entry]).await?;
        Ok(())
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

/// Why a key may not do what it may see.
fn forbidden(action: Action, noun: &str, verdict: &Verdict) -> Problem {
    let rule = verdict.policies().first().cloned();
    let is_scope = rule.as_deref().is_some_and(|rule| rule.starts_with("key.scope."));
    let (detail, hint) = if is_scope {
        let detail = format!("this key's scope leaves out `{}` on this {noun}", action.as_str());
        (detail, "`whoami` shows a key's scope; ask within it, naming the site or model, or with another key")
    } else {
        let detail = format!("this key's role does not carry `{}` on this {noun}", action.as_str());
        (detail, "ask with a key of a role that carries it; `whoami` says what a key may do")
    };
    let mut problem = Problem::new(Code::Forbidden, detail).hint(hint);
    problem.rule = rule;
    problem
}
