//! Jobs on the wire.

use gregal_core::{
    id::{JobId, ModelId, ProjectId, ReservationId, SiteId},
    job::{Heldout, Job, JobEnd, JobState, Program, Progress},
    schedule::{Amounts, Decision, Room},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Submits a job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobCreate {
    /// What people call it: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter.
    pub name: String,
    /// What it does: `{"kind":"train","dataset":...,"model_name":...}` or `{"kind":"command","argv":[...]}`.
    #[schema(value_type = Object)]
    pub program: Program,
    /// The SKU it asks for.
    #[schema(example = "cpu.1")]
    pub sku: String,
    /// The longest it may run, in seconds; what it may cost at most is held for this long. 1 to 2,592,000.
    pub seconds_max: u32,
    /// The site it should run at, by id or name; absent: where its data is.
    #[serde(default)]
    pub site: Option<String>,
    /// 0 to 9, higher goes first; absent: 4, or the highest the organisation may ask for if that is lower. Above what its
    /// organisation may ask for (4, unless the operator granted more) it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Whether it can save its work when it is told to stop (SIGTERM), and may be stopped for others: it waits then and goes
    /// on where it was. Absent: trainings may, commands may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemptible: Option<bool>,
    /// The reservation it runs in: nowhere else, and at no further price. It saves its work and ends when that ends. Absent: it
    /// runs where there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reservation: Option<ReservationId>,
}

/// Stops a job for others.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobPreempt {
    /// Why, 1 to 200 characters; its owner reads it, so name nobody else.
    #[schema(example = "the machine is taken out for repair")]
    pub why: String,
}

/// What became of a job that was stopped for others: facts for whoever runs the cloud, nothing of what its owner does.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobPreempted {
    /// The job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// Where it stands: `stopping` until its site has proved the end, then `queued`. Any other state: it holds no room, or is
    /// giving it back already, and nothing was changed.
    #[schema(value_type = String)]
    pub state: JobState,
    /// Where it runs, or must run.
    #[schema(value_type = Option<String>)]
    pub site: Option<SiteId>,
    /// How often it was stopped for others before.
    pub stops: u32,
}

impl From<&Job> for JobPreempted {
    fn from(job: &Job) -> Self {
        Self { job: job.id, state: job.state, site: job.site, stops: job.stops }
    }
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// The project that shares it.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// What people call it.
    pub name: String,
    /// What it does.
    #[schema(value_type = Object)]
    pub program: Program,
    /// The SKU it asked for.
    pub sku: String,
    /// The longest it may run, in seconds.
    pub seconds_max: u32,
    /// 0 to 9; higher goes first.
    #[serde(default = "gregal_core::job::priority_default")]
    pub priority: u8,
    /// Whether it may be stopped for others; it waits then and goes on where it was.
    #[serde(default)]
    pub preemptible: bool,
    /// How often it was stopped for others.
    #[serde(default)]
    pub stops: u32,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: JobState,
    /// Why it waits, or is being stopped for others.
    pub waits_for: Option<String>,
    /// When it starts at the latest, if what runs ends at its limit; absent: not promised.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub starts_by: Option<Time>,
    /// Where it runs, or must run.
    #[schema(value_type = Option<String>)]
    pub site: Option<SiteId>,
    /// The reservation it runs in, which has paid for its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reservation: Option<ReservationId>,
    /// How often it was started.
    pub attempt: u32,
    /// The newest progress.
    pub progress: Option<ProgressView>,
    /// Held-out result of a training.
    #[schema(value_type = Option<Object>)]
    pub heldout: Option<Heldout>,
    /// How it ended.
    #[schema(value_type = Option<Object>)]
    pub end: Option<JobEnd>,
    /// The model it made.
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelId>,
    /// When it was submitted.
    #[schema(value_type = String)]
    pub created_at: Time,
    /// When it was ready first.
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Time>,
}

impl From<&Job> for JobView {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id,
            project: job.project,
            name: job.name.clone(),
            program: job.program.clone(),
            sku: job.sku.clone(),
            seconds_max: job.seconds_max,
            priority: job.priority,
            preemptible: job.preemptible,
            stops: job.stops,
            state: job.state,
            waits_for: job.waits_for.clone().or_else(|| job.stopped_for.clone().filter(|_| job.state.is_bound())),
            starts_by: job.promised.map(|promise| promise.at),
            site: job.site,
            reservation: job.reservation,
            attempt: job.attempt,
            progress: job.progress.map(Into::into),
            heldout: job.heldout,
            end: job.end.clone(),
            model: job.model,
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
        }
    }
}

/// Which of a job's decisions is to be explained.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// The number of the scheduling pass; absent: the newest that said something new of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<u64>,
}

/// Why a job stands where it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobExplanation {
    /// The job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: JobState,
    /// Its place in the queue, 1 being looked at first; only while it waits.
    pub position: Option<u32>,
    /// How many jobs wait in all, of everybody; only while it waits.
    pub queued: Option<u32>,
    /// Why it waits.
    pub waits_for: Option<String>,
    /// What the scheduler said of it where it said something new, the newest first, at most 100.
    pub history: Vec<DecisionView>,
    /// One of those decisions, made again from the record.
    pub replay: Option<ReplayView>,
}

/// What the scheduler said of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    /// The number of the scheduling pass.
    pub pass: u64,
    /// When the pass was made.
    #[schema(value_type = String)]
    pub at: Time,
    /// `start`, `wait`, `never`, or `stop` to make room for another.
    pub decision: String,
    /// Where it starts.
    #[schema(value_type = Option<String>)]
    pub site: Option<SiteId>,
    /// Why it does not start.
    pub reason: Option<String>,
}

impl DecisionView {
    /// What a pass said.
    pub fn new(pass: u64, at: Time, decision: &Decision) -> Self {
        let (word, site, reason) = match decision {
            Decision::Start { site, .. } => ("start", Some(*site), None),
            Decision::Wait { reason, .. } => ("wait", None, Some(reason.clone())),
            Decision::Never { reason, .. } => ("never", None, Some(reason.clone())),
            Decision::Stop { reason, .. } => ("stop", None, Some(reason.clone())),
        };
        Self { pass, at, decision: word.into(), site, reason }
    }
}

/// A decision made again from its recorded inputs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReplayView {
    /// By which version of the rules.
    pub rules: u32,
    /// Today's version of the rules.
    pub rules_now: u32,
    /// SHA-256 of all the pass looked at: the audit entries of its decisions carry the same.
    pub inputs_digest: String,
    /// What is decided of the job now, from those inputs.
    pub decision: DecisionView,
    /// Whether every decision of the pass comes out as it did then.
    pub same: bool,
    /// What the job asked for, and what was free where it may run.
    pub asked: AskedView,
    /// The sites it might have run at.
    pub sites: Vec<RoomView>,
}

/// What a job asks of a site.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AskedView {
    /// Thousandths of CPU cores.
    pub cpus_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Accelerators.
    pub gpus: u32,
    /// Their model, if only one will do.
    pub gpu_model: Option<String>,
}

/// What was free at a site, of how much.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RoomView {
    /// The site's name.
    pub site: String,
    /// Whether it answered.
    pub alive: bool,
    /// Free thousandths of CPU cores.
    pub cpus_milli_free: u32,
    /// All of them.
    pub cpus_milli_total: u32,
    /// Free bytes of memory.
    pub memory_bytes_free: u64,
    /// All of them.
    pub memory_bytes_total: u64,
    /// Free accelerators.
    pub gpus_free: u32,
    /// All of them.
    pub gpus_total: u32,
}

impl From<&Room> for RoomView {
    fn from(room: &Room) -> Self {
        let (all, taken): (Amounts, Amounts) = (room.all(), room.taken());
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let broken: usize = room.nodes.iter().map(|node| node.gpus_broken.len()).sum();
        Self {
            site: room.name.clone(),
            alive: room.alive,
            cpus_milli_free: count(all.cpus_milli.saturating_sub(taken.cpus_milli)),
            cpus_milli_total: count(all.cpus_milli),
            memory_bytes_free: all.memory_bytes.saturating_sub(taken.memory_bytes),
            memory_bytes_total: all.memory_bytes,
            gpus_free: count(all.gpus.saturating_sub(taken.gpus + broken as u64)),
            gpus_total: count(all.gpus),
        }
    }
}

/// One point of a job's progress.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// Steps done.
    pub step: u64,
    /// Steps planned.
    pub steps: u64,
    /// Loss at this step.
    pub loss: f64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Tokens a second, lately.
    pub tokens_per_s: f64,
    /// Milliseconds since the job was ready.
    pub elapsed_ms: u64,
    /// Energy so far, in millijoules.
    pub energy_mj: u64,
}

impl From<Progress> for ProgressView {
    fn from(progress: Progress) -> Self {
        Self {
            step: progress.step,
            steps: progress.steps,
            loss: progress.loss,
            tokens: progress.tokens,
            tokens_per_s: progress.tokens_per_s,
            elapsed_ms: progress.elapsed_ms,
            energy_mj: progress.energy_mj,
        }
    }
}
