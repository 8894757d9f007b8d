//! Support accesses and operators' keys over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    access::{AccessRequest, AccessSetting, AccessView},
    catalogue::Empty,
    key::{KeyCreated, KeyView},
    operator_key::OperatorKeyCreate,
    page::{AccessList, KeyList},
};
use gregal_core::id::{AccessId, KeyId, OrganisationId};

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id, Paged},
};

pub(crate) async fn request(
    State(control): State<Control>,
    cx: Cx,
    Id(organisation): Id<OrganisationId>,
    Body(wanted): Body<AccessRequest>,
) -> Result<Json<AccessView>> {
    Ok(Json(control.access_request(&cx, organisation, wanted).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(organisation): Id<OrganisationId>,
    Paged(page): Paged,
) -> Result<Json<AccessList>> {
    let listed = control.accesses_list(&cx, organisation, &page).await?;
    let items = listed.items.iter().map(|access| AccessView::at(access, cx.now)).collect();
    Ok(Json(AccessList { items, next: listed.next }))
}

pub(crate) async fn approve(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<AccessId>,
    Body(Empty {}): Body<Empty>,
) -> Result<Json<AccessView>> {
    Ok(Json(control.access_approve(&cx, id).await?))
}

pub(crate) async fn consent(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<AccessId>,
    Body(Empty {}): Body<Empty>,
) -> Result<Json<AccessView>> {
    Ok(Json(control.access_consent(&cx, id).await?))
}

pub(crate) async fn end(State(control): State<Control>, cx: Cx, Id(id): Id<AccessId>) -> Result<Json<AccessView>> {
    Ok(Json(control.access_end(&cx, id).await?))
}

pub(crate) async fn setting_read(
    State(control): State<Control>,
    cx: Cx,
    Id(organisation): Id<OrganisationId>,
) -> Result<Json<AccessSetting>> {
    Ok(Json(control.access_setting_read(&cx, organisation).await?))
}

pub(crate) async fn setting_write(
    State(control): State<Control>,
    cx: Cx,
    Id(organisation): Id<OrganisationId>,
    Body(wanted): Body<AccessSetting>,
) -> Result<Json<AccessSetting>> {
    Ok(Json(control.access_setting_write(&cx, organisation, wanted).await?))
}

pub(crate) async fn operator_key_create(
    State(control): State<Control>,
    cx: Cx,
    Body(wanted): Body<OperatorKeyCreate>,
) -> Result<Json<KeyCreated>> {
    Ok(Json(control.operator_key_create(&cx, wanted).await?))
}

pub(crate) async fn operator_keys_list(
    State(control): State<Control>,
    cx: Cx,
    Paged(page): Paged,
) -> Result<Json<KeyList>> {
    let listed = control.operator_keys_list(&cx, &page).await?;
    Ok(Json(KeyList { items: listed.items.iter().map(Into::into).collect(), next: listed.next }))
}

pub(crate) async fn operator_key_revoke(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<KeyId>,
) -> Result<Json<KeyView>> {
    Ok(Json((&control.operator_key_revoke(&cx, id).await?).into()))
}
