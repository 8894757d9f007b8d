//! Projects over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    page::ProjectList,
    project::{ProjectCreate, ProjectView},
};
use gregal_core::id::{OrganisationId, ProjectId};

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id, Paged},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(organisation): Id<OrganisationId>,
    Body(wanted): Body<ProjectCreate>,
) -> Result<Json<ProjectView>> {
    Ok(Json(control.project_create(&cx, organisation, wanted).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(organisation): Id<OrganisationId>,
    Paged(page): Paged,
) -> Result<Json<ProjectList>> {
    let listed = control.projects_list(&cx, organisation, &page).await?;
    Ok(Json(ProjectList { items: listed.items.iter().map(Into::into).collect(), next: listed.next }))
}

pub(crate) async fn read(State(control): State<Control>, cx: Cx, Id(id): Id<ProjectId>) -> Result<Json<ProjectView>> {
    Ok(Json((&control.project_read(&cx, id).await?).into()))
}
