//! Endpoints over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    endpoint::{EndpointCreate, EndpointView},
    page::EndpointList,
};
use gregal_core::id::{EndpointId, ProjectId};

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id, Paged},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Body(wanted): Body<EndpointCreate>,
) -> Result<Json<EndpointView>> {
    Ok(Json(control.endpoint_create(&cx, project, wanted).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Paged(page): Paged,
) -> Result<Json<EndpointList>> {
    let listed = control.endpoints_list(&cx, project, &page).await?;
    Ok(Json(EndpointList { items: listed.items, next: listed.next }))
}

pub(crate) async fn read(State(control): State<Control>, cx: Cx, Id(id): Id<EndpointId>) -> Result<Json<EndpointView>> {
    Ok(Json(control.endpoint_read(&cx, id).await?))
}

pub(crate) async fn delete(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<EndpointId>,
) -> Result<Json<EndpointView>> {
    Ok(Json(control.endpoint_delete(&cx, id).await?))
}
