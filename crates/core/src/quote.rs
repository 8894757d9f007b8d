//! What a SKU costs by a price book, before anything runs on it.

#![deny(clippy::float_arithmetic)]

use crate::{
    meter::{Meter, RateError},
    money::{Nano, Overflow},
    price::{ANY_ITEM, PriceBook},
    replica,
    sku::Sku,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{price::default_book, sku::default_skus, time::Time};

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
}
