//! Invoices that are not issued yet, and the ledger behind them.

use gregal_api::{invoice::BalanceView, problem::Code, usage::UsageQuery};
use gregal_core::{
    access::Action,
    id::OrganisationId,
    invoice::{self, InvoiceDraft},
    ledger::Posting,
};
use gregal_store::{Listed, Page};

use crate::{Control, Cx, Error, Result, app::usage::Period};

impl Control {
    /// Drafts the invoice of a period from its raw records.
    pub(crate) async fn invoice_draft(&self, cx: &Cx, id: OrganisationId, query: &UsageQuery) -> Result<InvoiceDraft> {
        let (organisation, _) = self.organisation_seen(cx, id, Action::InvoiceRead).await?;
        let Period { from, until } = Period::asked(query, cx.now)?;
        let books = self.store().price_books_all().await?;
        let stored = self.store().usage_all(id, from, until).await?;
        let events = stored.iter().map(|stored| &stored.event);
        invoice::draft(&organisation, self.options().seller, from, until, &books, events).map_err(|error| match error {
            invoice::InvoiceError::Period { .. } => Error::invalid(error.to_string()),
            invoice::InvoiceError::NoVatRate { .. } => Error::refused(Code::Conflict, error.to_string()),
            other => Error::Broken(other.to_string()),
        })
    }

    /// Where an organisation's accounts stand.
    pub(crate) async fn balance_read(&self, cx: &Cx, id: OrganisationId) -> Result<BalanceView> {
        self.organisation_seen(cx, id, Action::InvoiceRead).await?;
        let balances = self.store().balances_get(id).await?;
        Ok(BalanceView {
            available_nano: balances.available.get(),
            held_nano: balances.held.get(),
            accrued_nano: balances.accrued.get(),
        })
    }

    /// The ledger of an organisation.
    pub(crate) async fn postings_list(&self, cx: &Cx, id: OrganisationId, page: &Page) -> Result<Listed<Posting>> {
        self.organisation_seen(cx, id, Action::InvoiceRead).await?;
        Ok(self.store().postings_list(id, page).await?)
    }
}
