//! Issued invoices and credit notes: which there are, where they stand, and their documents to download.

use askama::Template;
use axum::{
    extract::Path,
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use gregal_api::invoice::InvoiceView;
use gregal_core::{
    invoice::{Kind, Standing, document},
    money::Cents,
};

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    visitor::Visitor,
};

struct Row {
    number: String,
    kind: &'static str,
    month: String,
    issued_on: String,
    due_on: String,
    total: String,
    due: String,
    standing: &'static str,
}

#[derive(Template)]
#[template(path = "invoices.html")]
struct InvoicesPage {
    shell: Shell,
    rows: Vec<Row>,
    is_whole: bool,
}

pub(crate) async fn page(visitor: Visitor) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    let (all, is_whole): (Vec<InvoiceView>, bool) = visitor.api.gather("invoices_list", &[&organisation]).await?;
    let rows = all.iter().rev().map(row).collect();
    page::page(&InvoicesPage { shell: visitor.shell("Invoices", Here::Invoice, None).await?, rows, is_whole })
}

fn row(view: &InvoiceView) -> Row {
    let invoice = &view.invoice;
    Row {
        number: invoice.number.clone(),
        kind: match invoice.kind {
            Kind::Invoice => "invoice",
            Kind::CreditNote => "credit note",
        },
        month: invoice.from.to_string().chars().take(7).collect(),
        issued_on: invoice.issued_on.clone(),
        due_on: invoice.due_on.clone().unwrap_or_default(),
        total: invoice.total.to_string(),
        due: view.due_cents.map(|due| Cents::new(due).to_string()).unwrap_or_default(),
        standing: match view.standing {
            Some(Standing::Issued) => "issued",
            Some(Standing::Paid) => "paid",
            Some(Standing::Overdue) => "overdue",
            Some(Standing::Credited) => "credited",
            None => "",
        },
    }
}

/// A document, rendered from what the API answered, as the API renders it.
pub(crate) async fn download(
    visitor: Visitor,
    Path((number, format)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    let view: InvoiceView = visitor.api.read("invoice_read", &[&organisation, &number]).await?;
    let text = match format.as_str() {
        "ubl" => document::ubl(&view.invoice),
        "cii" => document::cii(&view.invoice),
        _ => return Err(Failure::invalid("a document is `ubl` or `cii`")),
    };
    let name = format!("attachment; filename=\"{}.{format}.xml\"", view.invoice.number);
    Ok(([(CONTENT_TYPE, "application/xml".to_owned()), (CONTENT_DISPOSITION, name)], text).into_response())
}
