//! Keys over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    key::{KeyCreate, KeyCreated, KeyRotate, KeyView, WhoAmI},
    page::KeyList,
};
use gregal_core::id::{KeyId, ProjectId};

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id, Paged},
};

pub(crate) async fn whoami(State(control): State<Control>, cx: Cx) -> Result<Json<WhoAmI>> {
    Ok(Json(control.whoami(&cx)?))
}

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Body(wanted): Body<KeyCreate>,
) -> Result<Json<KeyCreated>> {
    Ok(Json(control.key_create(&cx, project, wanted).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Paged(page): Paged,
) -> Result<Json<KeyList>> {
    let listed = control.keys_list(&cx, project, &page).await?;
    Ok(Json(KeyList { items: control.key_views(&listed.items).await?, next: listed.next }))
}

pub(crate) async fn rotate(
    State(control): State<Control>,
    cx: Cx,
    Id(key): Id<KeyId>,
    Body(wanted): Body<KeyRotate>,
) -> Result<Json<KeyCreated>> {
    Ok(Json(control.key_rotate(&cx, key, wanted).await?))
}

pub(crate) async fn revoke(State(control): State<Control>, cx: Cx, Id(id): Id<KeyId>) -> Result<Json<KeyView>> {
    Ok(Json((&control.key_revoke(&cx, id).await?).into()))
}
