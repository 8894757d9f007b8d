//! What a SKU costs by a price book, before anything runs on it.

#![deny(clippy::float_arithmetic)]

use crate::{
    meter::{Meter, RateError},
    money::{Nano, Overflow},
    price::{ANY_ITEM, PriceBook, PriceRow},
    replica,
    sku::Sku,
    time::Time,
};

/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

/// What an hour of one instance costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Version of the book.
    pub book: u32,
    /// An hour of a job, rounded up.
    pub job_hour: Nano,
    /// An hour of a served model, rounded up; none where the SKU serves none, or the book does not price it.
    pub served_hour: Option<Nano>,
    /// The meters that have no price for this SKU: what holds for every item (`*`) holds for it.
    pub by_any: Vec<Meter>,
}

/// What an hour of one instance costs by a book.
pub fn quote(book: &PriceBook, sku: &Sku) -> Result<Quote, RateError> {
    let served_hour = if sku.gpus == 0 { replica::cost(book, sku, HOUR_MS).ok() } else { None };
    let meters =
        [(Meter::ComputeCore, true), (Meter::Accelerator, sku.gpus > 0), (Meter::ReplicaCore, served_hour.is_some())];
    let is_any = |meter: &Meter| book.row(*meter, &sku.name).is_some_and(|row| row.item == ANY_ITEM);
    let by_any = meters.into_iter().filter(|(_, used)| *used).map(|(meter, _)| meter).filter(is_any).collect();
    Ok(Quote { book: book.version, job_hour: job(book, sku, HOUR_MS / 1000)?, served_hour, by_any })
}

/// The most a job can cost by a book: the whole shape for so many seconds, each meter rounded up.
pub fn job(book: &PriceBook, sku: &Sku, seconds: u64) -> Result<Nano, RateError> {
    // Thousandths of a core for a second are core-milliseconds.
    let cores = u64::from(sku.cpus_milli).checked_mul(seconds).ok_or(Overflow)?;
    let gpus = seconds.checked_mul(1000).and_then(|millis| u64::from(sku.gpus).checked_mul(millis)).ok_or(Overflow)?;
    let mut worst = Nano::ZERO;
    for (meter, quantity) in [(Meter::ComputeCore, cores), (Meter::Accelerator, gpus)] {
        if quantity > 0 {
            let no_price = || RateError::NoPrice { book: book.version, meter: meter.as_str(), item: sku.name.clone() };
            let row = book.row(meter, &sku.name).ok_or_else(no_price)?;
            worst = worst.add(row.amount_ceil(quantity)?)?;
        }
    }
    Ok(worst)
}

/// What an hour on each meter is to cost for one SKU, in nano-euro for a core or an accelerator. What is none stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prices {
    /// A core-hour of a job, or reserved.
    pub core_hour: Option<u64>,
    /// An accelerator-hour of a job, or reserved.
    pub accelerator_hour: Option<u64>,
    /// A core-hour of a served model.
    pub served_core_hour: Option<u64>,
}

impl Prices {
    /// The rows of these for a SKU, in words of the invoice.
    pub fn rows(&self, sku: &str) -> Vec<PriceRow> {
        let of = [
            (Meter::ComputeCore, self.core_hour, "CPU core"),
            // What is reserved costs what it would cost a job: else one would be booked to run the other.
            (Meter::ReservedCore, self.core_hour, "reserved CPU core"),
            (Meter::Accelerator, self.accelerator_hour, "accelerator"),
            (Meter::ReservedAccelerator, self.accelerator_hour, "reserved accelerator"),
            (Meter::ReplicaCore, self.served_core_hour, "served model, CPU core"),
        ];
        let row = |(meter, nano, what): (Meter, Option<u64>, &str)| {
            let label = format!("{sku}: {what}, per hour");
            Some(PriceRow { meter, item: sku.to_owned(), nano: nano?, per: HOUR_MS, label })
        };
        of.into_iter().filter_map(row).collect()
    }
}

/// A book with some prices instead of those it had, or beside them. It holds from a time on; the old one keeps rating what was
/// used before.
pub fn repriced(book: &PriceBook, version: u32, from: Time, rows: Vec<PriceRow>) -> PriceBook {
    let is_new = |old: &PriceRow| rows.iter().any(|row| row.meter == old.meter && row.item == old.item);
    let kept: Vec<PriceRow> = book.rows.iter().filter(|old| !is_new(old)).cloned().collect();
    PriceBook { version, from, rows: kept.into_iter().chain(rows).collect() }
}

/// Whether a row asks more for its item than a book does. Where the book says nothing, anything is more.
pub fn is_dearer(book: &PriceBook, row: &PriceRow) -> bool {
    let asked = |nano: u64, per: u64| u128::from(nano) * u128::from(per);
    book.row(row.meter, &row.item).is_none_or(|old| asked(row.nano, old.per) > asked(old.nano, row.per))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{price::default_book, sku::default_skus};

    #[test]
    fn a_quote_says_which_prices_are_not_its_own() {
        let mut book = default_book(Time::from_millis(0));
        let gpu = Sku { name: "h100.8".into(), gpus: 8, cpus_milli: 96_000, ..default_skus().remove(0) };
        let cents = |cents: i64| Nano::new(cents * Nano::PER_CENT);
        let all = quote(&book, &gpu).unwrap();
        assert_eq!((all.job_hour, all.served_hour), (cents(96 * 4 + 8 * 240), None));
        assert_eq!(all.by_any, [Meter::ComputeCore, Meter::Accelerator]);
        let own = crate::price::PriceRow { item: "h100.8".into(), nano: 0, ..book.rows[0].clone() };
        book.rows.push(own);
        let own = quote(&book, &gpu).unwrap();
        assert_eq!((own.job_hour, own.by_any), (cents(8 * 240), vec![Meter::Accelerator]));
        let served = quote(&book, &default_skus().remove(1)).unwrap();
        assert_eq!((served.job_hour, served.served_hour), (cents(8), Some(cents(4))));
        assert_eq!(job(&book, &gpu, u64::MAX), Err(RateError::from(Overflow)));
    }
    #[test]
    fn a_price_of_its_own_stands_instead_of_an_older_one_and_leaves_the_rest() {
        let book = default_book(Time::from_millis(0));
        let cents = |cents: u64| cents * Nano::PER_CENT.unsigned_abs();
        let first = Prices { core_hour: Some(cents(3)), accelerator_hour: Some(cents(210)), ..Prices::default() };
        let once = repriced(&book, 2, Time::from_millis(5), first.rows("h100.8"));
        let again = Prices { core_hour: Some(cents(4)), ..Prices::default() }.rows("h100.8");
        assert!(is_dearer(&once, &again[0]) && !is_dearer(&book, &again[0]), "4 is more than 3, and no more than 4");
        let twice = repriced(&once, 3, Time::from_millis(9), again);
        assert_eq!((twice.version, twice.from, twice.check()), (3, Time::from_millis(9), Ok(())));
        assert_eq!(twice.rows.len(), book.rows.len() + 4);
        let nano = |item: &str, meter| twice.row(meter, item).unwrap().nano;
        assert_eq!((nano("h100.8", Meter::ComputeCore), nano("h100.8", Meter::Accelerator)), (cents(4), cents(210)));
        let reserved = (nano("h100.8", Meter::ReservedCore), nano("h100.8", Meter::ReservedAccelerator));
        assert_eq!(reserved, (cents(4), cents(210)), "what is reserved costs what it costs a job");
        assert_eq!((nano("cpu.1", Meter::ComputeCore), nano("h100.8", Meter::ReplicaCore)), (cents(4), cents(2)));
    }
}
