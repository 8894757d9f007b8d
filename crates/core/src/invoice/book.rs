//! The seller's book: what is owed on each invoice. Double entries in cents, added and never edited.

use serde::{Deserialize, Serialize};

use super::issue::{Invoice, Kind};
use crate::{
    id::OrganisationId,
    money::{Cents, Overflow},
    month::date,
    time::Time,
};

/// One entry; its four amounts add up to zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The invoice it is about.
    pub invoice: String,
    /// Who owes.
    pub organisation: OrganisationId,
    /// The document or the payment behind it.
    pub reference: String,
    /// What is owed: grows with an invoice, falls with a payment or a credit note.
    pub receivable: Cents,
    /// What was sold, with a minus.
    pub revenue: Cents,
    /// VAT that is owed to the state, with a minus.
    pub vat: Cents,
    /// What was paid.
    pub bank: Cents,
    /// When it was entered.
    pub at: Time,
}

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Waits to be paid.
    Issued,
    /// Nothing is owed.
    Paid,
    /// Its day has passed.
    Overdue,
    /// Taken back whole.
    Credited,
}

const fn minus(amount: Cents) -> Cents {
    Cents::new(-amount.get())
}

impl Entry {
    /// What issuing a document enters.
    pub fn issued(document: &Invoice) -> Self {
        let about = document.credits.as_ref().map_or(&document.number, |credits| &credits.number);
        let turn = |amount: Cents| if document.kind == Kind::Invoice { amount } else { minus(amount) };
        Self {
            invoice: about.clone(),
            organisation: document.organisation,
            reference: document.number.clone(),
            receivable: turn(document.total),
            revenue: turn(minus(document.net)),
            vat: turn(minus(document.vat.amount)),
            bank: Cents::ZERO,
            at: document.issued_at,
        }
    }

    /// What a payment is called in the book: never what a document is called, though people are told to pay with its number.
    fn payment(reference: &str) -> String {
        format!("payment:{reference}")
    }

    /// Whether this is the payment that the bank calls so.
    pub fn is_payment(&self, reference: &str) -> bool {
        // Books of before have payments by their bare references.
        self.bank != Cents::ZERO && (self.reference == Self::payment(reference) || self.reference == reference)
    }

    /// What a payment enters; with a minus, what was given back.
    pub fn paid(invoice: &Invoice, amount: Cents, reference: &str, at: Time) -> Self {
        Self {
            invoice: invoice.number.clone(),
            organisation: invoice.organisation,
            reference: Self::payment(reference),
            receivable: minus(amount),
            revenue: Cents::ZERO,
            vat: Cents::ZERO,
            bank: amount,
            at,
        }
    }

    /// Its amounts together, in cents: zero, always.
    pub fn sum(&self) -> i128 {
        [self.receivable, self.revenue, self.vat, self.bank].iter().map(|amount| i128::from(amount.get())).sum()
    }
}

/// What is still owed on an invoice; less than nothing where more was given back than was owed.
pub fn due<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Cents, Overflow> {
    entries.into_iter().try_fold(Cents::ZERO, |sum, entry| sum.add(entry.receivable))
}

/// What was paid on an invoice and not given back.
pub fn paid<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Cents, Overflow> {
    entries.into_iter().try_fold(Cents::ZERO, |sum, entry| sum.add(entry.bank))
}

/// Where an invoice stands by its entries.
pub fn standing(invoice: &Invoice, entries: &[Entry], now: Time) -> Result<Standing, Overflow> {
    let owed = due(entries)?;
    let sold = entries.iter().try_fold(Cents::ZERO, |sum, entry| sum.add(entry.revenue))?;
    let is_late = invoice.due_on.as_ref().is_some_and(|day| *day < date(now));
    Ok(if owed <= Cents::ZERO {
        if sold == Cents::ZERO && invoice.net > Cents::ZERO { Standing::Credited } else { Standing::Paid }
    } else if is_late {
        Standing::Overdue
    } else {
        Standing::Issued
    })
}
