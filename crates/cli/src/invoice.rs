//! `gregal invoice`: the draft, and the same invoice computed again on the tenant's side from the raw records.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gregal_api::{catalogue::PriceView, invoice::InvoiceDraftView};
use gregal_core::{
    invoice::{InvoiceDraft, VatRule, recompute},
    meter::Meter,
    price::{PriceBook, PriceRow},
    time::Time,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    context::Cx,
    failure::Failure,
    files,
    options::Options,
    surroundings::Surroundings,
    table::{Facts, Table},
    usage::Period,
    words,
};

mod issued;

/// How often draft and records are read again because use arrived between the two.
const READS_MAX: u32 = 5;

#[derive(Debug, Subcommand)]
pub enum InvoiceVerb {
    /// Read the draft invoice of a period
    Draft(Period),
    /// Compute an invoice again from raw records and prices, here, and compare it line by line
    Verify(Verify),
    /// List issued invoices and credit notes
    List,
    /// Read an issued invoice or credit note, or print its document
    Show(issued::Show),
    /// Write all an issued invoice was made of to a file, for `verify`
    Export(issued::Export),
    /// Issue the invoice of a month (operators); the same month again is the same invoice
    Issue(issued::Issue),
    /// Take an issued invoice back, whole or in part (operators)
    Credit(issued::Credit),
    /// Record that an issued invoice was paid (operators)
    Pay(issued::Pay),
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Without a server: an issued invoice, as `gregal invoice export` wrote it. Absent: the draft
    #[arg(value_name = "FILE", conflicts_with_all = ["month", "from", "until", "draft", "usage_file", "prices"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    period: Period,
    /// Without a server: the draft, as `gregal invoice draft --json` printed it
    #[arg(long, value_name = "FILE", requires_all = ["usage_file", "prices"])]
    draft: Option<PathBuf>,
    /// Without a server: the raw records, as `gregal usage list --json` printed them
    #[arg(long = "usage", id = "usage_file", value_name = "FILE", requires = "draft")]
    usage: Option<PathBuf>,
    /// Prices, as `gregal price list --json` printed them, or a list of price books
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

/// What the verification found; `--json` prints it.
#[derive(Debug, Serialize)]
struct Verdict {
    agrees: bool,
    records: u64,
    net_eur: String,
    vat_eur: String,
    total_eur: String,
    draft_total_eur: String,
    differences: Vec<String>,
}

pub(crate) async fn run(options: Options, here: &mut Surroundings, verb: InvoiceVerb) -> Result<(), Failure> {
    match verb {
        InvoiceVerb::Draft(period) => {
            let mut cx = Cx::open(options, here)?;
            let organisation = cx.organisation().await?;
            let draft = draft(&cx, &organisation, &period).await?;
            cx.printer().data(&draft, |draft| shown(&draft.draft))
        }
        InvoiceVerb::List => issued::list(&mut Cx::open(options, here)?).await,
        InvoiceVerb::Show(args) => issued::show(&mut Cx::open(options, here)?, args).await,
        InvoiceVerb::Export(args) => issued::export(&mut Cx::open(options, here)?, args).await,
        InvoiceVerb::Issue(args) => issued::issue(&mut Cx::open(options, here)?, args).await,
        InvoiceVerb::Credit(args) => issued::credit(&mut Cx::open(options, here)?, args).await,
        InvoiceVerb::Pay(args) => issued::pay(&mut Cx::open(options, here)?, args).await,
        InvoiceVerb::Verify(Verify { file: Some(file), .. }) => {
            here.printer.want_json(options.json);
            issued::verify_export(here, &file)
        }
        InvoiceVerb::Verify(Verify { draft: Some(draft), usage: Some(usage), prices: Some(prices), .. }) => {
            here.printer.want_json(options.json);
            let draft: InvoiceDraftView = files::json(&draft)?;
            let books = books(files::items(&prices)?)?;
            compare(here, &draft.draft, &files::items(&usage)?, &books)
        }
        InvoiceVerb::Verify(args) => {
            let mut cx = Cx::open(options, here)?;
            online(&mut cx, &args).await
        }
    }
}

async fn draft(cx: &Cx<'_>, organisation: &str, period: &Period) -> Result<InvoiceDraftView, Failure> {
    cx.told(cx.client.call("invoice_draft", &[organisation]).query(&period.query()).send().await)
}

async fn online(cx: &mut Cx<'_>, args: &Verify) -> Result<(), Failure> {
    let organisation = cx.organisation().await?;
    let books = match &args.prices {
        Some(path) => books(files::items(path)?)?,
        None => books(cx.list("prices_list", &[]).await?)?,
    };
    let mut claimed = draft(cx, &organisation, &args.period).await?;
    for _ in 0..READS_MAX {
        // The records of the very period the draft claims, whatever this month is by now.
        let query = gregal_api::usage::UsageQuery {
            from: Some(claimed.draft.from),
            until: Some(claimed.draft.until),
            ..gregal_api::usage::UsageQuery::default()
        };
        let records: Vec<Value> = cx.list_where("usage_list", &[&organisation], &query).await?;
        let again = draft(cx, &organisation, &args.period).await?;
        if again == claimed {
            return compare(cx.here, &claimed.draft, &records, &books);
        }
        claimed = again;
    }
    Err(Failure::ours("use keeps arriving while draft and records are read")
        .hint("verify a month that has ended with `--month`, or try again in a moment"))
}

fn compare(
    here: &mut Surroundings,
    draft: &InvoiceDraft,
    records: &[Value],
    books: &[PriceBook],
) -> Result<(), Failure> {
    let known = |version: u32| books.iter().any(|book| book.version == version);
    if let Some(line) = draft.lines.iter().find(|line| !known(line.price_book)) {
        return Err(Failure::yours(format!(
            "the draft was rated by price book {}, which is not among the prices",
            line.price_book
        ))
        .hint("the price list holds the prices of now; give the older book with `--prices FILE`"));
    }
    let again = recompute(draft, books, records).map_err(|error| {
        Failure::yours(format!("the records cannot be added up: {error}"))
            .hint("nothing was compared; look at that record in `gregal usage list`")
    })?;
    let verdict = Verdict {
        agrees: again.agrees(),
        records: again.records,
        net_eur: again.net.to_string(),
        vat_eur: again.vat.to_string(),
        total_eur: again.total.to_string(),
        draft_total_eur: draft.total.to_string(),
        differences: again.differences,
    };
    here.printer.data(&verdict, |verdict| {
        let mut facts = Facts::new()
            .with("records", words::count(verdict.records))
            .with("net", format!("{} EUR", verdict.net_eur))
            .with("VAT", format!("{} EUR", verdict.vat_eur))
            .with("total", format!("{} EUR", verdict.total_eur))
            .with("on the draft", format!("{} EUR", verdict.draft_total_eur))
            .with("agrees", if verdict.agrees { "yes" } else { "no" });
        for difference in &verdict.differences {
            facts = facts.with("differs", difference);
        }
        facts.text()
    })?;
    match verdict.differences.len() {
        0 => Ok(()),
        count => Err(Failure::yours(format!("the draft does not re-derive from the records: {count} differences"))
            .hint("keep draft, records and prices (`--json`) and send them to the operator: anyone can run the same check")),
    }
}

/// Price lists and price books alike, as books.
fn books(prices: Vec<Value>) -> Result<Vec<PriceBook>, Failure> {
    let mut books: Vec<PriceBook> = Vec::new();
    for (index, price) in prices.into_iter().enumerate() {
        let wrong = |why: String| Failure::yours(format!("price {}: {why}", index + 1));
        if price.get("rows").is_some() {
            books.push(serde_json::from_value(price).map_err(|error| wrong(error.to_string()))?);
            continue;
        }
        let price: PriceView = serde_json::from_value(price).map_err(|error| wrong(error.to_string()))?;
        let meter = Meter::ALL.iter().copied().find(|meter| meter.as_str() == price.meter);
        let meter = meter.ok_or_else(|| wrong(format!("`{}` is no meter this version knows", price.meter)))?;
        let row = PriceRow { meter, item: price.item, nano: price.nano, per: price.per, label: price.label };
        match books.iter_mut().find(|book| book.version == price.book) {
            Some(book) => book.rows.push(row),
            // A price list does not say from when on it holds; its version does the comparing.
            None => books.push(PriceBook { version: price.book, from: Time::from_millis(0), rows: vec![row] }),
        }
    }
    Ok(books)
}

fn shown(draft: &InvoiceDraft) -> String {
    let mut table = Table::new(["line", "item", "quantity", "unit", "price", "for", "net EUR"]).right([2, 4, 5, 6]);
    for line in &draft.lines {
        table.row([
            line.label.clone(),
            line.item.clone(),
            words::count(line.quantity),
            line.unit.clone(),
            words::euro(i64::try_from(line.price_nano).unwrap_or(i64::MAX)),
            words::count(line.price_per),
            line.net.to_string(),
        ]);
    }
    let percent = format!("{}.{:02}", draft.vat_basis_points / 100, draft.vat_basis_points % 100);
    let sums = Facts::new()
        .with("organisation", draft.organisation)
        .with("period", format!("{} until {}", draft.from, draft.until))
        .with("net", format!("{} EUR", draft.net))
        .with("VAT", format!("{} EUR ({percent} %, {})", draft.vat, rule(draft.vat_rule)))
        .with("total", format!("{} EUR (draft, not issued)", draft.total));
    let gap = if draft.lines.is_empty() { "" } else { "\n" };
    format!("{}{gap}{}", table.text(), sums.text())
}

const fn rule(rule: VatRule) -> &'static str {
    match rule {
        VatRule::Domestic => "domestic",
        VatRule::ReverseCharge => "reverse charge",
        VatRule::OneStopShop => "one-stop shop",
        VatRule::OutsideScope => "outside the scope of VAT",
        VatRule::Exempt => "exempt from VAT",
    }
}
