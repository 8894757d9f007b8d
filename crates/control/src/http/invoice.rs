//! Invoices, balances and the ledger over HTTP.

use axum::{
    Json,
    extract::State,
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use gregal_api::{
    invoice::{
        BalanceView, BillingView, BillingWrite, CreditNoteCreate, InvoiceBooks, InvoiceDocumentQuery, InvoiceDraftView,
        InvoiceFormat, InvoiceIssue, InvoiceView, PaymentCreate,
    },
    page::{InvoiceList, PageQuery, PostingList, UsageList},
    usage::{UsageQuery, UsageRecord},
};
use gregal_core::{id::OrganisationId, invoice::document};

use crate::{
    Control, Cx, Result,
    http::extract::{Asked, Body, Id, IdAndName, page_numbered},
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

pub(crate) async fn billing_read(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
) -> Result<Json<BillingView>> {
    Ok(Json(control.billing_read(&cx, id).await?))
}

pub(crate) async fn billing_write(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(wanted): Body<BillingWrite>,
) -> Result<Json<BillingView>> {
    Ok(Json(control.billing_write(&cx, id, wanted).await?))
}

pub(crate) async fn issue(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(wanted): Body<InvoiceIssue>,
) -> Result<Json<InvoiceView>> {
    Ok(Json(control.invoice_issue(&cx, id, &wanted.month).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<InvoiceList>> {
    let page = page_numbered(query.after, query.limit)?;
    let listed = control.invoices_list(&cx, id, &page).await?;
    Ok(Json(InvoiceList { items: listed.items, next: listed.next }))
}

pub(crate) async fn read(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, number): IdAndName<OrganisationId>,
) -> Result<Json<InvoiceView>> {
    Ok(Json(control.invoice_read(&cx, id, &number).await?))
}

pub(crate) async fn document(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, number): IdAndName<OrganisationId>,
    Asked(query): Asked<InvoiceDocumentQuery>,
) -> Result<Response> {
    let kept = control.invoice_kept(&cx, id, &number).await?;
    let (kind, end, text) = match query.format {
        InvoiceFormat::Json => ("application/json", "json", kept.document),
        InvoiceFormat::Ubl => ("application/xml", "ubl.xml", document::ubl(&kept.invoice)),
        InvoiceFormat::Cii => ("application/xml", "cii.xml", document::cii(&kept.invoice)),
    };
    // The number is ours: letters, digits and dashes.
    let name = format!("attachment; filename=\"{}.{end}\"", kept.invoice.number);
    Ok(([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, name)], text).into_response())
}

pub(crate) async fn records(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, number): IdAndName<OrganisationId>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<UsageList>> {
    let page = page_numbered(query.after, query.limit)?;
    let listed = control.invoice_records(&cx, id, &number, &page).await?;
    let items = listed.items.into_iter().map(|used| UsageRecord::from(used.event)).collect();
    Ok(Json(UsageList { items, next: listed.next }))
}

pub(crate) async fn books(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, number): IdAndName<OrganisationId>,
) -> Result<Json<InvoiceBooks>> {
    Ok(Json(control.invoice_books(&cx, id, &number).await?))
}

pub(crate) async fn credit(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, number): IdAndName<OrganisationId>,
    Body(wanted): Body<CreditNoteCreate>,
) -> Result<Json<InvoiceView>> {
    Ok(Json(control.credit_note_issue(&cx, id, &number, wanted).await?))
}

pub(crate) async fn pay(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, number): IdAndName<OrganisationId>,
    Body(wanted): Body<PaymentCreate>,
) -> Result<Json<InvoiceView>> {
    Ok(Json(control.payment_create(&cx, id, &number, &wanted).await?))
}
