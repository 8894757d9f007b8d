//! Issued invoices and credit notes: numbered, whole, and never changed.
//!
//! An organisation's invoices reach as far as [`Reach`] says: a month and a place in the order of arrival. What is not
//! covered goes on the next one, so all use is on exactly one invoice, whenever it arrives. Nothing is ever rewritten: what
//! arrives late is a line that names its month, and what was wrong is a credit note.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    InvoiceError, VatRule,
    gather::{IssuedLine, Made, Reach},
    party::{Billing, Buyer, Seller},
    rule_for, vat_on,
};
use crate::{
    id::OrganisationId,
    meter::Meter,
    money::{Cents, Nano, Overflow},
    month::{Month, date},
    organisation::Organisation,
    time::Time,
    vat,
};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Asks for money.
    Invoice,
    /// Takes an invoice back, or a part of it.
    CreditNote,
}

/// How EN 16931 codes the VAT of a sum (UNTDID 5305).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Category {
    /// Standard rate.
    S,
    /// Reverse charge: the buyer accounts for it.
    AE,
    /// Exempt, with a reason.
    E,
    /// Not subject to VAT.
    O,
}

impl Category {
    /// The category of a rule.
    pub const fn of(rule: VatRule) -> Self {
        match rule {
            VatRule::Domestic | VatRule::OneStopShop => Self::S,
            VatRule::ReverseCharge => Self::AE,
            VatRule::OutsideScope => Self::O,
            VatRule::Exempt => Self::E,
        }
    }
}

/// How VAT stands on a document: one category for all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VatSum {
    /// The category.
    pub category: Category,
    /// The rate in hundredths of a percent.
    pub basis_points: u32,
    /// Why none is charged, where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The amount, rounded once on the sum.
    pub amount: Cents,
}

/// Which invoice a credit note takes back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credits {
    /// The invoice's number.
    pub number: String,
    /// The day it was issued.
    pub issued_on: String,
    /// Why.
    pub reason: String,
}

/// An issued invoice or credit note, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its number: the series and a place in it, without gaps.
    pub number: String,
    /// What it is.
    pub kind: Kind,
    /// Who pays.
    pub organisation: OrganisationId,
    /// When it was issued.
    pub issued_at: Time,
    /// The day of it, UTC.
    pub issued_on: String,
    /// The day by which to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_on: Option<String>,
    /// First instant of its month.
    pub from: Time,
    /// First instant after its month.
    pub until: Time,
    /// Place, in the order of arrival, of the newest use that had arrived.
    pub through: u64,
    /// How far the organisation's earlier invoices reached.
    pub since: Reach,
    /// Always `EUR`.
    pub currency: String,
    /// Who sells.
    pub seller: Seller,
    /// Who buys.
    pub buyer: Buyer,
    /// Its lines.
    pub lines: Vec<IssuedLine>,
    /// Digest of the records it was made of (see [`super::RecordsDigest`]); absent on what earlier versions issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Sum of the lines.
    pub net: Cents,
    /// VAT on it.
    pub vat: VatSum,
    /// What is to be paid, or given back.
    pub total: Cents,
    /// Of a credit note: what it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<Credits>,
}

/// When an invoice is issued, and as what.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// The number.
    pub number: String,
    /// When.
    pub at: Time,
}

/// The number of a document: its series and its place in it.
pub fn number(series: &str, place: u64) -> String {
    format!("{series}-{place:06}")
}

/// SHA-256 of a frozen document, hex.
pub fn digest(document: &str) -> String {
    hex::encode(Sha256::digest(document))
}

/// Issues the invoice of a month over its lines. None where none has a price: then nothing is asked for, and no number is
/// used.
pub fn issue(
    numbered: Numbered,
    (organisation, billing): (&Organisation, &Billing),
    (seller, due_days): (&Seller, u32),
    (month, since, through): (Month, Reach, u64),
    made: Made,
) -> Result<Option<Invoice>, InvoiceError> {
    let lines = made.lines;
    if lines.iter().all(|line| line.line.price_nano == 0) {
        return Ok(None);
    }
    let net = sum(&lines)?;
    let vat = vat_of(organisation, billing, seller, net)?;
    let due = numbered.at.plus_seconds(i64::from(due_days).saturating_mul(86_400));
    Ok(Some(Invoice {
        number: numbered.number,
        kind: Kind::Invoice,
        organisation: organisation.id,
        issued_at: numbered.at,
        issued_on: date(numbered.at),
        due_on: Some(date(due)),
        from: month.from,
        until: month.until,
        through,
        since,
        currency: "EUR".into(),
        seller: seller.clone(),
        buyer: Buyer { billing: billing.clone(), country: organisation.country, vat_id: organisation.vat_id.clone() },
        lines,
        records: Some(made.records),
        net,
        total: net.add(vat.amount)?,
        vat,
        credits: None,
    }))
}

fn sum(lines: &[IssuedLine]) -> Result<Cents, Overflow> {
    lines.iter().try_fold(Cents::ZERO, |sum, line| sum.add(line.line.net))
}

fn vat_of(organisation: &Organisation, billing: &Billing, seller: &Seller, net: Cents) -> Result<VatSum, InvoiceError> {
    let rule = rule_for((organisation.country, organisation.vat_id.as_deref()), Some(billing), seller.country);
    let reason = match rule {
        VatRule::Domestic | VatRule::OneStopShop => None,
        VatRule::ReverseCharge => Some("Reverse charge"),
        VatRule::OutsideScope => Some("Not subject to VAT"),
        VatRule::Exempt => billing.exemption.as_deref(),
    };
    let country = if rule == VatRule::OneStopShop { organisation.country } else { seller.country };
    let basis_points =
        vat::rate(rule, seller.country, organisation.country).ok_or(InvoiceError::NoVatRate { country })?;
    Ok(VatSum {
        category: Category::of(rule),
        basis_points,
        reason: reason.map(Into::into),
        amount: vat_on(net, basis_points)?,
    })
}

/// What of one line is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The invoice's line.
    pub line: u32,
    /// How much of its net amount.
    pub net: Cents,
}

/// Why nothing can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// A credit note has nothing to take back.
    #[error("`{number}` is a credit note: only an invoice can be taken back")]
    Kind {
        /// Its number.
        number: String,
    },
    /// There is no such line.
    #[error("the invoice has no line {line}, or it is named twice")]
    Line {
        /// What was named.
        line: u32,
    },
    /// More than is left.
    #[error("line {line} has {left} EUR left to take back, and {asked} EUR were asked for")]
    Beyond {
        /// The line.
        line: u32,
        /// What is left of it.
        left: Cents,
        /// What was asked for.
        asked: Cents,
    },
    /// Nothing is left, or nothing was asked for.
    #[error("there is nothing to take back")]
    Nothing,
    /// An amount cannot be counted.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

/// Takes an invoice back, or parts of its lines: everything that is left of it where no part is named. What was taken back
/// before counts, so that all credit notes together never exceed the invoice, line by line. VAT is rounded on all of them
/// together: once the whole net amount is taken back, so is the whole VAT, to the cent.
pub fn credit(
    numbered: Numbered,
    invoice: &Invoice,
    before: &[Invoice],
    parts: Option<&[Taken]>,
    reason: &str,
) -> Result<Invoice, CreditError> {
    if invoice.kind != Kind::Invoice {
        return Err(CreditError::Kind { number: invoice.number.clone() });
    }
    let lines = taken(invoice, before, parts)?;
    if lines.is_empty() {
        return Err(CreditError::Nothing);
    }
    let net = sum(&lines)?;
    let sum_before = |of: fn(&Invoice) -> Cents| before.iter().try_fold(Cents::ZERO, |sum, note| sum.add(of(note)));
    let (net_before, vat_before) = (sum_before(|note| note.net)?, sum_before(|note| note.vat.amount)?);
    let vat_after = vat_on(net_before.add(net)?, invoice.vat.basis_points)?;
    let amount = vat_after.add(Cents::new(-vat_before.get()))?;
    Ok(Invoice {
        number: numbered.number,
        kind: Kind::CreditNote,
        issued_at: numbered.at,
        issued_on: date(numbered.at),
        due_on: None,
        lines,
        records: None,
        net,
        total: net.add(amount)?,
        vat: VatSum { amount, ..invoice.vat.clone() },
        credits: Some(Credits {
            number: invoice.number.clone(),
            issued_on: invoice.issued_on.clone(),
            reason: reason.to_owned(),
        }),
        ..invoice.clone()
    })
}

fn taken(invoice: &Invoice, before: &[Invoice], parts: Option<&[Taken]>) -> Result<Vec<IssuedLine>, CreditError> {
    let gone = |number: u32| -> Result<Cents, Overflow> {
        let lines = before.iter().flat_map(|note| &note.lines).filter(|line| line.number == number);
        lines.into_iter().try_fold(Cents::ZERO, |sum, line| sum.add(line.line.net))
    };
    let mut lines = Vec::new();
    if let Some(parts) = parts {
        for (place, part) in parts.iter().enumerate() {
            let found = invoice.lines.iter().find(|line| line.number == part.line);
            let twice = parts[..place].iter().any(|other| other.line == part.line);
            let line = found.filter(|_| !twice).ok_or(CreditError::Line { line: part.line })?;
            let left = Cents::new(line.line.net.get() - gone(part.line)?.get());
            if part.net > left {
                return Err(CreditError::Beyond { line: part.line, left, asked: part.net });
            }
            if part.net <= Cents::ZERO {
                return Err(CreditError::Nothing);
            }
            lines.push(part_of(line, part.net)?);
        }
        return Ok(lines);
    }
    for line in &invoice.lines {
        let left = Cents::new(line.line.net.get() - gone(line.number)?.get());
        if left > Cents::ZERO {
            lines.push(part_of(line, left)?);
        }
    }
    Ok(lines)
}

/// A credit note's line: the invoice's whole line as it stands there, else one amount of it.
fn part_of(line: &IssuedLine, net: Cents) -> Result<IssuedLine, Overflow> {
    if line.line.net == net {
        return Ok(line.clone());
    }
    let mut part = line.clone();
    part.line.net = net;
    part.line.quantity = 1;
    PART.clone_into(&mut part.line.unit);
    part.line.price_nano = u64::try_from(net.to_nano()?.get()).map_err(|_| Overflow)?;
    part.line.price_per = 1;
    part.line.records = 0;
    Ok(part)
}

/// The unit of a line that is one amount and counts nothing.
pub const PART: &str = "part";

/// How an issued line's unit is coded (UN/ECE Recommendation 20): time by the millisecond, everything else one by one.
pub(super) fn unit_code(meter: Meter, unit: &str) -> &'static str {
    match meter {
        _ if unit == PART => "C62",
        Meter::TokensIn | Meter::TokensOut => "C62",
        Meter::Energy => "D30",
        _ => "C26",
    }
}

/// What leaves the ledger's `accrued` with an invoice: exactly what was charged for the use on it, in nano-euro. It goes
/// back to where credit comes from; from then on the money is owed on the invoice, in whole cents.
pub fn invoiced(rated: Nano) -> Result<Vec<crate::ledger::Leg>, Overflow> {
    crate::ledger::moved(crate::ledger::Account::Accrued, crate::ledger::Account::Funding, rated)
}
