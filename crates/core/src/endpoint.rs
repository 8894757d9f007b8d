//! Endpoints: served models, and the moves they may make.

use serde::{Deserialize, Serialize};

use crate::{
    id::{EndpointId, HoldId, ModelId, OrganisationId, ProjectId, SiteId},
    job::Billed,
    schedule::Promise,
    shared::SharedModel,
    time::Time,
};

/// Where an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Wanted: it waits for room at its site, or has it and its site has not begun to load it.
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
    /// What it serves. Nothing's number where it stands for a shared model.
    pub model: ModelId,
    /// The shared model it stands for: it takes no room, is held nothing for, and only its tokens are billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedModel>,
    /// The SKU it asks for: the room it takes while it stands. Empty for one asked for before endpoints took room.
    #[serde(default)]
    pub sku: String,
    /// The money set aside for the time it stands. None for one asked for before endpoints ran on a hold.
    #[serde(default)]
    pub hold: Option<HoldId>,
    /// How long it may stand ready on what was held so far, in milliseconds since it was placed; only grows.
    #[serde(default)]
    pub held_ms: u64,
    /// What it was billed of that.
    #[serde(default)]
    pub billed: Billed,
    /// When it was given room at its site, which it keeps until it has ended. None while it waits for room.
    #[serde(default)]
    pub placed_at: Option<Time>,
    /// While it waits for room: the start it is promised.
    #[serde(default)]
    pub promised: Option<Promise>,
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
    /// Pending without room: it is given room at its site.
    Place {
        /// When.
        at: Time,
    },
    /// Pending without room: it goes on waiting, for this reason.
    Wait {
        /// What it waits for, for people.
        why: String,
        /// The start it is promised.
        promise: Option<Promise>,
    },
    /// Pending with room: its site begins to load the weights.
    Load,
    /// Loading: it answers.
    Ready {
        /// Since when.
        at: Time,
    },
    /// Loading, ready, or pending with room: it is to stop, and finishes what it began.
    Drain {
        /// Why, for people, if nobody asked for it.
        why: Option<String>,
    },
    /// Draining (the site has proved the end), or pending without room (nothing ever ran): it has stopped.
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
            Self::Place { .. } => "place",
            Self::Wait { .. } => "wait",
            Self::Load => "load",
            Self::Ready { .. } => "ready",
            Self::Drain { .. } => "drain",
            Self::Stop => "stop",
            Self::Fail { .. } => "fail",
            Self::Reload => "reload",
        }
    }

    /// The state it leads to.
    pub const fn leads_to(&self) -> EndpointState {
        match self {
            Self::Place { .. } | Self::Wait { .. } => EndpointState::Pending,
            Self::Load | Self::Reload => EndpointState::Loading,
            Self::Ready { .. } => EndpointState::Ready,
            Self::Drain { .. } => EndpointState::Draining,
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
    /// Whether it takes room at its site: it was given some, and its site has not proved the end.
    pub const fn takes_room(&self) -> bool {
        self.placed_at.is_some() && self.shared.is_none() && !self.state.is_final()
    }

    /// Whether its site is to know of it: once it has room, and in any case once something of it may run there.
    pub const fn is_for_site(&self) -> bool {
        self.placed_at.is_some() || !matches!(self.state, EndpointState::Pending)
    }

    /// The endpoint after a move, one version on; or that it may not make it.
    pub fn apply(&self, step: EndpointMove) -> Result<Self, IllegalMove> {
        if !self.allows(&step) {
            return Err(IllegalMove { from: self.state, to: step.leads_to(), by: step.name() });
        }
        let mut after = Self { state: step.leads_to(), message: None, version: self.version + 1, ..self.clone() };
        match step {
            EndpointMove::Place { at } => {
                after.placed_at = Some(at);
                after.promised = None;
            }
            EndpointMove::Wait { why, promise } => {
                after.message = Some(why);
                after.promised = promise;
            }
            EndpointMove::Ready { at } => after.ready_at = self.ready_at.or(Some(at)),
            EndpointMove::Drain { why } => after.message = why,
            EndpointMove::Fail { why } => {
                after.message = Some(why);
                after.promised = None;
            }
            EndpointMove::Stop => {
                // Why it drained is why it has stopped; why it waited is over.
                after.message = self.message.clone().filter(|_| self.state == EndpointState::Draining);
                after.promised = None;
            }
            EndpointMove::Load | EndpointMove::Reload => {}
        }
        Ok(after)
    }

    fn allows(&self, step: &EndpointMove) -> bool {
        use EndpointState::{Draining, Loading, Pending, Ready};
        let has_room = self.placed_at.is_some();
        match step {
            EndpointMove::Place { .. } | EndpointMove::Wait { .. } => self.state == Pending && !has_room,
            EndpointMove::Load => self.state == Pending && has_room,
            EndpointMove::Ready { .. } => self.state == Loading,
            EndpointMove::Drain { .. } => matches!(self.state, Loading | Ready) || (self.state == Pending && has_room),
            EndpointMove::Stop => self.state == Draining || (self.state == Pending && !has_room),
            EndpointMove::Fail { .. } => !self.state.is_final(),
            EndpointMove::Reload => self.state == Ready,
        }
    }
}
