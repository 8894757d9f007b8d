//! Issued invoices at the prompt: list, show, export, verify without a server; for operators issue, credit and payments.

use std::{
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use gregal_api::invoice::{
    CreditNoteCreate, InvoiceBooks, InvoiceDocumentQuery, InvoiceFormat, InvoiceIssue, InvoiceView, PaymentCreate,
};
use gregal_core::{
    invoice::{Exported, Kind, Standing, Taken, VerifyError, verify},
    money::Cents,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    context::Cx,
    failure::Failure,
    surroundings::Surroundings,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Args)]
pub struct Show {
    /// Its number
    number: String,
    /// Print the document itself: as it was frozen, or as XML to EN 16931
    #[arg(long, value_name = "FORMAT", value_parser = ["json", "ubl", "cii"])]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub struct Issue {
    /// Calendar month, UTC, like 2026-10; it has to have ended
    #[arg(long)]
    month: String,
}

#[derive(Debug, Args)]
pub struct Credit {
    /// The invoice's number
    number: String,
    /// Why; it stands on the credit note
    #[arg(long)]
    reason: String,
    /// A part of one line, as LINE=EUR; may be repeated. Absent: all that is left of the invoice
    #[arg(long = "line", value_name = "LINE=EUR", value_parser = part)]
    parts: Vec<Taken>,
}

#[derive(Debug, Args)]
pub struct Pay {
    /// The invoice's number
    number: String,
    /// How much was paid, in euro
    #[arg(long, value_name = "EUR", value_parser = words::cents)]
    amount_eur: i64,
    /// What the bank calls the payment; the same one again changes nothing
    #[arg(long)]
    reference: String,
    /// It was given back, or was entered by mistake
    #[arg(long)]
    back: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The invoice's number
    number: String,
    /// File to write: the invoice, its price books and raw records, one JSON value a line
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn part(text: &str) -> Result<Taken, String> {
    let wrong = || format!("`{text}` is no part of a line, one looks like `2=12.50`");
    let (line, euro) = text.split_once('=').ok_or_else(wrong)?;
    let line = line.parse().map_err(|_| wrong())?;
    Ok(Taken { line, net: Cents::new(words::cents(euro)?) })
}

pub(crate) async fn list(cx: &mut Cx<'_>) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let all: Vec<InvoiceView> = cx.list("invoices_list", &[&organisation]).await?;
    cx.show_list("invoices", &all, |all| {
        let mut table =
            Table::new(["number", "kind", "issued", "month", "total EUR", "due EUR", "state"]).right([4, 5]);
        for one in all {
            let invoice = &one.invoice;
            table.row([
                invoice.number.clone(),
                kind(invoice.kind).into(),
                invoice.issued_on.clone(),
                invoice.from.to_string().chars().take(7).collect(),
                invoice.total.to_string(),
                one.due_cents.map(|due| Cents::new(due).to_string()).unwrap_or_default(),
                one.standing.map(standing).unwrap_or_default().into(),
            ]);
        }
        table
    })
}

pub(crate) async fn show(cx: &mut Cx<'_>, args: Show) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let Some(format) = args.format else {
        let found: InvoiceView = cx.read("invoice_read", &[&organisation, &args.number]).await?;
        return shown(cx, &found);
    };
    let format = match format.as_str() {
        "ubl" => InvoiceFormat::Ubl,
        "cii" => InvoiceFormat::Cii,
        _ => InvoiceFormat::Json,
    };
    let text = document(cx, &organisation, &args.number, format).await?;
    // The very bytes: whoever digests them gets the digest.
    cx.printer().write(&text)
}

async fn document(cx: &Cx<'_>, organisation: &str, number: &str, format: InvoiceFormat) -> Result<String, Failure> {
    let query = InvoiceDocumentQuery { format };
    cx.told(cx.client.call("invoice_document", &[organisation, number]).query(&query).send_text().await)
}

pub(crate) async fn issue(cx: &mut Cx<'_>, args: Issue) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let wanted = InvoiceIssue { month: args.month };
    let issued: InvoiceView = cx.create("invoice_issue", &[&organisation], &wanted).await?;
    shown(cx, &issued)
}

pub(crate) async fn credit(cx: &mut Cx<'_>, args: Credit) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let parts = (!args.parts.is_empty()).then_some(args.parts);
    let wanted = CreditNoteCreate { reason: args.reason, parts };
    let issued: InvoiceView = cx.create("credit_note_issue", &[&organisation, &args.number], &wanted).await?;
    shown(cx, &issued)
}

pub(crate) async fn pay(cx: &mut Cx<'_>, args: Pay) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let amount_cents = if args.back { -args.amount_eur } else { args.amount_eur };
    let wanted = PaymentCreate { amount_cents, reference: args.reference };
    let paid: InvoiceView = cx.create("payment_create", &[&organisation, &args.number], &wanted).await?;
    shown(cx, &paid)
}

fn shown(cx: &mut Cx<'_>, view: &InvoiceView) -> Result<(), Failure> {
    cx.printer().data(view, |view| {
        let invoice = &view.invoice;
        let mut table = Table::new(["no", "line", "item", "quantity", "unit", "net EUR", "late"]).right([0, 3, 5]);
        for line in &invoice.lines {
            table.row([
                line.number.to_string(),
                line.line.label.clone(),
                line.line.item.clone(),
                words::count(line.line.quantity),
                line.line.unit.clone(),
                line.line.net.to_string(),
                line.late.clone().unwrap_or_default(),
            ]);
        }
        let percent = format!("{}.{:02}", invoice.vat.basis_points / 100, invoice.vat.basis_points % 100);
        let sums = Facts::new()
            .with("number", &invoice.number)
            .with("kind", kind(invoice.kind))
            .maybe("credits", invoice.credits.as_ref().map(|credits| format!("{}: {}", credits.number, credits.reason)))
            .with("organisation", invoice.organisation)
            .with("issued", &invoice.issued_on)
            .maybe("due on", invoice.due_on.as_ref())
            .with("period", format!("{} until {}", invoice.from, invoice.until))
            .with("net", format!("{} EUR", invoice.net))
            .with("VAT", format!("{} EUR ({percent} %, category {:?})", invoice.vat.amount, invoice.vat.category))
            .with("total", format!("{} EUR", invoice.total))
            .maybe("due", view.due_cents.map(|due| format!("{} EUR", Cents::new(due))))
            .maybe("state", view.standing.map(standing))
            .with("digest", &view.digest);
        format!("{}\n{}", table.text(), sums.text())
    })
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoice => "invoice",
        Kind::CreditNote => "credit note",
    }
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Issued => "issued",
        Standing::Paid => "paid",
        Standing::Overdue => "overdue",
        Standing::Credited => "credited",
    }
}

/// Writes everything an invoice was made of, so that it can be computed again with no server.
pub(crate) async fn export(cx: &mut Cx<'_>, args: Export) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let number = args.number.as_str();
    let view: InvoiceView = cx.read("invoice_read", &[&organisation, number]).await?;
    let document = document(cx, &organisation, number, InvoiceFormat::Json).await?;
    let books: InvoiceBooks = cx.read("invoice_books", &[&organisation, number]).await?;
    let records: Vec<Value> = cx.list("invoice_records", &[&organisation, number]).await?;
    let mut lines = vec![Exported::Invoice { digest: view.digest, document }];
    lines.extend(books.books.into_iter().map(|book| Exported::PriceBook { book }));
    let count = records.len();
    lines.extend(records.into_iter().map(|record| Exported::Record { record }));
    write(&args.out, &lines).map_err(|error| Failure::file("write", &args.out, &error))?;
    cx.printer().note(&format!(
        "{count} records; anyone can check it, with no server and no key: `gregal invoice verify {}`",
        args.out.display()
    ));
    Ok(())
}

fn write(path: &Path, lines: &[Exported]) -> std::io::Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

/// What a verification of an export found; `--json` prints it.
#[derive(Debug, Serialize)]
struct Verdict {
    number: String,
    agrees: bool,
    lines: u32,
    records: u64,
    total_eur: String,
    digest: String,
    records_held: bool,
}

/// Computes an issued invoice again from its export, with no server.
pub(crate) fn verify_export(here: &mut Surroundings, path: &Path) -> Result<(), Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    let found = verify(BufReader::new(file).lines()).map_err(|error| {
        let failure = Failure::yours(format!("the invoice does not re-derive: {error}"));
        match error {
            VerifyError::Malformed { .. } => failure.hint("write it again with `gregal invoice export`"),
            _ => failure.hint("keep the file and send it to the operator: anyone can run the same check"),
        }
    })?;
    let verdict = Verdict {
        number: found.number,
        agrees: true,
        lines: found.lines,
        records: found.records,
        total_eur: found.total.to_string(),
        digest: found.digest,
        records_held: found.is_held,
    };
    here.printer.data(&verdict, |verdict| {
        Facts::new()
            .with("number", &verdict.number)
            .with("records", words::count(verdict.records))
            .with("lines", verdict.lines)
            .with("total", format!("{} EUR", verdict.total_eur))
            .with("digest", &verdict.digest)
            .with("agrees", "yes; hold the digest against the `invoice:issue` entry of your audit log")
            .maybe(
                "but",
                (!verdict.records_held).then_some("it was issued before invoices held a digest of their records"),
            )
            .text()
    })
}
