//! The audit log over HTTP.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::header,
    response::IntoResponse,
};
use gregal_api::audit::{AuditConsistency, AuditList, AuditQuery, ConsistencyQuery};
use gregal_core::{id::OrganisationId, merkle::Tile};

use crate::{
    Control, Cx, Result,
    app::audit::no_such_tile,
    http::extract::{Asked, Id, limit},
};

/// What is full never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<AuditList>> {
    Ok(Json(control.audit_list(&cx, id, query.after, limit(query.limit)?, query.at).await?))
}

pub(crate) async fn list_all(
    State(control): State<Control>,
    cx: Cx,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<AuditList>> {
    Ok(Json(control.audit_list_all(&cx, query.after, limit(query.limit)?, query.at).await?))
}

pub(crate) async fn checkpoint(State(control): State<Control>) -> Result<String> {
    control.audit_checkpoint().await
}

pub(crate) async fn consistency(
    State(control): State<Control>,
    Asked(query): Asked<ConsistencyQuery>,
) -> Result<Json<AuditConsistency>> {
    Ok(Json(control.audit_consistency(query.old, query.new).await?))
}

pub(crate) async fn tile(
    State(control): State<Control>,
    path: std::result::Result<Path<(String, String)>, PathRejection>,
) -> Result<impl IntoResponse> {
    let Path((level, rest)) = path.map_err(|_| no_such_tile())?;
    let tile = Tile::from_path(&level, &rest).ok_or_else(no_such_tile)?;
    // Everyone may read it, so any cache may keep it.
    let kept = if tile.is_full() { FOR_EVER } else { "no-store" };
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, kept)];
    Ok((headers, control.audit_tile(&tile).await?))
}

pub(crate) async fn entries(
    State(control): State<Control>,
    cx: Cx,
    path: std::result::Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse> {
    let tile = path.ok().and_then(|Path(rest)| Tile::from_path("0", &rest));
    let bundle = control.audit_entries(&cx, tile).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bundle))
}
