//! What a site and the control plane say to each other. Sites dial out; control never dials in.
//!
//! A site sends what it *observes* and receives what is *wanted*: one signed [`Intent`], always whole, never a change to
//! an earlier one. Whatever is lost on the way is said again with the next sync. A site keeps its last intent on disk and
//! goes on serving and metering by it when control is away.

use gregal_core::{
    access::Role,
    id::{
        AllowanceId, DatasetId, EndpointId, JobId, KeyId, ModelId, OrganisationId, ProjectId, ServiceAccountId, SiteId,
    },
    job::{Billed, Heldout, JobEnd, Program, Progress},
    meter::UsageEvent,
    money::Nano,
    price::PriceBook,
    residency::ResidencyPolicy,
    scope::Scope,
    site::{Capacity, Site},
    sku::Sku,
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::signed::Signed;

/// Purpose that intents are signed for.
pub const INTENT_PURPOSE: &str = "gregal-intent-v1";
/// Most usage records in one batch.
pub const USAGE_BATCH_MAX: usize = 1_000;
/// Most progress points of one job in one sync.
pub const PROGRESS_POINTS_MAX: usize = 200;

/// What a site observes, and what it already knows.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// Which start of the site's process is talking: random, made at start.
    pub incarnation: String,
    /// Where tenants reach this site.
    pub url: String,
    /// Version of the site's program.
    pub code_version: String,
    /// What it has for rent.
    #[schema(value_type = Object)]
    pub capacity: Capacity,
    /// Revision of the intent it holds; control answers at once if it has a newer one, else waits up to `wait_ms`.
    pub intent_revision: u64,
    /// Whether the site wants the intent although it holds that revision: it lost its own count of what was used, and waits
    /// for control's.
    #[serde(default)]
    pub intent_again: bool,
    /// How long control may wait for news, in milliseconds; at most 10,000.
    pub wait_ms: u32,
    /// Every attempt the site knows and that has not been acknowledged as ended.
    #[schema(value_type = Vec<Object>)]
    pub attempts: Vec<ObservedAttempt>,
    /// Every replica the site runs or has just ended.
    #[schema(value_type = Vec<Object>)]
    pub replicas: Vec<ObservedReplica>,
    /// Datasets stored since the last acknowledged sync (repeat until acknowledged).
    #[schema(value_type = Vec<Object>)]
    pub datasets: Vec<ObservedDataset>,
    /// Datasets that the intent wants deleted and of which nothing is here any more: no bytes, and nobody who writes some.
    /// Said again until the intent names them no more.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub datasets_gone: Vec<DatasetId>,
    /// What has been used of each allowance, in total since it was granted.
    #[schema(value_type = Vec<Object>)]
    pub allowances: Vec<ObservedAllowance>,
    /// Keys that were used here, to the minute; repeated until a sync is answered. At most [`KEYS_USED_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub keys_used: Vec<KeyUsed>,
}

/// The most keys of which one sync says that they were used.
pub const KEYS_USED_MAX: usize = 500;

/// A key that was used at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsed {
    /// Which one.
    pub key: KeyId,
    /// When, to the minute.
    pub at: Time,
}

/// One attempt at a job, as the site sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedAttempt {
    /// Which job.
    pub job: JobId,
    /// The fencing number it was bound with.
    pub attempt: u32,
    /// Where it stands.
    pub phase: AttemptPhase,
    /// Progress points not yet acknowledged, oldest first.
    #[serde(default)]
    pub progress: Vec<Progress>,
}

/// Where an attempt stands at its site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a site knows few attempts at once; a box would only hide the facts")]
pub enum AttemptPhase {
    /// The sandbox is being made, data unpacked. Not billed.
    Starting,
    /// The program said it is ready, at this time. Billed from here.
    Running {
        /// When it was ready first.
        since: Time,
    },
    /// It ended, and every usage record of it has been handed over.
    Ended {
        /// When it was ready first, if ever.
        since: Option<Time>,
        /// When it ended.
        at: Time,
        /// How it ended.
        end: JobEnd,
        /// Whether it did what was asked.
        succeeded: bool,
        /// Whether it ended because it was asked to.
        cancelled: bool,
        /// What a training made.
        product: Option<ProducedModel>,
        /// Held-out result of a training.
        heldout: Option<Heldout>,
        /// What it was billed, attempts before it included.
        #[serde(default)]
        billed: Billed,
    },
}

/// A model that an attempt made, stored at the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducedModel {
    /// SHA-256 over its files, hex: the address it is stored under.
    pub digest: String,
    /// Size of its files.
    pub bytes: u64,
    /// Parameters.
    pub parameters: u64,
    /// Floating-point operations spent.
    pub flop: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Energy, in millijoules.
    pub energy_mj: u64,
    /// How the energy is known.
    pub energy_method: String,
    /// SHA-256 of the dataset it learned from, hex.
    pub dataset_digest: String,
    /// SHA-256 of the base model, hex.
    pub base_model_digest: Option<String>,
    /// Version of the program that trained it.
    pub code_version: String,
}

/// One served model, as the site sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedReplica {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// Where it stands.
    pub phase: ReplicaPhase,
    /// Why, for people; never content.
    pub message: Option<String>,
}

/// Where a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaPhase {
    /// Loading weights.
    Loading,
    /// Answers.
    Ready,
    /// Gone, as was wanted.
    Stopped,
    /// Keeps failing; the site has given up.
    Failed,
}

/// A dataset whose bytes have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedDataset {
    /// Which one.
    pub dataset: DatasetId,
    /// SHA-256 of its bytes, hex.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
}

/// What a site has used of an allowance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedAllowance {
    /// Which one.
    pub allowance: AllowanceId,
    /// Held or used so far, in total.
    pub used: Nano,
    /// Whether a request was lately refused, or nearly, for want of it.
    pub wants_more: bool,
}

/// What control answers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SyncAnswer {
    /// The site's id.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Key that intents, grants and checkpoints are signed with (Ed25519), hex.
    pub control_key: String,
    /// The newest intent, if newer than the one held.
    #[schema(value_type = Option<Object>)]
    pub intent: Option<Signed>,
    /// Until when control takes the site as alive.
    #[schema(value_type = String)]
    pub lease_until: Time,
    /// Attempts whose end is recorded: the site may forget them.
    #[schema(value_type = Vec<Object>)]
    pub attempts_ended: Vec<AttemptRef>,
    /// Datasets whose arrival is recorded.
    #[schema(value_type = Vec<String>)]
    pub datasets_stored: Vec<DatasetId>,
}

/// Names one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    /// Which job.
    pub job: JobId,
    /// Its fencing number.
    pub attempt: u32,
}

/// Everything a site should do and may believe. Signed; always whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Grows with every change.
    pub revision: u64,
    /// The site it is for.
    pub site: Site,
    /// When it was made.
    pub made_at: Time,
    /// Attempts that should be running. One that is absent should not.
    pub attempts: Vec<WantedAttempt>,
    /// Jobs that wait for another attempt here: what earlier ones left, checkpoints above all, is kept for it.
    #[serde(default)]
    pub jobs_kept: Vec<JobId>,
    /// Endpoints that should be answering. One that is absent should not.
    pub endpoints: Vec<WantedEndpoint>,
    /// Datasets that may be written or read here.
    pub datasets: Vec<WantedDataset>,
    /// Keys that may ask for inference here. Absent or expired ones may not.
    pub keys: Vec<SiteKey>,
    /// Keys that were revoked so lately that a grant of theirs could still be in time. Those grants are over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys_revoked: Vec<KeyId>,
    /// Organisations with content here, and their ceilings.
    pub organisations: Vec<SiteOrganisation>,
    /// Credit the site may serve against by itself.
    pub allowances: Vec<Allowance>,
    /// Every price book, so that the site can hold the worst case.
    pub price_books: Vec<PriceBook>,
}

/// An attempt that should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WantedAttempt {
    /// Which job.
    pub job: JobId,
    /// Its fencing number.
    pub attempt: u32,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Who shares it.
    pub project: ProjectId,
    /// What it does.
    pub program: Program,
    /// Digests of the datasets it names.
    pub inputs: Vec<(DatasetId, String)>,
    /// The shape it was sold.
    pub sku: Sku,
    /// The longest it may run and be billed, in seconds, all attempts together.
    pub seconds_max: u32,
    /// What attempts before it were billed.
    #[serde(default)]
    pub billed: Billed,
    /// True: it should end now, and say so.
    pub cancel: bool,
    /// True: it should save its work, end and say so. What it left is kept, for another attempt comes.
    #[serde(default)]
    pub preempt: bool,
    /// Of one that runs in a reservation: when it should save its work and end, whether or not control can be reached then.
    /// Its time is paid by the reservation, and counted on meters of its own that have no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_by: Option<Time>,
}

/// An endpoint that should answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedEndpoint {
    /// Which one.
    pub endpoint: EndpointId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Who shares it.
    pub project: ProjectId,
    /// What requests carry as `model`.
    pub name: String,
    /// What it serves.
    pub model: ModelId,
    /// Where the weights are stored.
    pub model_digest: String,
    /// What its tokens are priced as.
    pub price_item: String,
    /// The shared model that answers for it, by its name at the site; absent: a replica of its own does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// The shape it was sold: the room it takes, and what the time it answers is priced as. None stands in an intent from
    /// before endpoints ran on a hold; nothing runs then.
    #[serde(default)]
    pub sku: Option<Sku>,
    /// How long it may answer on what is held for it, in milliseconds since it was placed; only grows. The site stops it
    /// before that is over.
    #[serde(default)]
    pub held_ms: u64,
    /// What control has been told of that: what a site that lost its own count begins from. It grows with every record that
    /// arrives and makes no new intent by itself.
    #[serde(default)]
    pub billed: Billed,
    /// True: no new requests, finish the rest, then stop.
    pub drain: bool,
}

/// A dataset with leave to be here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedDataset {
    /// Which one.
    pub dataset: DatasetId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Who shares it.
    pub project: ProjectId,
    /// Its digest, once control knows it.
    pub digest: Option<String>,
    /// True: its bytes should be gone.
    pub delete: bool,
}

/// A key that may ask for inference at this site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteKey {
    /// Its id.
    pub key: KeyId,
    /// SHA-256 of its secret, hex.
    pub digest: String,
    /// What it may do.
    pub role: Role,
    /// Who pays.
    pub organisation: OrganisationId,
    /// The one project it is bound to; none reaches every project of the organisation.
    pub project: Option<ProjectId>,
    /// The service account it acts as, by which policies may name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ServiceAccountId>,
    /// What it is narrowed to.
    #[serde(default, skip_serializing_if = "Scope::is_open")]
    pub scope: Scope,
    /// When it stops working by itself.
    pub expires_at: Option<Time>,
}

/// An organisation with content at this site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteOrganisation {
    /// Which one.
    pub organisation: OrganisationId,
    /// Where its content may be.
    pub residency: ResidencyPolicy,
    /// What it wrote for itself: guardrails and permits, those of its projects among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<SitePolicy>,
}

/// A policy that an organisation wrote for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePolicy {
    /// The one project it speaks for; none speaks for the whole organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// What it is called.
    pub name: String,
    /// It in Cedar.
    pub text: String,
}

/// Credit leased to a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Its id.
    pub allowance: AllowanceId,
    /// Whose credit.
    pub organisation: OrganisationId,
    /// Granted in total since it was made; only grows.
    pub granted: Nano,
    /// Charged of it in total when this intent was signed: what a site that lost its own count begins from. It grows with
    /// every record that arrives and makes no new intent by itself.
    #[serde(default)]
    pub charged: Nano,
    /// When the site must stop serving against it.
    pub expires_at: Time,
}

/// Usage records on their way to control.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageBatch {
    /// At most 1,000 records.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<UsageEvent>,
}

/// What became of a batch. Every record of it is durable when this is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageReceipt {
    /// Counted now.
    pub accepted: u32,
    /// Counted before; nothing changed.
    pub duplicates: u32,
    /// Refused, with the reason; kept in quarantine, never counted.
    pub refused: Vec<UsageRefusal>,
}

/// A record that was not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageRefusal {
    /// The record's id.
    pub id: String,
    /// Why.
    pub reason: String,
}
