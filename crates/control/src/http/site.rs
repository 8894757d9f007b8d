//! Sites over HTTP: as a fact for tenants, and as the one who dials in.

use axum::{Json, extract::State};
use gregal_api::{
    page::{PageQuery, QuarantineList, SiteList},
    protocol::{SyncAnswer, SyncRequest, UsageBatch, UsageReceipt},
    site::{SiteCreate, SiteCreated, SiteView},
    usage::QuarantinedUsage,
};
use gregal_store::Quarantined;

use crate::{
    Control, Cx, Result,
    http::extract::{Asked, Body, Name, Paged, page_numbered},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Body(wanted): Body<SiteCreate>,
) -> Result<Json<SiteCreated>> {
    Ok(Json(control.site_create(&cx, wanted).await?))
}

pub(crate) async fn list(State(control): State<Control>, cx: Cx, Paged(page): Paged) -> Result<Json<SiteList>> {
    let listed = control.sites_list(&cx, &page).await?;
    Ok(Json(SiteList {
        items: listed.items.iter().map(|site| SiteView::at(site, cx.now)).collect(),
        next: listed.next,
    }))
}

pub(crate) async fn read(State(control): State<Control>, cx: Cx, Name(name): Name) -> Result<Json<SiteView>> {
    Ok(Json(SiteView::at(&control.site_read(&cx, &name).await?, cx.now)))
}

pub(crate) async fn quarantine(
    State(control): State<Control>,
    cx: Cx,
    Name(name): Name,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<QuarantineList>> {
    let page = page_numbered(query.after, query.limit)?;
    let listed = control.site_quarantine(&cx, &name, &page).await?;
    let shown =
        |kept: Quarantined| QuarantinedUsage { record: kept.event, reason: kept.reason, arrived_at: kept.arrived_at };
    Ok(Json(QuarantineList { items: listed.items.into_iter().map(shown).collect(), next: listed.next }))
}

pub(crate) async fn sync(
    State(control): State<Control>,
    cx: Cx,
    Body(asked): Body<SyncRequest>,
) -> Result<Json<SyncAnswer>> {
    Ok(Json(control.site_sync(&cx, asked).await?))
}

pub(crate) async fn usage(
    State(control): State<Control>,
    cx: Cx,
    Body(batch): Body<UsageBatch>,
) -> Result<Json<UsageReceipt>> {
    Ok(Json(control.site_usage(&cx, batch).await?))
}
