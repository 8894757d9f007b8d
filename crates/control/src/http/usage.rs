//! Usage over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    page::UsageList,
    usage::{UsageQuery, UsageSummary},
};
use gregal_core::id::OrganisationId;

use crate::{
    Control, Cx, Result,
    http::extract::{Asked, Id, page_numbered},
};

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Asked(query): Asked<UsageQuery>,
) -> Result<Json<UsageList>> {
    let page = page_numbered(query.after.clone(), query.limit)?;
    let listed = control.usage_list(&cx, id, &query, &page).await?;
    Ok(Json(UsageList {
        items: listed.items.into_iter().map(|stored| stored.event.into()).collect(),
        next: listed.next,
    }))
}

pub(crate) async fn summary(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Asked(query): Asked<UsageQuery>,
) -> Result<Json<UsageSummary>> {
    Ok(Json(control.usage_summary(&cx, id, &query).await?))
}
