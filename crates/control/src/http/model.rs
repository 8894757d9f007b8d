//! Models over HTTP.

use axum::{Json, extract::State};
use gregal_api::{model::ModelView, page::ModelList};
use gregal_core::id::{ModelId, ProjectId};

use crate::{
    Control, Cx, Result,
    http::extract::{Id, Paged},
};

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Paged(page): Paged,
) -> Result<Json<ModelList>> {
    let listed = control.models_list(&cx, project, &page).await?;
    Ok(Json(ModelList { items: listed.items.iter().map(Into::into).collect(), next: listed.next }))
}

pub(crate) async fn read(State(control): State<Control>, cx: Cx, Id(id): Id<ModelId>) -> Result<Json<ModelView>> {
    Ok(Json((&control.model_read(&cx, id).await?).into()))
}
