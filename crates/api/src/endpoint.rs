//! Endpoints on the wire.

use gregal_core::{
    endpoint::{Endpoint, EndpointState},
    id::{EndpointId, ModelId, ProjectId, SiteId},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Serves a model.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointCreate {
    /// What requests will carry as `model`: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter.
    pub name: String,
    /// What to serve: a model of the project's own. Either this or `shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelId>,
    /// A shared model that a site offers by the token, by its name there: nothing is started and only tokens are billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// The site to serve at, by id or name; absent: where the weights are, or the first lawful site that offers the shared model.
    #[serde(default)]
    pub site: Option<String>,
    /// The SKU it stands on, paid for the time it answers; absent: the smallest whose memory carries the weights.
    #[serde(default)]
    pub sku: Option<String>,
}

/// An endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EndpointView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: EndpointId,
    /// The project that shares it.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// Where it answers.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// What it serves; of no meaning where `shared` says it.
    #[schema(value_type = String)]
    pub model: ModelId,
    /// The shared model it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// The SKU it stands on: the room it takes at its site, and what the time it answers is priced as.
    #[serde(default)]
    pub sku: String,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: EndpointState,
    /// Why it stands there; while it is pending, what it waits for.
    pub message: Option<String>,
    /// The OpenAI-compatible base address, once its site has one: `.../v1`.
    pub base_url: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String)]
    pub created_at: Time,
    /// When it was given room at its site, which it keeps until it has ended.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub placed_at: Option<Time>,
    /// When it answered first.
    #[schema(value_type = Option<String>)]
    pub ready_at: Option<Time>,
    /// How long it may answer on the money held for it so far, in milliseconds since it was placed.
    #[serde(default)]
    pub held_ms: u64,
    /// How much of that was billed, in milliseconds.
    #[serde(default)]
    pub billed_ms: u64,
}

impl EndpointView {
    /// The endpoint, reached by way of its site's address.
    pub fn at(endpoint: &Endpoint, site_url: Option<&str>) -> Self {
        Self {
            id: endpoint.id,
            project: endpoint.project,
            site: endpoint.site,
            name: endpoint.name.clone(),
            model: endpoint.model,
            shared: endpoint.shared.as_ref().map(|shared| shared.name.clone()),
            sku: endpoint.sku.clone(),
            state: endpoint.state,
            message: endpoint.message.clone(),
            base_url: site_url.map(|url| format!("{url}/v1")),
            created_at: endpoint.created_at,
            placed_at: endpoint.placed_at,
            ready_at: endpoint.ready_at,
            held_ms: endpoint.held_ms,
            billed_ms: endpoint.billed.ms,
        }
    }
}
