//! Issued invoices: numbered in the transaction that issues them, kept whole, taken back by credit notes.

use std::ops::ControlFlow;

use gregal_api::{
    invoice::{CreditNoteCreate, InvoiceBooks, InvoiceView, PaymentCreate},
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    id::OrganisationId,
    invoice::{self, CreditError, Entry, Gathered, Invoice, Kind, Numbered, Reach},
    ledger::{self, PostingKind},
    money::Cents,
    month::Month,
    organisation::Organisation,
    price::PriceBook,
};
use gregal_store::{KeptInvoice, Listed, Page, StoredUsage, Tx, View};

use super::no_draft;
use crate::{
    Control, Cx, Error, Result,
    context::{Actor, Facts as _, Invoicing},
    names,
    wakes::Wake,
};

/// Use as it is added up.
struct Sum<'a> {
    organisation: &'a Organisation,
    month: Month,
    reach: Reach,
    gathered: Gathered<'a>,
}

impl Sum<'_> {
    /// Adds what arrived after one place and not after another, and is on no invoice yet.
    async fn add(&mut self, view: &View, after: u64, through: u64) -> Result<()> {
        let gathered = &mut self.gathered;
        let add = |used: &StoredUsage| match gathered.add(&used.event, used.rated) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        };
        let id = self.organisation.id;
        match view.usage_uncovered_each(id, self.month.until, self.reach, (after, through), add).await? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(no_draft(error)),
        }
    }
}

impl Control {
    /// Issues the invoice of a month, as an operator asks for it.
    pub(crate) async fn invoice_issue(&self, cx: &Cx, id: OrganisationId, month: &str) -> Result<InvoiceView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::InvoiceIssue).await?;
        let month: Month =
            month.parse().map_err(|_| Error::invalid("`month` is not a month, one looks like `2026-10`"))?;
        match self.invoice_issued(cx, id, month, &policies).await? {
            Some(kept) => self.invoice_view(kept).await,
            None => Err(Error::refused(
                Code::Conflict,
                format!("nothing that has a price was used in {month} or arrived since: there is nothing to invoice"),
            )),
        }
    }

    /// Issues the invoice of a month, or answers the one that was issued. None where there is nothing to invoice.
    pub(crate) async fn invoice_issued(
        &self,
        cx: &Cx,
        id: OrganisationId,
        month: Month,
        policies: &[String],
    ) -> Result<Option<KeptInvoice>> {
        if let Some(kept) = self.store().invoice_of_month(id, month.from).await? {
            return Ok(Some(kept));
        }
        if month.until > cx.now {
            return Err(Error::refused(Code::Conflict, format!("{month} has not ended yet")));
        }
        let invoicing = self.invoicing()?;
        // Most of the use is added up before the writer's turn is taken, and only what arrived meanwhile inside it. What is
        // added up stands for ever: use is never changed, and prices of the past are not either.
        let view: &View = self.store();
        let organisation = self.organisation_of(view, id).await?;
        let (books, reach) = (view.price_books_all().await?, view.invoice_reach(id).await?);
        let through = view.usage_newest(id).await?;
        let gathered = Gathered::new(&organisation, month, &books);
        let mut sum = Sum { organisation: &organisation, month, reach, gathered };
        sum.add(view, 0, through).await?;
        // The task looks at every organisation again and again: where nothing was used it takes no turn to write.
        if sum.gathered.is_empty() && matches!(cx.actor, Actor::System(_)) {
            return Ok(None);
        }

        let tx = self.begin(cx).await?;
        if let Some(kept) = tx.invoice_of_month(id, month.from).await? {
            return Ok(Some(kept));
        }
        if tx.invoice_reach(id).await? != reach || self.organisation_of(&tx, id).await? != organisation {
            return Err(Error::refused(Code::Conflict, "it was changed while it was added up: try again"));
        }
        if reach.until > month.from {
            let detail = format!("a later month is invoiced already: what was used in {month} is on that invoice");
            return Err(Error::refused(Code::Conflict, detail));
        }
        let newest = tx.usage_newest(id).await?;
        sum.add(&tx, through, newest).await?;
        let made = sum.gathered.made().map_err(no_draft)?;
        let rated = made.rated;
        let (place, numbered) = self.numbered(&tx, &invoicing.series).await?;
        let billing = organisation.billing.as_ref().ok_or_else(no_billing)?;
        let seller = (&invoicing.seller, invoicing.due_days);
        let issued = invoice::issue(numbered, (&organisation, billing), seller, (month, reach, newest), made);
        let Some(issued) = issued.map_err(no_draft)? else { return Ok(None) };
        let kept = tx.invoice_insert(&invoicing.series, place, &issued).await?;
        self.post(&tx, id, PostingKind::Invoice, &issued.number, invoice::invoiced(rated)?).await?;
        let entry = told(cx, Action::InvoiceIssue.as_str(), &kept, policies).fact("month", month.to_string());
        self.invoice_finish(cx, tx, entry, &kept).await?;
        Ok(Some(kept))
    }

    /// Takes an invoice back, whole or in part. What was used and is taken back may be spent again.
    pub(crate) async fn credit_note_issue(
        &self,
        cx: &Cx,
        id: OrganisationId,
        number: &str,
        wanted: CreditNoteCreate,
    ) -> Result<InvoiceView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::InvoiceIssue).await?;
        names::words("reason", &wanted.reason, 200)?;
        let series = &self.invoicing()?.series;
        let tx = self.begin(cx).await?;
        let invoice = kept(&tx, id, number).await?.invoice;
        let before = tx.invoice_credits(number).await?;
        let (place, numbered) = self.numbered(&tx, series).await?;
        let note = invoice::credit(numbered, &invoice, &before, wanted.parts.as_deref(), &wanted.reason);
        let note = note.map_err(|error| match error {
            CreditError::Line { .. } => Error::invalid(error.to_string()),
            other => Error::refused(Code::Conflict, other.to_string()),
        })?;
        if let Some(same) = before.iter().find(|there| is_same(there, &note)) {
            let detail = format!("`{}` takes the same back for the same reason", same.number);
            return Err(Problem::new(Code::Conflict, detail)
                .hint("if it is meant once more, say why: another reason")
                .into());
        }
        let kept = tx.invoice_insert(series, place, &note).await?;
        self.post(&tx, id, PostingKind::Credit, &note.number, ledger::credit(note.net.to_nano()?)?).await?;
        let entry = told(cx, "credit_note:issue", &kept, &policies).fact("invoice", number);
        self.invoice_finish(cx, tx, entry, &kept).await?;
        self.invoice_view(kept).await
    }

    /// The next number of a series. Its date never lies before the one of the number before it, whichever plane's clock is behind.
    async fn numbered(&self, tx: &Tx, series: &str) -> Result<(u64, Numbered)> {
        let place = tx.invoice_place_next(series).await?;
        let last = tx.invoice_issued_last(series).await?;
        let at = last.map_or_else(|| self.now(), |last| last.max(self.now()));
        Ok((place, Numbered { number: invoice::number(series, place), at }))
    }

    /// Records a payment, or with a minus what was given back of one; the same reference again is the same payment.
    pub(crate) async fn payment_create(
        &self,
        cx: &Cx,
        id: OrganisationId,
        number: &str,
        wanted: &PaymentCreate,
    ) -> Result<InvoiceView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::InvoiceIssue).await?;
        names::title("reference", &wanted.reference)?;
        let amount = Cents::new(wanted.amount_cents);
        if amount == Cents::ZERO {
            return Err(Error::invalid("`amount_cents` is 0: nothing was paid and nothing given back"));
        }
        let tx = self.begin(cx).await?;
        let kept = kept(&tx, id, number).await?;
        if kept.invoice.kind != Kind::Invoice {
            return Err(Error::refused(Code::Conflict, format!("`{number}` is a credit note: nobody pays it")));
        }
        let entries = tx.invoice_entries(number).await?;
        if let Some(there) = entries.iter().find(|entry| entry.is_payment(&wanted.reference)) {
            if there.bank == amount {
                drop(tx);
                return self.invoice_view(kept).await;
            }
            let detail = format!("`{}` was entered with another amount", wanted.reference);
            return Err(Error::refused(Code::Conflict, detail));
        }
        let (due, paid) = (invoice::due(&entries)?, invoice::paid(&entries)?);
        if amount > due && amount > Cents::ZERO {
            let detail = format!("a payment is at most what is due, {due} EUR");
            return Err(Error::refused(Code::Conflict, detail));
        }
        if paid.add(amount)? < Cents::ZERO {
            return Err(Error::refused(Code::Conflict, format!("{paid} EUR were paid: no more can be given back")));
        }
        tx.invoice_entry_insert(&Entry::paid(&kept.invoice, amount, &wanted.reference, self.now())).await?;
        let entry = cx
            .done(Some(id), "payment:create", number)
            .by(&policies)
            .fact("amount_cents", amount.get())
            .fact("due_cents", due.get() - amount.get());
        let after = due.add(Cents::new(-amount.get()))?;
        let answer = self.view_of(&kept, &tx.invoice_entries(number).await?)?;
        debug_assert_eq!(answer.due_cents, Some(after.get()));
        self.finish_created(cx, tx, &[entry], Wake::Nobody, &answer).await?;
        Ok(answer)
    }

    /// Issued documents, in the order of issue.
    pub(crate) async fn invoices_list(&self, cx: &Cx, id: OrganisationId, page: &Page) -> Result<Listed<InvoiceView>> {
        self.organisation_seen(cx, id, Action::IssuedInvoiceRead).await?;
        let listed = self.store().invoices_list(id, page).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for kept in listed.items {
            items.push(self.invoice_view(kept).await?);
        }
        Ok(Listed { items, next: listed.next })
    }

    /// An issued document.
    pub(crate) async fn invoice_read(&self, cx: &Cx, id: OrganisationId, number: &str) -> Result<InvoiceView> {
        self.organisation_seen(cx, id, Action::IssuedInvoiceRead).await?;
        self.invoice_view(kept(self.store(), id, number).await?).await
    }

    /// An issued document as it was frozen, for whoever renders it.
    pub(crate) async fn invoice_kept(&self, cx: &Cx, id: OrganisationId, number: &str) -> Result<KeptInvoice> {
        self.organisation_seen(cx, id, Action::IssuedInvoiceRead).await?;
        kept(self.store(), id, number).await
    }

    /// The raw records an invoice was made of.
    pub(crate) async fn invoice_records(
        &self,
        cx: &Cx,
        id: OrganisationId,
        number: &str,
        page: &Page,
    ) -> Result<Listed<StoredUsage>> {
        self.organisation_seen(cx, id, Action::InvoiceRead).await?;
        let invoice = of_records(kept(self.store(), id, number).await?)?;
        Ok(self.store().invoice_records(&invoice, page).await?)
    }

    /// The price books an invoice was rated by.
    pub(crate) async fn invoice_books(&self, cx: &Cx, id: OrganisationId, number: &str) -> Result<InvoiceBooks> {
        self.organisation_seen(cx, id, Action::InvoiceRead).await?;
        let invoice = of_records(kept(self.store(), id, number).await?)?;
        let rated = |book: &PriceBook| invoice.lines.iter().any(|line| line.line.price_book == book.version);
        let books = self.store().price_books_all().await?.into_iter().filter(rated).collect();
        Ok(InvoiceBooks { books })
    }

    fn invoicing(&self) -> Result<&Invoicing> {
        self.options().invoicing.as_ref().ok_or_else(|| {
            Problem::new(Code::Conflict, "this cloud issues no invoices: nobody said who sells")
                .hint("the operator's settings under `[invoice]` say so")
                .into()
        })
    }

    async fn invoice_finish(
        &self,
        cx: &Cx,
        tx: Tx,
        entry: gregal_core::audit::AuditEntry,
        kept: &KeptInvoice,
    ) -> Result<()> {
        let about = kept.invoice.credits.as_ref().map_or(&kept.invoice.number, |credits| &credits.number);
        let answer = self.view_of(kept, &tx.invoice_entries(about).await?)?;
        self.finish_created(cx, tx, &[entry], Wake::Nobody, &answer).await
    }

    async fn invoice_view(&self, kept: KeptInvoice) -> Result<InvoiceView> {
        let entries = self.store().invoice_entries(&kept.invoice.number).await?;
        self.view_of(&kept, &entries)
    }

    fn view_of(&self, kept: &KeptInvoice, entries: &[Entry]) -> Result<InvoiceView> {
        let is_invoice = kept.invoice.kind == Kind::Invoice;
        let standing = is_invoice.then(|| invoice::standing(&kept.invoice, entries, self.now())).transpose()?;
        let due_cents = is_invoice.then(|| invoice::due(entries)).transpose()?.map(Cents::get);
        Ok(InvoiceView { invoice: kept.invoice.clone(), digest: kept.digest.clone(), standing, due_cents })
    }
}

/// The document of this number, if it is this organisation's.
async fn kept(view: &View, id: OrganisationId, number: &str) -> Result<KeptInvoice> {
    let found = view.invoice_get(number).await?.filter(|kept| kept.invoice.organisation == id);
    found.ok_or_else(|| Error::missing("invoice", number))
}

/// Whether two credit notes take the same back for the same reason: most likely one request that came twice.
fn is_same(one: &Invoice, other: &Invoice) -> bool {
    let reason = |note: &Invoice| note.credits.as_ref().map(|credits| credits.reason.clone());
    let parts = |note: &Invoice| note.lines.iter().map(|line| (line.number, line.line.net)).collect::<Vec<_>>();
    reason(one) == reason(other) && parts(one) == parts(other)
}

fn of_records(kept: KeptInvoice) -> Result<Invoice> {
    match kept.invoice.kind {
        Kind::Invoice => Ok(kept.invoice),
        Kind::CreditNote => {
            Err(Error::refused(Code::Conflict, "a credit note is made of an invoice, not of usage records"))
        }
    }
}

fn no_billing() -> Error {
    Problem::new(Code::Conflict, "nobody said what invoices say of this organisation")
        .hint("`gregal organisation billing` sets legal name and address")
        .into()
}

fn told(cx: &Cx, action: &str, kept: &KeptInvoice, policies: &[String]) -> gregal_core::audit::AuditEntry {
    cx.done(Some(kept.invoice.organisation), action, &kept.invoice.number)
        .by(policies)
        .fact("total_cents", kept.invoice.total.get())
        .fact("digest", kept.digest.as_str())
}
