//! Usage, the draft invoice, and the same invoice computed again from the raw records by the tenant.

use anyhow::{Context, Result, ensure};
use gregal_api::{
    client::Client,
    invoice::InvoiceDraftView,
    page::{PriceList, UsageList},
    usage::{UsageQuery, UsageSummary},
};
use gregal_core::{
    invoice::recompute,
    meter::Meter,
    price::{PriceBook, PriceRow},
    time::Time,
};
use serde_json::Value;

use super::journey::{Journey, wait_for};

/// Pages of raw records the tour reads at most.
const PAGES_MAX: usize = 200;

impl Journey<'_> {
    /// Shows what was used and what it costs, and checks both.
    pub(crate) async fn pay(&mut self) -> Result<()> {
        self.show.step("usage and a draft invoice");
        let owner = self.owner()?;
        let organisation = self.book.notes.organisation.context("the organisation is not there yet")?.to_string();
        let (tokens_in, tokens_out) = (self.summary.chat.tokens_in, self.summary.chat.tokens_out);
        // The site hands its records over on its own time; the last chat is billed when its tokens have arrived, and the
        // endpoint when its first stretch of standing there has.
        let summary = wait_for("the usage of the chat and of its endpoint to arrive", || async {
            let summary: UsageSummary = owner.call("usage_summary", &[&organisation]).send().await?;
            let sum =
                |meter| summary.items.iter().filter(|item| item.meter == meter).map(|item| item.quantity).sum::<u64>();
            let arrived = sum(Meter::TokensIn) >= tokens_in && sum(Meter::TokensOut) >= tokens_out;
            Ok((arrived && sum(Meter::ReplicaCore) > 0).then_some(summary))
        })
        .await?;
        for item in &summary.items {
            self.show.detail(&format!("{} {} of {} ({} records)", item.quantity, item.unit, item.item, item.records));
        }
        // The endpoint goes on being used: what is compared is a draft that was the same before and after its records were
        // read.
        let (invoice, records) = wait_for("the usage to hold still for a moment", || async {
            let draft = || async { owner.call("invoice_draft", &[&organisation]).send::<InvoiceDraftView>().await };
            let before = draft().await?;
            let records = records(&owner, &organisation).await?;
            let is_still = draft().await?.draft == before.draft;
            Ok(is_still.then_some((before, records)))
        })
        .await?;
        let books = books(&owner).await?;
        let again = recompute(&invoice.draft, &books, &records).context("the records cannot be added up")?;
        for line in &invoice.draft.lines {
            self.show.detail(&format!(
                "{}: {} {} at {} nano-euro for {} = {} EUR",
                line.label, line.quantity, line.unit, line.price_nano, line.price_per, line.net
            ));
        }
        let draft = &invoice.draft;
        let billed = &mut self.summary.invoice;
        billed.net_eur = draft.net.to_string();
        billed.vat_eur = draft.vat.to_string();
        billed.vat_percent = format!("{}.{:02}", draft.vat_basis_points / 100, draft.vat_basis_points % 100);
        billed.total_eur = draft.total.to_string();
        billed.recomputed_eur = again.total.to_string();
        billed.lines = draft.lines.len();
        billed.records = records.len();
        self.summary.usage = summary.items;
        ensure!(again.agrees(), "the invoice does not re-derive from the records: {}", again.differences.join("; "));
        self.show.done(&format!(
            "{} EUR net + {} % VAT = {} EUR; recomputed from {} raw records: {} EUR",
            draft.net,
            self.summary.invoice.vat_percent,
            draft.total,
            records.len(),
            again.total
        ));
        Ok(())
    }
}

/// Every raw record of this month, as it was sent.
async fn records(owner: &Client, organisation: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut query = UsageQuery { limit: Some(gregal_api::page::PAGE_LIMIT_MAX), ..UsageQuery::default() };
    for _ in 0..PAGES_MAX {
        let page: UsageList = owner.call("usage_list", &[organisation]).query(&query).send().await?;
        for record in page.items {
            all.push(serde_json::to_value(record.event).context("a record could not be read")?);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(all),
        }
    }
    anyhow::bail!("there are more raw records than the tour reads")
}

/// The price list as books.
async fn books(owner: &Client) -> Result<Vec<PriceBook>> {
    let prices: PriceList = owner.call("prices_list", &[]).send().await?;
    let mut books: Vec<PriceBook> = Vec::new();
    for price in prices.items {
        let meter = Meter::ALL.iter().copied().find(|meter| meter.as_str() == price.meter);
        let meter = meter.with_context(|| format!("the price list speaks of an unknown meter `{}`", price.meter))?;
        let row = PriceRow { meter, item: price.item, nano: price.nano, per: price.per, label: price.label };
        match books.iter_mut().find(|book| book.version == price.book) {
            Some(book) => book.rows.push(row),
            // The list holds the prices of now; the tour's whole usage lies under them.
            None => books.push(PriceBook { version: price.book, from: Time::from_millis(0), rows: vec![row] }),
        }
    }
    Ok(books)
}
