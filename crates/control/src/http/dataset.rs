//! Datasets over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    dataset::{DatasetCreate, DatasetCreated, DatasetView},
    page::DatasetList,
};
use gregal_core::id::{DatasetId, ProjectId};

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id, Paged},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Body(wanted): Body<DatasetCreate>,
) -> Result<Json<DatasetCreated>> {
    Ok(Json(control.dataset_create(&cx, project, wanted).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Paged(page): Paged,
) -> Result<Json<DatasetList>> {
    let listed = control.datasets_list(&cx, project, &page).await?;
    Ok(Json(DatasetList { items: listed.items.iter().map(Into::into).collect(), next: listed.next }))
}

pub(crate) async fn read(State(control): State<Control>, cx: Cx, Id(id): Id<DatasetId>) -> Result<Json<DatasetView>> {
    Ok(Json((&control.dataset_read(&cx, id).await?).into()))
}

pub(crate) async fn delete(State(control): State<Control>, cx: Cx, Id(id): Id<DatasetId>) -> Result<Json<DatasetView>> {
    Ok(Json((&control.dataset_delete(&cx, id).await?).into()))
}
