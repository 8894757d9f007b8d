//! The audit log over HTTP.

use axum::{Json, extract::State};
use gregal_api::audit::{AuditList, AuditQuery};
use gregal_core::id::OrganisationId;

use crate::{
    Control, Cx, Result,
    http::extract::{Asked, Id, limit},
};

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<AuditList>> {
    Ok(Json(control.audit_list(&cx, id, query.after, limit(query.limit)?).await?))
}

pub(crate) async fn list_all(
    State(control): State<Control>,
    cx: Cx,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<AuditList>> {
    Ok(Json(control.audit_list_all(&cx, query.after, limit(query.limit)?).await?))
}

pub(crate) async fn checkpoint(State(control): State<Control>) -> Result<String> {
    control.audit_checkpoint().await
}
