//! Invoices that are not issued yet, and the ledger behind them.

use std::ops::ControlFlow;

use gregal_api::{invoice::BalanceView, problem::Code, usage::UsageQuery};
use gregal_core::{
    access::Action,
    id::OrganisationId,
    invoice::{InvoiceDraft, InvoiceError, Sums},
    ledger::Posting,
    meter::UsageEvent,
};
use gregal_store::{Listed, Page};

use crate::{Control, Cx, Error, Result, app::usage::Period};

mod issued;

impl Control {
    /// Drafts the invoice of a period from its raw records.
    pub(crate) async fn invoice_draft(&self, cx: &Cx, id: OrganisationId, query: &UsageQuery) -> Result<InvoiceDraft> {
        let (organisation, _) = self.organisation_seen(cx, id, Action::InvoiceRead).await?;
        let Period { from, until } = Period::asked(query, cx.now)?;
        let books = self.store().price_books_all().await?;
        // The store keeps each id once, so that the sums need not remember which they saw.
        let mut sums = Sums::new(&organisation, from, until, &books).map_err(no_draft)?;
        let add = |event: &UsageEvent| match sums.add(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        };
        if let ControlFlow::Break(error) = self.store().usage_each(id, from, until, add).await? {
            return Err(no_draft(error));
        }
        sums.draft(self.options().seller).map_err(no_draft)
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

/// Why there is no draft, as an answer.
fn no_draft(error: InvoiceError) -> Error {
    match error {
        InvoiceError::Period { .. } => Error::invalid(error.to_string()),
        InvoiceError::NoVatRate { .. } => Error::refused(Code::Conflict, error.to_string()),
        other => Error::Broken(other.to_string()),
    }
}
