//! Jobs on the wire.

use gregal_core::{
    id::{JobId, ModelId, ProjectId, SiteId},
    job::{Heldout, Job, JobEnd, JobState, Program, Progress},
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
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: JobState,
    /// Why it waits.
    pub waits_for: Option<String>,
    /// Where it runs, or must run.
    #[schema(value_type = Option<String>)]
    pub site: Option<SiteId>,
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
            state: job.state,
            waits_for: job.waits_for.clone(),
            site: job.site,
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
