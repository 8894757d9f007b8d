//! Grants over HTTP.

use axum::{Json, extract::State};
use gregal_api::grant::{GrantCreate, GrantCreated};
use gregal_core::id::ProjectId;

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Body(wanted): Body<GrantCreate>,
) -> Result<Json<GrantCreated>> {
    Ok(Json(control.grant_create(&cx, project, wanted).await?))
}
