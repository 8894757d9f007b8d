//! The draft invoice of a month, line by line with its prices.

use askama::Template;
use axum::response::Response;
use gregal_api::invoice::{BalanceView, InvoiceDraftView};
use gregal_core::invoice::{InvoiceLine, VatRule};

use super::{
    failure::Failure,
    month::Month,
    page::{self, Here, Shell},
    usage::Asked,
    visitor::{Visitor, Wanted},
    words,
};

struct Row {
    label: String,
    item: String,
    quantity: String,
    raw: String,
    price: String,
    book: u32,
    records: String,
    net: String,
}

#[derive(Template)]
#[template(path = "invoice.html")]
struct InvoicePage {
    shell: Shell,
    month: Month,
    rows: Vec<Row>,
    currency: String,
    net: String,
    vat_words: &'static str,
    vat_rate: String,
    vat: String,
    total: String,
    available: String,
    held: String,
    used: String,
}

pub(crate) async fn page(visitor: Visitor, Wanted(asked): Wanted<Asked>) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    let month = asked.month(&visitor)?;
    let InvoiceDraftView { draft, currency } =
        visitor.api.read_with("invoice_draft", &[&organisation], &month.query()).await?;
    let balance: BalanceView = visitor.api.read("balance_read", &[&organisation]).await?;
    page::page(&InvoicePage {
        shell: visitor.shell("Invoice", Here::Invoice, None).await?,
        month,
        rows: draft.lines.iter().map(row).collect(),
        currency,
        net: draft.net.to_string(),
        vat_words: vat_words(draft.vat_rule),
        vat_rate: format!("{}.{:02} %", draft.vat_basis_points / 100, draft.vat_basis_points % 100),
        vat: draft.vat.to_string(),
        total: draft.total.to_string(),
        available: words::euro(balance.available_nano),
        held: words::euro(balance.held_nano),
        used: words::euro(balance.accrued_nano),
    })
}

fn row(line: &InvoiceLine) -> Row {
    Row {
        label: line.label.clone(),
        item: line.item.clone(),
        quantity: words::quantity(line.meter, line.quantity),
        raw: format!("{} {}", words::count(line.quantity), line.unit),
        price: format!("{} per {} {}", words::price(line.price_nano), words::count(line.price_per), line.unit),
        book: line.price_book,
        records: words::count(line.records),
        net: line.net.to_string(),
    }
}

const fn vat_words(rule: VatRule) -> &'static str {
    match rule {
        VatRule::Domestic => "VAT",
        VatRule::ReverseCharge => "VAT, reverse charge: the buyer accounts for it",
        VatRule::OneStopShop => "VAT of the buyer's country (one-stop shop)",
        VatRule::OutsideScope => "VAT: outside its scope",
        VatRule::Exempt => "VAT: exempt",
    }
}
