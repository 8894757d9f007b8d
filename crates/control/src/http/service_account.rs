//! Service accounts over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    key::KeyCreated,
    page::{KeyList, ServiceAccountList},
    service_account::{ServiceAccountCreate, ServiceAccountKeyCreate, ServiceAccountView, ServiceAccountWrite},
};
use gregal_core::id::{OrganisationId, ServiceAccountId};

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id, Paged},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(organisation): Id<OrganisationId>,
    Body(wanted): Body<ServiceAccountCreate>,
) -> Result<Json<ServiceAccountView>> {
    Ok(Json(control.service_account_create(&cx, organisation, wanted).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(organisation): Id<OrganisationId>,
    Paged(page): Paged,
) -> Result<Json<ServiceAccountList>> {
    let listed = control.service_accounts_list(&cx, organisation, &page).await?;
    Ok(Json(ServiceAccountList { items: listed.items, next: listed.next }))
}

pub(crate) async fn read(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ServiceAccountId>,
) -> Result<Json<ServiceAccountView>> {
    Ok(Json(control.service_account_read(&cx, id).await?))
}

pub(crate) async fn write(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ServiceAccountId>,
    Body(wanted): Body<ServiceAccountWrite>,
) -> Result<Json<ServiceAccountView>> {
    Ok(Json(control.service_account_write(&cx, id, wanted).await?))
}

pub(crate) async fn remove(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ServiceAccountId>,
) -> Result<Json<ServiceAccountView>> {
    Ok(Json(control.service_account_remove(&cx, id).await?))
}

pub(crate) async fn key_create(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ServiceAccountId>,
    Body(wanted): Body<ServiceAccountKeyCreate>,
) -> Result<Json<KeyCreated>> {
    Ok(Json(control.service_account_key_create(&cx, id, wanted).await?))
}

pub(crate) async fn keys(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ServiceAccountId>,
    Paged(page): Paged,
) -> Result<Json<KeyList>> {
    let listed = control.service_account_keys_list(&cx, id, &page).await?;
    Ok(Json(KeyList { items: control.key_views(&listed.items).await?, next: listed.next }))
}
