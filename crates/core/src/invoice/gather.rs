//! What stands on an invoice that is issued: the use of its month, and use of earlier months that arrived since.

use std::collections::BTreeMap;

use super::{InvoiceError, InvoiceLine, RecordsDigest, Sums};
use crate::{meter::UsageEvent, money::Nano, month::Month, organisation::Organisation, price::PriceBook, time::Time};

/// How far the invoices of an organisation reach: all use that ended before `until` and had arrived as number `through` is
/// on one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Reach {
    /// First instant after the newest invoice's month.
    pub until: Time,
    /// Place, in the order of arrival, of the newest use that had arrived then.
    pub through: u64,
}

impl Reach {
    /// Whether use is on an invoice already.
    pub fn covers(&self, ended_at: Time, arrived: u64) -> bool {
        ended_at < self.until && arrived <= self.through
    }
}

/// The sums of an invoice as they grow, month by month.
#[derive(Debug)]
pub struct Gathered<'a> {
    organisation: &'a Organisation,
    books: &'a [PriceBook],
    month: Month,
    months: BTreeMap<Month, Sums<'a>>,
    rated: Nano,
    records: RecordsDigest,
}

/// What an invoice is made of: its lines, what the ledger was charged for them, and a digest of every record.
#[derive(Debug)]
pub struct Made {
    /// The lines, in order.
    pub lines: Vec<IssuedLine>,
    /// What the ledger was charged for all of it.
    pub rated: Nano,
    /// See [`RecordsDigest`].
    pub records: String,
}

impl<'a> Gathered<'a> {
    /// Nothing yet, for a month.
    pub fn new(organisation: &'a Organisation, month: Month, books: &'a [PriceBook]) -> Self {
        let records = RecordsDigest::default();
        Self { organisation, books, month, months: BTreeMap::new(), rated: Nano::ZERO, records }
    }

    /// Adds use that is on no invoice yet, and what the ledger was charged for it. Each comes once; what ended after the month
    /// adds nothing.
    pub fn add(&mut self, event: &UsageEvent, rated: Nano) -> Result<(), InvoiceError> {
        if event.ended_at >= self.month.until {
            return Ok(());
        }
        let month = Month::of(event.ended_at);
        let sums = match self.months.entry(month) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(Sums::new(self.organisation, month.from, month.until, self.books)?)
            }
        };
        sums.add(event)?;
        self.records.add_event(event);
        self.rated = self.rated.add(rated)?;
        Ok(())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.months.is_empty()
    }

    /// The lines: the month's own first, then those of earlier months, oldest first, each naming its month.
    pub fn made(mut self) -> Result<Made, InvoiceError> {
        let mut issued = Vec::new();
        let own = self.months.remove(&self.month);
        let mut add = |late: Option<Month>, sums: Sums<'_>| -> Result<(), InvoiceError> {
            for line in sums.lines()? {
                let number = u32::try_from(issued.len() + 1).unwrap_or(u32::MAX);
                issued.push(IssuedLine { number, line, late: late.map(|month| month.to_string()) });
            }
            Ok(())
        };
        if let Some(own) = own {
            add(None, own)?;
        }
        for (month, sums) in self.months {
            add(Some(month), sums)?;
        }
        Ok(Made { lines: issued, rated: self.rated, records: self.records.hex() })
    }
}

/// A line of an issued invoice.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IssuedLine {
    /// Its number on the invoice, from 1.
    pub number: u32,
    /// What was used, at which price.
    #[serde(flatten)]
    pub line: InvoiceLine,
    /// The earlier month (`2026-10`) the use belongs to: it is on no earlier invoice, because it
    /// arrived late or because that month was never invoiced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<String>,
}
