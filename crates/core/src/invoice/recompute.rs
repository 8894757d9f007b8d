//! A second way to the same invoice, for whoever does not trust the first.
//!
//! It is written apart from [`super::draft`] on purpose and shares no arithmetic with it. It starts from the records as
//! they were downloaded (JSON, not our types), looks prices up in the published books by itself, keeps each line as an
//! exact fraction of a cent over all its records (amounts are summed; `draft` sums quantities), and rounds by doubling
//! numerator and denominator. It takes from the draft only what the draft claims: the period and the VAT rate.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use serde_json::Value;

use super::InvoiceDraft;
use crate::{money::Cents, price::PriceBook};

/// What the records come to, and where the draft says something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recomputed {
    /// Sum of the lines.
    pub net: Cents,
    /// VAT on it.
    pub vat: Cents,
    /// What is to be paid.
    pub total: Cents,
    /// How many different records were counted.
    pub records: u64,
    /// Where the draft differs, in words. Empty: it re-derives.
    pub differences: Vec<String>,
}

impl Recomputed {
    /// Whether the draft re-derives, line by line.
    pub const fn agrees(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Why the records cannot be added up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecomputeError {
    /// A record lacks something or says something that cannot be.
    #[error("usage record {number}: `{field}` is missing or not {expected}")]
    Record {
        /// Which record, from 1.
        number: usize,
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Two records share an id and say different things.
    #[error("usage record {number}: the id `{id}` was seen before with other facts")]
    Conflict {
        /// Which record, from 1.
        number: usize,
        /// The id.
        id: String,
    },
    /// No published price holds for a record.
    #[error("usage record {number}: no published price for `{item}` on `{meter}`")]
    NoPrice {
        /// Which record, from 1.
        number: usize,
        /// The meter.
        meter: String,
        /// The item.
        item: String,
    },
    /// The amounts cannot be counted.
    #[error("the amounts are too large to count")]
    TooLarge,
}

/// A line as the records give it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    nano_times_quantity: i128,
    pub(super) per: i128,
    pub(super) nano: u64,
    pub(super) quantity: u64,
    pub(super) records: u64,
}

impl Sum {
    /// Takes in another sum at the same price.
    pub(super) fn join(&mut self, other: &Self) -> Result<(), RecomputeError> {
        let too_large = RecomputeError::TooLarge;
        self.nano_times_quantity =
            self.nano_times_quantity.checked_add(other.nano_times_quantity).ok_or(too_large.clone())?;
        self.quantity = self.quantity.checked_add(other.quantity).ok_or(too_large)?;
        (self.per, self.nano) = (other.per, other.nano);
        self.records += other.records;
        Ok(())
    }

    /// What it costs, in cents.
    pub(super) fn cents(&self) -> Result<i64, RecomputeError> {
        nearest(self.nano_times_quantity, self.per.checked_mul(10_000_000).ok_or(RecomputeError::TooLarge)?)
    }
}

/// Adds up raw usage records and compares the result with a draft, line by line.
pub fn recompute<'a>(
    draft: &InvoiceDraft,
    books: &[PriceBook],
    records: impl IntoIterator<Item = &'a Value>,
) -> Result<Recomputed, RecomputeError> {
    let mut seen: HashMap<&str, &Value> = HashMap::new();
    let mut sums: BTreeMap<(String, String, u32), Sum> = BTreeMap::new();
    let mut counted = 0;
    for (index, record) in records.into_iter().enumerate() {
        let number = index + 1;
        let id = text(record, "id", number)?;
        if let Some(first) = seen.insert(id, record) {
            if first != record {
                return Err(RecomputeError::Conflict { number, id: id.into() });
            }
            continue;
        }
        let ended = text(record, "ended_at", number)?
            .parse::<jiff::Timestamp>()
            .map_err(|_| RecomputeError::Record { number, field: "ended_at", expected: "an RFC 3339 time" })?
            .as_millisecond();
        if ended < draft.from.as_millis() || ended >= draft.until.as_millis() {
            continue;
        }
        counted += 1;
        add(&mut sums, record, ended, number, books)?;
    }
    conclude(draft, &sums, counted)
}

pub(super) fn add(
    sums: &mut BTreeMap<(String, String, u32), Sum>,
    record: &Value,
    ended: i64,
    number: usize,
    books: &[PriceBook],
) -> Result<(), RecomputeError> {
    let meter = text(record, "meter", number)?;
    let item = text(record, "item", number)?;
    // What is shown and never priced: energy, and what was used inside a reservation, which is paid by itself.
    if matches!(meter, "energy" | "covered_core" | "covered_accelerator") {
        return Ok(());
    }
    let quantity = record.get("quantity").and_then(Value::as_u64).ok_or(RecomputeError::Record {
        number,
        field: "quantity",
        expected: "a whole number from 0",
    })?;
    // Newest book first; the first one that had begun holds.
    let mut by_age: Vec<&PriceBook> = books.iter().collect();
    by_age.sort_by_key(|book| Reverse((book.from.as_millis(), book.version)));
    let book = by_age.into_iter().find(|book| book.from.as_millis() <= ended);
    let rows = book.map_or(&[][..], |book| &book.rows[..]);
    let mut candidates: Vec<_> =
        rows.iter().filter(|row| row.meter.as_str() == meter && (row.item == item || row.item == "*")).collect();
    candidates.sort_by_key(|row| row.item != item);
    let (Some(book), Some(row)) = (book, candidates.first().filter(|row| row.per > 0)) else {
        return Err(RecomputeError::NoPrice { number, meter: meter.into(), item: item.into() });
    };
    let sum = sums.entry((meter.into(), item.into(), book.version)).or_default();
    let cost = i128::from(row.nano).checked_mul(i128::from(quantity)).ok_or(RecomputeError::TooLarge)?;
    sum.nano_times_quantity = sum.nano_times_quantity.checked_add(cost).ok_or(RecomputeError::TooLarge)?;
    sum.quantity = sum.quantity.checked_add(quantity).ok_or(RecomputeError::TooLarge)?;
    sum.per = i128::from(row.per);
    sum.nano = row.nano;
    sum.records += 1;
    Ok(())
}

fn conclude(
    draft: &InvoiceDraft,
    sums: &BTreeMap<(String, String, u32), Sum>,
    records: u64,
) -> Result<Recomputed, RecomputeError> {
    let mut differences = Vec::new();
    let mut net = 0i64;
    for ((meter, item, book), sum) in sums {
        let cents = sum.cents()?;
        net = net.checked_add(cents).ok_or(RecomputeError::TooLarge)?;
        let name = format!("`{item}` on `{meter}` by price book {book}");
        let mut lines = draft
            .lines
            .iter()
            .filter(|line| line.meter.as_str() == meter && line.item == *item && line.price_book == *book);
        let (Some(line), None) = (lines.next(), lines.next()) else {
            differences.push(format!("{name}: {} records, but not exactly one line", sum.records));
            continue;
        };
        let mut compare = |what: &str, ours: u64, theirs: u64| {
            if ours != theirs {
                differences.push(format!("{name}: {what} is {ours} by the records, {theirs} on the invoice"));
            }
        };
        compare("quantity", sum.quantity, line.quantity);
        compare("number of records", sum.records, line.records);
        compare("price", sum.nano, line.price_nano);
        compare("price unit", u64::try_from(sum.per).unwrap_or(0), line.price_per);
        if cents != line.net.get() {
            differences.push(format!("{name}: {} by the records, {} on the invoice", Cents::new(cents), line.net));
        }
    }
    for line in &draft.lines {
        let key = (line.meter.as_str().to_owned(), line.item.clone(), line.price_book);
        if !sums.contains_key(&key) {
            differences.push(format!("`{}` on `{}`: a line without records", line.item, line.meter.as_str()));
        }
    }
    let vat = nearest(i128::from(net) * i128::from(draft.vat_basis_points), 10_000)?;
    let total = net.checked_add(vat).ok_or(RecomputeError::TooLarge)?;
    for (what, ours, theirs) in [("net", net, draft.net), ("VAT", vat, draft.vat), ("total", total, draft.total)] {
        if ours != theirs.get() {
            differences.push(format!("{what}: {} by the records, {theirs} on the invoice", Cents::new(ours)));
        }
    }
    Ok(Recomputed { net: Cents::new(net), vat: Cents::new(vat), total: Cents::new(total), records, differences })
}

/// Nearest whole number to a fraction that is not negative, ties up.
pub(super) fn nearest(numerator: i128, denominator: i128) -> Result<i64, RecomputeError> {
    let doubled = numerator.checked_mul(2).and_then(|twice| twice.checked_add(denominator));
    let rounded = doubled.map(|sum| sum.div_euclid(2 * denominator));
    rounded.and_then(|value| i64::try_from(value).ok()).ok_or(RecomputeError::TooLarge)
}

pub(super) fn text<'a>(record: &'a Value, field: &'static str, number: usize) -> Result<&'a str, RecomputeError> {
    let expected = "a text";
    record.get(field).and_then(Value::as_str).ok_or(RecomputeError::Record { number, field, expected })
}
