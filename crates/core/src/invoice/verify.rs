//! An issued invoice computed again by whoever received it, from an export of what it was made of: no server is asked, and
//! no arithmetic is shared with what issued it (it is [`super::recompute`]'s).

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    issue::{Category, Invoice, Kind, digest},
    recompute::{RecomputeError, Sum, add, nearest, text},
    records::RecordsDigest,
    rule_for,
};
use crate::{money::Cents, price::PriceBook, vat};

/// A line of an export, which is JSON lines: the invoice first, then the price books, then the raw records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "export", rename_all = "snake_case", deny_unknown_fields)]
pub enum Exported {
    /// The invoice, as it is kept.
    Invoice {
        /// SHA-256 of the document, hex; the audit log holds it too.
        digest: String,
        /// The frozen document, as text: its bytes are what was digested.
        document: String,
    },
    /// A price book it was rated by.
    PriceBook {
        /// The book.
        book: PriceBook,
    },
    /// A raw usage record.
    Record {
        /// The record, as the site sent it.
        record: Value,
    },
}

/// What an export comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The invoice's number.
    pub number: String,
    /// What is to be paid.
    pub total: Cents,
    /// How many lines were computed again.
    pub lines: u32,
    /// From how many records.
    pub records: u64,
    /// SHA-256 of the frozen document, hex: the audit log has it too, and whoever forges a whole export has to change it.
    pub digest: String,
    /// Whether the document holds its records by a digest; what earlier versions issued does not.
    pub is_held: bool,
}

/// Why an export does not verify. Of several differences, the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is not an export.
    #[error("line {line} of the export: {why}")]
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The document is not the one that was digested.
    #[error("the invoice's digest is `{ours}` by its bytes, `{theirs}` in the export")]
    Digest {
        /// By its bytes.
        ours: String,
        /// As exported.
        theirs: String,
    },
    /// A record cannot be counted.
    #[error(transparent)]
    Record(#[from] RecomputeError),
    /// The invoice says something else than its records.
    #[error("{what}: {ours} by the records, {theirs} on the invoice")]
    Differs {
        /// What differs.
        what: String,
        /// By the records.
        ours: String,
        /// On the invoice.
        theirs: String,
    },
}

/// One line's worth: whether it is late and for which month, meter, item, price book.
type Key = (Option<String>, String, String, u32);

/// Computes an invoice again from its export, line by line, then VAT and total.
pub fn verify<E: std::fmt::Display>(
    lines: impl IntoIterator<Item = Result<String, E>>,
) -> Result<Verified, VerifyError> {
    let mut invoice = None;
    let (mut books, mut ids, mut sums) = (Vec::new(), HashSet::new(), BTreeMap::<Key, Sum>::new());
    let (mut records, mut all) = (0, RecordsDigest::default());
    for (index, line) in lines.into_iter().enumerate() {
        let wrong = |why: String| VerifyError::Malformed { line: index + 1, why };
        let line = line.map_err(|error| wrong(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        match (serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?, &invoice) {
            (Exported::Invoice { digest, document }, None) => {
                invoice = Some((opened(&digest, &document, index + 1)?, digest));
            }
            (Exported::Invoice { .. }, Some(_)) => return Err(wrong("a second invoice".into())),
            (_, None) => return Err(wrong("the invoice comes first".into())),
            (Exported::PriceBook { book }, Some(_)) => {
                if books.iter().any(|there: &PriceBook| there.version == book.version) {
                    return Err(wrong(format!("a second price book {}", book.version)));
                }
                books.push(book);
            }
            (Exported::Record { record }, Some((invoice, _))) => {
                count(invoice, &record, &books, &mut ids, &mut sums, index + 1)?;
                all.add(&record);
                records += 1;
            }
        }
    }
    let (invoice, digest) = invoice.ok_or(VerifyError::Malformed { line: 1, why: "the export is empty".into() })?;
    compare(&invoice, sums)?;
    totals(&invoice)?;
    let ours = all.hex();
    if let Some(theirs) = invoice.records.as_ref().filter(|theirs| **theirs != ours) {
        return Err(differs("the digest of all records".into(), &ours, theirs));
    }
    let lines = u32::try_from(invoice.lines.len()).unwrap_or(u32::MAX);
    let is_held = invoice.records.is_some();
    Ok(Verified { number: invoice.number, total: invoice.total, lines, records, digest, is_held })
}

fn opened(theirs: &str, document: &str, line: usize) -> Result<Invoice, VerifyError> {
    let ours = digest(document);
    if ours != theirs {
        return Err(VerifyError::Digest { ours, theirs: theirs.to_owned() });
    }
    let invoice: Invoice = serde_json::from_str(document)
        .map_err(|error| VerifyError::Malformed { line, why: format!("the invoice: {error}") })?;
    if invoice.kind == Kind::CreditNote {
        return Err(VerifyError::Malformed { line, why: "a credit note is made of an invoice, not of records".into() });
    }
    Ok(invoice)
}

fn count(
    invoice: &Invoice,
    record: &Value,
    books: &[PriceBook],
    ids: &mut HashSet<String>,
    sums: &mut BTreeMap<Key, Sum>,
    number: usize,
) -> Result<(), VerifyError> {
    let wrong = |why: &str| VerifyError::Malformed { line: number, why: why.to_owned() };
    if !ids.insert(text(record, "id", number)?.to_owned()) {
        return Err(wrong("a record that was there before"));
    }
    if text(record, "organisation", number)? != invoice.organisation.to_string() {
        return Err(wrong("a record of another organisation"));
    }
    let at = text(record, "ended_at", number)?;
    let ended = at.parse::<jiff::Timestamp>().map_err(|_| wrong("`ended_at` is not an RFC 3339 time"))?;
    let millis = ended.as_millisecond();
    if millis >= invoice.until.as_millis() {
        return Err(wrong("a record of use that ended after the invoice's month"));
    }
    // The month of a time is what its UTC text begins with.
    let late = (millis < invoice.from.as_millis()).then(|| ended.to_string().chars().take(7).collect::<String>());
    let mut one = BTreeMap::new();
    add(&mut one, record, millis, number, books)?;
    for ((meter, item, book), sum) in one {
        sums.entry((late.clone(), meter, item, book)).or_default().join(&sum)?;
    }
    Ok(())
}

fn compare(invoice: &Invoice, mut sums: BTreeMap<Key, Sum>) -> Result<(), VerifyError> {
    for line in &invoice.lines {
        let said = &line.line;
        let name = |what: &str| format!("line {} (`{}`): {what}", line.number, said.label);
        let key = (line.late.clone(), said.meter.as_str().to_owned(), said.item.clone(), said.price_book);
        let Some(sum) = sums.remove(&key) else {
            return Err(differs(name("records"), &0, &said.records));
        };
        let numbers = [
            ("records", sum.records, said.records),
            ("quantity", sum.quantity, said.quantity),
            ("price in nano-euro", sum.nano, said.price_nano),
            ("units the price is for", u64::try_from(sum.per).unwrap_or(0), said.price_per),
        ];
        for (what, ours, theirs) in numbers {
            if ours != theirs {
                return Err(differs(name(what), &ours, &theirs));
            }
        }
        let ours = Cents::new(sum.cents()?);
        if ours != said.net {
            return Err(differs(name("net"), &ours, &said.net));
        }
    }
    match sums.into_iter().next() {
        None => Ok(()),
        Some(((late, meter, item, _), sum)) => {
            let of = late.map(|month| format!(" of {month}")).unwrap_or_default();
            Err(differs(format!("`{item}` on `{meter}`{of}: records"), &sum.records, &"no line"))
        }
    }
}

/// The category and rate that seller and buyer come to, and the only currency there is.
fn terms(invoice: &Invoice) -> Result<(), VerifyError> {
    let buyer = &invoice.buyer;
    let seller = invoice.seller.country;
    let rule = rule_for((buyer.country, buyer.vat_id.as_deref()), Some(&buyer.billing), seller);
    let (category, rate) = (Category::of(rule), vat::rate(rule, seller, buyer.country));
    for (what, ours, theirs) in [
        ("currency", "EUR".to_owned(), invoice.currency.clone()),
        ("VAT category", format!("{category:?}"), format!("{:?}", invoice.vat.category)),
        ("VAT rate in hundredths of a percent", rate.unwrap_or(0).to_string(), invoice.vat.basis_points.to_string()),
    ] {
        if ours != theirs {
            return Err(VerifyError::Differs { what: format!("{what}, by seller and buyer"), ours, theirs });
        }
    }
    Ok(())
}

fn totals(invoice: &Invoice) -> Result<(), VerifyError> {
    terms(invoice)?;
    let too_large = || VerifyError::Record(RecomputeError::TooLarge);
    let net: i128 = invoice.lines.iter().map(|line| i128::from(line.line.net.get())).sum();
    let vat = nearest(net.checked_mul(invoice.vat.basis_points.into()).ok_or_else(too_large)?, 10_000)?;
    let total = i64::try_from(net).ok().and_then(|net| net.checked_add(vat)).ok_or_else(too_large)?;
    let net = i64::try_from(net).map_err(|_| too_large())?;
    for (what, ours, theirs) in
        [("net", net, invoice.net), ("VAT", vat, invoice.vat.amount), ("total", total, invoice.total)]
    {
        if ours != theirs.get() {
            return Err(differs(what.to_owned(), &Cents::new(ours), &theirs));
        }
    }
    Ok(())
}

fn differs(what: String, ours: &impl ToString, theirs: &impl ToString) -> VerifyError {
    VerifyError::Differs { what, ours: ours.to_string(), theirs: theirs.to_string() }
}
