//! Endpoints: served models, and the moves they may make.

use serde::{Deserialize, Serialize};

use crate::{
    id::{EndpointId, ModelId, OrganisationId, ProjectId, SiteId},
    time::Time,
};

/// Where an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Wanted; its site has not begun to load it.
    Pending,
    /// Loading the weights.
    Loading,
    /// Answers.
    Ready,
    /// Asked to stop; finishing what it began.
    Draining,
    /// Stopped for good.
    Stopped,
    /// Could not be brought to answer.
    Failed,
}

impl EndpointState {
    /// Whether it has ended for good.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// An endpoint's facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Who shares it.
    pub project: ProjectId,
    /// Where it answers.
    pub site: SiteId,
    /// The name requests carry as `model`, unique among the project's endpoints that have not ended.
    pub name: String,
    /// What it serves.
    pub model: ModelId,
    /// Where it stands.
    pub state: EndpointState,
    /// Why it stands there, for people; never content.
    pub message: Option<String>,
    /// When it was asked for.
    pub created_at: Time,
    /// When it answered first.
    pub ready_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

/// A move an endpoint may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "move", rename_all = "snake_case")]
pub enum EndpointMove {
    /// Pending: its site begins to load the weights.
    Load,
    /// Loading: it answers.
    Ready {
        /// Since when.
        at: Time,
    },
    /// Loading or ready: it was asked to stop, and finishes what it began.
    Drain,
    /// Draining (the site has proved the end), or pending (nothing ever ran): it has stopped.
    Stop,
    /// Not ended: it could not be brought to answer.
    Fail {
        /// Why, for people.
        why: String,
    },
    /// Ready: what served it is gone (a crash, a restart of the site) and it loads again.
    Reload,
}

impl EndpointMove {
    /// Its name, for messages and audit entries.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Ready { .. } => "ready",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Fail { .. } => "fail",
            Self::Reload => "reload",
        }
    }

    /// The state it leads to.
    pub const fn leads_to(&self) -> EndpointState {
        match self {
            Self::Load | Self::Reload => EndpointState::Loading,
            Self::Ready { .. } => EndpointState::Ready,
            Self::Drain => EndpointState::Draining,
            Self::Stop => EndpointState::Stopped,
            Self::Fail { .. } => EndpointState::Failed,
        }
    }
}

/// A move that an endpoint may not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {} endpoint does not move to {} by `{by}`", from.as_str(), to.as_str())]
pub struct IllegalMove {
    /// Where it stands.
    pub from: EndpointState,
    /// Where it would go.
    pub to: EndpointState,
    /// The move's name.
    pub by: &'static str,
}

impl Endpoint {
    /// The endpoint after a move, one version on; or that it may not make it.
    pub fn apply(&self, step: EndpointMove) -> Result<Self, IllegalMove> {
        use EndpointState::{Draining, Loading, Pending, Ready};
        let allowed = match step {
            EndpointMove::Load => self.state == Pending,
            EndpointMove::Ready { .. } => self.state == Loading,
            EndpointMove::Drain => matches!(self.state, Loading | Ready),
            EndpointMove::Stop => matches!(self.state, Draining | Pending),
            EndpointMove::Fail { .. } => !self.state.is_final(),
            EndpointMove::Reload => self.state == Ready,
        };
        if !allowed {
            return Err(IllegalMove { from: self.state, to: step.leads_to(), by: step.name() });
        }
        let mut after = Self { state: step.leads_to(), message: None, version: self.version + 1, ..self.clone() };
        match step {
            EndpointMove::Ready { at } => after.ready_at = self.ready_at.or(Some(at)),
            EndpointMove::Fail { why } => after.message = Some(why),
            EndpointMove::Load | EndpointMove::Drain | EndpointMove::Stop | EndpointMove::Reload => {}
        }
        Ok(after)
    }
}
