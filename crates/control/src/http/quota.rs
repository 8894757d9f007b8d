//! Quotas over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    organisation::OrganisationView,
    page::QuotaList,
    quota::{QuotaView, QuotaWrite, ShareWrite},
};
use gregal_core::id::{OrganisationId, ProjectId};

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id, IdAndName},
};

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
) -> Result<Json<QuotaList>> {
    Ok(Json(QuotaList { items: control.quotas_list(&cx, id).await?, next: None }))
}

pub(crate) async fn write(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, sku): IdAndName<OrganisationId>,
    Body(wanted): Body<QuotaWrite>,
) -> Result<Json<QuotaView>> {
    Ok(Json(control.quota_write(&cx, id, &sku, &wanted).await?))
}

pub(crate) async fn remove(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, sku): IdAndName<OrganisationId>,
) -> Result<Json<QuotaView>> {
    Ok(Json(control.quota_remove(&cx, id, &sku).await?))
}

pub(crate) async fn project_list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ProjectId>,
) -> Result<Json<QuotaList>> {
    Ok(Json(QuotaList { items: control.project_quotas_list(&cx, id).await?, next: None }))
}

pub(crate) async fn project_write(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, sku): IdAndName<ProjectId>,
    Body(wanted): Body<QuotaWrite>,
) -> Result<Json<QuotaView>> {
    Ok(Json(control.project_quota_write(&cx, id, &sku, &wanted).await?))
}

pub(crate) async fn project_remove(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, sku): IdAndName<ProjectId>,
) -> Result<Json<QuotaView>> {
    Ok(Json(control.project_quota_remove(&cx, id, &sku).await?))
}

pub(crate) async fn share_write(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(wanted): Body<ShareWrite>,
) -> Result<Json<OrganisationView>> {
    Ok(Json(control.share_write(&cx, id, &wanted).await?))
}
