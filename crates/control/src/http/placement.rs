//! Placement over HTTP.

use axum::{Json, extract::State};
use gregal_api::placement::{PlacementAnswer, PlacementAsk};
use gregal_core::id::ProjectId;

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id},
};

pub(crate) async fn explain(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Body(asked): Body<PlacementAsk>,
) -> Result<Json<PlacementAnswer>> {
    Ok(Json(control.placement_explain(&cx, project, &asked).await?))
}
