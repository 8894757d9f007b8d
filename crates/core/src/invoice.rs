//! Invoices: usage summed, rated once a line, VAT on the sum. Anyone can recompute one from the same records.

#![deny(clippy::float_arithmetic)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    id::OrganisationId,
    meter::{self, Meter, RateError, UsageEvent},
    money::{Cents, Overflow},
    organisation::Organisation,
    price::{PriceBook, PriceRow},
    residency::Jurisdiction,
    time::Time,
    vat,
};

mod book;
pub mod document;
mod gather;
mod issue;
mod party;
mod recompute;
mod records;
mod verify;

pub use book::{Entry, Standing, due, paid, standing};
pub use gather::{Gathered, IssuedLine, Made, Reach};
pub use issue::{
    Category, CreditError, Credits, Invoice, Kind, Numbered, PART, Taken, VatSum, credit, digest, invoiced, issue,
    number,
};
pub use party::{Address, Billing, Buyer, ElectronicAddress, ElectronicAddressError, Seller};
pub use recompute::{RecomputeError, Recomputed, recompute};
pub use records::RecordsDigest;
pub use verify::{Exported, Verified, VerifyError, verify};

/// How VAT is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VatRule {
    /// Seller and buyer in one country: that country's rate (EN 16931 category S).
    Domestic,
    /// Buyer in another member state with a VAT id: reverse charge (category AE).
    ReverseCharge,
    /// Buyer in another member state without a VAT id: the buyer's rate, one-stop shop (category S).
    OneStopShop,
    /// Buyer outside the Union: outside the scope of VAT (category O).
    OutsideScope,
    /// The operator wrote down why none is charged (category E).
    Exempt,
}

/// One line: all use of one thing on one meter at one price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// What was counted.
    pub meter: Meter,
    /// The SKU or model class.
    pub item: String,
    /// How it is worded.
    pub label: String,
    /// Sum of the records' quantities, in the meter's unit.
    pub quantity: u64,
    /// The meter's unit.
    pub unit: String,
    /// Nano-euro for every `price_per` units.
    pub price_nano: u64,
    /// Units the price is for.
    pub price_per: u64,
    /// Version of the price book it was rated by.
    pub price_book: u32,
    /// The net amount, rounded once, half up.
    pub net: Cents,
    /// How many usage records are summed here.
    pub records: u64,
}

/// An invoice that is not issued yet: it has no number and changes with the use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceDraft {
    /// Who pays.
    pub organisation: OrganisationId,
    /// First instant of the period.
    pub from: Time,
    /// First instant after the period.
    pub until: Time,
    /// The lines, ordered by meter, item and price book.
    pub lines: Vec<InvoiceLine>,
    /// Sum of the lines.
    pub net: Cents,
    /// How VAT is charged.
    pub vat_rule: VatRule,
    /// The rate in hundredths of a percent (2000 is 20 %).
    pub vat_basis_points: u32,
    /// VAT on the sum, rounded once, half up.
    pub vat: Cents,
    /// What is to be paid.
    pub total: Cents,
}

/// Why no invoice can be drafted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// The period ends before it begins.
    #[error("the period ends at {until}, before it begins at {from}")]
    Period {
        /// First instant.
        from: Time,
        /// First instant after.
        until: Time,
    },
    /// A record of another organisation is among the events: whoever gathered them looked too far.
    #[error("usage event `{id}` belongs to another organisation")]
    Foreign {
        /// The event.
        id: String,
    },
    /// Two records share an id and say different things.
    #[error("two usage events carry the id `{id}` and say different things")]
    Conflict {
        /// The id.
        id: String,
    },
    /// The use has no price.
    #[error("usage event `{id}` cannot be rated")]
    Rate {
        /// The event.
        id: String,
        /// Why.
        #[source]
        source: RateError,
    },
    /// VAT of a country without a known rate.
    #[error("no standard VAT rate is known for `{country}`")]
    NoVatRate {
        /// The country.
        country: Jurisdiction,
    },
    /// An amount cannot be counted.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

/// Drafts the invoice of a period: what ended in `from..until`, each id once, one line for every meter, item and price
/// book. The order of the events changes nothing. Energy is shown elsewhere and has no line.
pub fn draft<'a>(
    organisation: &Organisation,
    seller: Jurisdiction,
    from: Time,
    until: Time,
    books: &[PriceBook],
    events: impl IntoIterator<Item = &'a UsageEvent>,
) -> Result<InvoiceDraft, InvoiceError> {
    let mut sums = Sums::new(organisation, from, until, books)?;
    for event in each_once(organisation.id, events)?.into_values() {
        sums.add(event)?;
    }
    sums.draft(seller)
}

/// An invoice's sums as they grow, for more events than should be in memory: one line's worth each.
#[derive(Debug)]
pub struct Sums<'a> {
    organisation: &'a Organisation,
    from: Time,
    until: Time,
    books: &'a [PriceBook],
    lines: BTreeMap<(Meter, String, u32), (&'a PriceRow, u64, u64)>,
}

impl<'a> Sums<'a> {
    /// Nothing yet, for a period.
    pub fn new(
        organisation: &'a Organisation,
        from: Time,
        until: Time,
        books: &'a [PriceBook],
    ) -> Result<Self, InvoiceError> {
        if until < from {
            return Err(InvoiceError::Period { from, until });
        }
        Ok(Self { organisation, from, until, books, lines: BTreeMap::new() })
    }

    /// Adds an event that was not added before: the caller sees to that each comes once (a store that keeps each id once
    /// does). What ended outside the period adds nothing.
    pub fn add(&mut self, event: &UsageEvent) -> Result<(), InvoiceError> {
        if event.organisation != self.organisation.id {
            return Err(InvoiceError::Foreign { id: event.id.clone() });
        }
        if event.ended_at < self.from || event.ended_at >= self.until {
            return Ok(());
        }
        let priced = meter::priced_by(event, self.books)
            .map_err(|source| InvoiceError::Rate { id: event.id.clone(), source })?;
        let Some((book, row)) = priced else { return Ok(()) };
        let line = (event.meter, event.item.clone(), book.version);
        let (_, quantity, records) = self.lines.entry(line).or_insert((row, 0, 0));
        *quantity = quantity.checked_add(event.quantity).ok_or(Overflow)?;
        *records += 1;
        Ok(())
    }

    /// The draft of what was added: one line for every meter, item and price book, and VAT on their sum.
    pub fn draft(self, seller: Jurisdiction) -> Result<InvoiceDraft, InvoiceError> {
        let (organisation, from, until) = (self.organisation, self.from, self.until);
        draft_of(organisation, seller, (from, until), self.lines()?)
    }

    /// The lines alone, ordered by meter, item and price book: what drafts and issued invoices both stand on.
    pub fn lines(self) -> Result<Vec<InvoiceLine>, InvoiceError> {
        lines_of(self.lines)
    }
}

fn draft_of(
    organisation: &Organisation,
    seller: Jurisdiction,
    (from, until): (Time, Time),
    lines: Vec<InvoiceLine>,
) -> Result<InvoiceDraft, InvoiceError> {
    let net = lines.iter().try_fold(Cents::ZERO, |sum, line| sum.add(line.net))?;
    let buyer = (organisation.country, organisation.vat_id.as_deref());
    let vat_rule = rule_for(buyer, organisation.billing.as_ref(), seller);
    let unknown = || InvoiceError::NoVatRate {
        country: if vat_rule == VatRule::OneStopShop { organisation.country } else { seller },
    };
    let vat_basis_points = vat::rate(vat_rule, seller, organisation.country).ok_or_else(unknown)?;
    let vat = vat_on(net, vat_basis_points)?;
    let total = net.add(vat)?;
    Ok(InvoiceDraft { organisation: organisation.id, from, until, lines, net, vat_rule, vat_basis_points, vat, total })
}

/// How VAT is charged to a buyer: not at all where the operator wrote down why.
fn rule_for(
    (country, vat_id): (Jurisdiction, Option<&str>),
    billing: Option<&Billing>,
    seller: Jurisdiction,
) -> VatRule {
    if billing.is_some_and(|billing| billing.exemption.is_some()) {
        return VatRule::Exempt;
    }
    vat::rule(seller, country, vat_id)
}

/// Each event once, by id. The same facts twice are one event; different facts under one id are refused.
fn each_once<'a>(
    organisation: OrganisationId,
    events: impl IntoIterator<Item = &'a UsageEvent>,
) -> Result<BTreeMap<&'a str, &'a UsageEvent>, InvoiceError> {
    let mut once: BTreeMap<&str, &UsageEvent> = BTreeMap::new();
    for event in events {
        if event.organisation != organisation {
            return Err(InvoiceError::Foreign { id: event.id.clone() });
        }
        let first = once.entry(&event.id).or_insert(event);
        if *first != event {
            return Err(InvoiceError::Conflict { id: event.id.clone() });
        }
    }
    Ok(once)
}

fn lines_of(sums: BTreeMap<(Meter, String, u32), (&PriceRow, u64, u64)>) -> Result<Vec<InvoiceLine>, InvoiceError> {
    let line =
        |((meter, item, price_book), (row, quantity, records)): ((Meter, String, u32), (&PriceRow, u64, u64))| {
            Ok(InvoiceLine {
                meter,
                item,
                label: row.label.clone(),
                quantity,
                unit: meter.unit().into(),
                price_nano: row.nano,
                price_per: row.per,
                price_book,
                net: row.net(quantity)?,
                records,
            })
        };
    sums.into_iter().map(line).collect()
}

/// VAT on a net amount, rounded once, half up (away from zero, so that a credit note mirrors its invoice).
fn vat_on(net: Cents, basis_points: u32) -> Result<Cents, Overflow> {
    let exact = i128::from(net.get()) * i128::from(basis_points);
    let rounded = (exact + exact.signum() * 5000) / 10_000;
    i64::try_from(rounded).map(Cents::new).map_err(|_| Overflow)
}
