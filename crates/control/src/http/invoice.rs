//! Invoices, balances and the ledger over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    invoice::{BalanceView, InvoiceDraftView},
    page::{PageQuery, PostingList},
    usage::UsageQuery,
};
use gregal_core::id::OrganisationId;

use crate::{
    Control, Cx, Result,
    http::extract::{Asked, Id, page_numbered},
};

pub(crate) async fn draft(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Asked(query): Asked<UsageQuery>,
) -> Result<Json<InvoiceDraftView>> {
    let draft = control.invoice_draft(&cx, id, &query).await?;
    Ok(Json(InvoiceDraftView { draft, currency: "EUR".into() }))
}

pub(crate) async fn balance(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
) -> Result<Json<BalanceView>> {
    Ok(Json(control.balance_read(&cx, id).await?))
}

pub(crate) async fn postings(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<PostingList>> {
    let page = page_numbered(query.after, query.limit)?;
    let listed = control.postings_list(&cx, id, &page).await?;
    Ok(Json(PostingList { items: listed.items.iter().map(Into::into).collect(), next: listed.next }))
}
