//! Jobs: work that runs to completion, and the moves it may make.

use serde::{Deserialize, Serialize};

use crate::{
    id::{DatasetId, HoldId, JobId, KeyId, ModelId, OrganisationId, ProjectId, ReservationId, SiteId},
    schedule::{Cause, Promise},
    time::Time,
};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Admitted, money held, waiting for room.
    Queued,
    /// Bound to a site that has not said it is ready yet. Not billed.
    Starting,
    /// Ready and billed.
    Running,
    /// Told to save its work and make room for others; the site has not proved the end yet. It waits again after that.
    Stopping,
    /// Asked to stop; the site has not proved the end yet.
    Cancelling,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended because it was asked to.
    Cancelled,
}

impl JobState {
    /// Every state in which a job is bound to a site and holds its room there.
    pub const BOUND: [Self; 4] = [Self::Starting, Self::Running, Self::Stopping, Self::Cancelling];
    /// Every state of a job that has not ended.
    pub const NOT_ENDED: [Self; 5] = [Self::Queued, Self::Starting, Self::Running, Self::Stopping, Self::Cancelling];

    /// Whether it is bound to a site and holds its room there.
    pub const fn is_bound(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping | Self::Cancelling)
    }

    /// Whether it has ended for good.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Program {
    /// Trains or fine-tunes a model with the embedded engine.
    Train {
        /// What to learn from.
        dataset: DatasetId,
        /// Questions asked after training and never trained on.
        #[serde(default)]
        heldout: Option<DatasetId>,
        /// A dataset that holds a GGUF file to fine-tune; none starts from nothing.
        #[serde(default)]
        base_model: Option<DatasetId>,
        /// Name of the model that comes out.
        model_name: String,
        /// Settings of the training, as the embedded engine documents them; absent ones take its defaults.
        #[serde(default)]
        settings: serde_json::Map<String, serde_json::Value>,
    },
    /// Runs a command in the sandbox.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Datasets mounted read-only under `/gregal/input/ID`.
        #[serde(default)]
        inputs: Vec<DatasetId>,
        /// Whether it may reach the network; needs the site's consent.
        #[serde(default)]
        network: bool,
    },
}

impl Program {
    /// Whether it may be stopped for others where its owner does not say: a training saves its work when it is told to stop,
    /// of a command nobody knows whether it does.
    pub const fn preemptible_unless_told(&self) -> bool {
        matches!(self, Self::Train { .. })
    }
}

/// The highest priority there is; 0 is the lowest.
pub const PRIORITY_MAX: u8 = 9;
/// The priority of a job that asks for none: in the middle, so that work which can wait has somewhere to go, and work an
/// operator lets pass others too.
pub const PRIORITY_DEFAULT: u8 = 4;

/// The priority where none is written: of a row, or an answer, from before there were any.
pub const fn priority_default() -> u8 {
    PRIORITY_DEFAULT
}

/// What the site says a running job has done so far. Numbers only: logs are content and stay at the site.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
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

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// The exit code, if it exited by itself.
    pub code: Option<i32>,
    /// One of `finished`, `failed`, `timed_out`, `out_of_memory`, `stopped`, `lost`, `never_started`.
    pub reason: String,
    /// What a tenant can do about it; never content.
    pub hint: Option<String>,
}

/// Held-out questions asked after training, and how many answers were exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heldout {
    /// Questions asked.
    pub asked: u64,
    /// Answers equal to the expected text.
    pub exact: u64,
}

/// What a job's attempts were billed together. A later attempt goes on from here: no attempt has a count of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billed {
    /// How long they ran ready, in milliseconds.
    pub ms: u64,
    /// Up to when; none while nothing was billed.
    pub until: Option<Time>,
    /// Energy of that time, in millijoules.
    pub energy_mj: u64,
}

/// A job's facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Who shares it.
    pub project: ProjectId,
    /// The key that submitted it.
    pub submitted_by: KeyId,
    /// What people call it.
    pub name: String,
    /// What it does.
    pub program: Program,
    /// The SKU it asks for.
    pub sku: String,
    /// The longest it may run, in seconds.
    pub seconds_max: u32,
    /// 0 to [`PRIORITY_MAX`]; higher goes first.
    #[serde(default = "priority_default")]
    pub priority: u8,
    /// Whether it can save its work and be stopped for others. Of a job from before this was asked: no.
    #[serde(default)]
    pub preemptible: bool,
    /// How often it was stopped for others.
    #[serde(default)]
    pub stops: u32,
    /// What it was stopped for last, in words its owner may read; none before, and none once it is bound again.
    #[serde(default)]
    pub stopped_for: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// Why it waits, in words a tenant can act on; none when it does not.
    pub waits_for: Option<String>,
    /// Why it waits, as far as its owner would act on it: while this stays and the promise stays, `waits_for` keeps the words
    /// of when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_causes: Vec<Cause>,
    /// While it waits: the start it is promised, if runs end at their limits.
    #[serde(default)]
    pub promised: Option<Promise>,
    /// The site it is bound to, or must run at because its data is there.
    pub site: Option<SiteId>,
    /// How often it was bound: the fencing number of the newest attempt. 0 while never bound.
    pub attempt: u32,
    /// The money set aside for it.
    pub hold: HoldId,
    /// The reservation it runs in, which has paid for its time. None: it runs where there is room, and pays by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<ReservationId>,
    /// When it was told last to stop, for others or for good.
    #[serde(default)]
    pub told_at: Option<Time>,
    /// When it was stopped for others last: since then it waits anew.
    #[serde(default)]
    pub stopped_at: Option<Time>,
    /// When the newest attempt was ready, if it was.
    #[serde(default)]
    pub ready_at: Option<Time>,
    /// What its attempts before the newest were billed.
    #[serde(default)]
    pub billed: Billed,
    /// The newest progress.
    pub progress: Option<Progress>,
    /// Held-out result of a training.
    pub heldout: Option<Heldout>,
    /// How it ended.
    pub end: Option<JobEnd>,
    /// The model it made.
    pub model: Option<ModelId>,
    /// When it was submitted.
    pub created_at: Time,
    /// When it was ready first.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

/// A move a job may make. Whoever asks for one has seen the job's version; the store refuses a stale one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "move", rename_all = "snake_case")]
pub enum JobMove {
    /// Queued: it is given to a site. A new attempt begins, and with it a new fencing number.
    Bind {
        /// Which site.
        site: SiteId,
    },
    /// Starting: the site says it is ready. From here on it is billed.
    Ready {
        /// When it was.
        at: Time,
    },
    /// Starting or running: it is told to save its work and make room. The site has to prove the end; then it waits again.
    Preempt {
        /// For what, for people; never another tenant's names.
        why: String,
    },
    /// Starting or running: its attempt is lost (and its lease has run out); it waits again. Stopping: its end is proved,
    /// however it came; that is one stop more.
    Requeue {
        /// What happened, for people.
        why: String,
        /// When it was.
        at: Time,
    },
    /// Queued: it goes on waiting, for this reason.
    Wait {
        /// What it waits for, for people.
        why: String,
        /// The same, for comparing.
        causes: Vec<Cause>,
        /// The start it is promised.
        promise: Option<Promise>,
    },
    /// Starting, running or stopping: it was asked to stop, and the site has to prove the end. A queued job runs nowhere, so there
    /// is nothing to prove: end it as cancelled.
    AskCancel,
    /// It ended.
    End {
        /// How.
        end: JobEnd,
        /// As what: a final state.
        state: JobState,
        /// When.
        at: Time,
    },
}

impl JobMove {
    /// Its name, for messages and audit entries.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Ready { .. } => "ready",
            Self::Preempt { .. } => "preempt",
            Self::Requeue { .. } => "requeue",
            Self::Wait { .. } => "wait",
            Self::AskCancel => "ask_cancel",
            Self::End { .. } => "end",
        }
    }

    /// The state it leads to.
    pub const fn leads_to(&self) -> JobState {
        match self {
            Self::Bind { .. } => JobState::Starting,
            Self::Ready { .. } => JobState::Running,
            Self::Preempt { .. } => JobState::Stopping,
            Self::Requeue { .. } | Self::Wait { .. } => JobState::Queued,
            Self::AskCancel => JobState::Cancelling,
            Self::End { state, .. } => *state,
        }
    }
}

/// A move that a job may not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {} job does not move to {} by `{by}`: {why}", from.as_str(), to.as_str())]
pub struct IllegalMove {
    /// Where it stands.
    pub from: JobState,
    /// Where it would go.
    pub to: JobState,
    /// The move's name.
    pub by: &'static str,
    /// Which rule is against it.
    pub why: &'static str,
}

impl Job {
    /// How often a job may be bound before it is given up. Attempts that were stopped for others do not count: that was not
    /// its fault.
    pub const ATTEMPTS_MAX: u32 = 3;

    /// Whether an observation of some attempt speaks of this job as it stands: older attempts are fenced off, and nothing
    /// is observed of a job that waits or has ended.
    pub const fn accepts(&self, attempt: u32) -> bool {
        self.state.is_bound() && attempt == self.attempt
    }

    /// Whether it may be bound once more after its attempt was lost.
    pub const fn may_retry(&self) -> bool {
        self.attempt < Self::ATTEMPTS_MAX.saturating_add(self.stops)
    }

    /// The job after a move, one version on; or the rule that is against it.
    pub fn apply(&self, step: JobMove) -> Result<Self, IllegalMove> {
        self.allows(&step)?;
        let mut job = Self { state: step.leads_to(), version: self.version + 1, ..self.clone() };
        match step {
            JobMove::Bind { site } => {
                job.site = Some(site);
                job.attempt += 1;
                job.waits_for = None;
                job.waits_causes = Vec::new();
                job.promised = None;
                job.stopped_for = None;
                job.ready_at = None;
            }
            JobMove::Preempt { why } => job.stopped_for = Some(why),
            JobMove::Ready { at } => {
                job.started_at = self.started_at.or(Some(at));
                job.ready_at = Some(at);
            }
            // The site stays: its data, and the checkpoints it resumes from, are there.
            JobMove::Requeue { why, at } => {
                job.waits_for = Some(why);
                job.waits_causes = Vec::new();
                if self.state == JobState::Stopping {
                    job.stops = self.stops.saturating_add(1);
                    job.stopped_at = Some(at);
                }
            }
            JobMove::Wait { why, causes, promise } => {
                job.waits_for = Some(why);
                job.waits_causes = causes;
                job.promised = promise;
            }
            JobMove::AskCancel => {}
            JobMove::End { end, at, .. } => {
                job.end = Some(end);
                job.ended_at = Some(at);
                job.waits_for = None;
                job.waits_causes = Vec::new();
                job.promised = None;
            }
        }
        Ok(job)
    }

    fn allows(&self, step: &JobMove) -> Result<(), IllegalMove> {
        use JobState::{Cancelled, Cancelling, Failed, Queued, Running, Starting, Stopping, Succeeded};
        let why = match (self.state, step) {
            (Succeeded | Failed | Cancelled, _) => "it has ended",
            (_, JobMove::End { state, .. }) if !state.is_final() => "that is no end",
            (Queued, JobMove::Bind { .. }) | (Starting | Running, JobMove::Requeue { .. }) if !self.may_retry() => {
                "it has had its attempts"
            }
            (Queued, JobMove::Bind { site }) if self.site.is_some_and(|pinned| pinned != *site) => {
                "its data is at another site"
            }
            (Queued | Starting, JobMove::End { state: Succeeded, .. }) => "it was never ready",
            (Starting | Running | Stopping, JobMove::End { state: Cancelled, .. }) => "it was not asked to stop",
            (Queued, JobMove::Bind { .. } | JobMove::Wait { .. })
            | (Starting, JobMove::Ready { .. })
            | (Starting | Running, JobMove::Preempt { .. })
            | (Starting | Running | Stopping, JobMove::Requeue { .. } | JobMove::AskCancel)
            | (Queued | Starting | Running | Stopping | Cancelling, JobMove::End { .. }) => return Ok(()),
            (Queued, _) => "it runs nowhere",
            (Cancelling, _) => "it was asked to stop",
            (Stopping, _) => "it is making room for others",
            (Starting | Running, JobMove::Bind { .. }) => "it is bound already",
            (Starting | Running, _) => "it waits no more",
        };
        Err(IllegalMove { from: self.state, to: step.leads_to(), by: step.name(), why })
    }
}
