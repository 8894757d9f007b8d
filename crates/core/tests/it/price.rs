use gregal_core::{
    meter::Meter,
    money::{Cents, Nano, Overflow},
    price::{self, PriceBook, PriceRow},
    time::Time,
};
use proptest::prelude::*;

use crate::given::{cases, time};

fn row(nano: u64, per: u64) -> PriceRow {
    PriceRow { meter: Meter::TokensIn, item: "*".into(), nano, per, label: "Tokens read".into() }
}

#[test]
fn the_default_book_says_what_it_promises() {
    let book = price::default_book(Time::default());
    assert_eq!(book.check(), Ok(()));
    let net = |meter, quantity| book.row(meter, "anything").unwrap().net(quantity).unwrap();
    assert_eq!(net(Meter::ComputeCore, 3_600_000), Cents::new(4));
    assert_eq!(net(Meter::Accelerator, 3_600_000), Cents::new(240));
    assert_eq!(net(Meter::TokensIn, 1_000_000), Cents::new(20));
    assert_eq!(net(Meter::TokensOut, 1_000_000), Cents::new(60));
    assert!(book.row(Meter::Energy, "-").is_none());
}

#[test]
fn half_a_cent_goes_up_and_a_hair_less_goes_down() {
    // One nano-euro a unit: half a cent is five million units.
    assert_eq!(row(1, 1).net(4_999_999), Ok(Cents::new(0)));
    assert_eq!(row(1, 1).net(5_000_000), Ok(Cents::new(1)));
    // A third of a nano-euro a unit: rounding to whole nano-euro first would make this half a cent.
    assert_eq!(row(1, 3).net(14_999_999), Ok(Cents::new(0)));
    assert_eq!(Cents::from_nano_half_up(Nano::new(4_999_999)), Cents::new(0));
    assert_eq!(Cents::from_nano_half_up(Nano::new(5_000_000)), Cents::new(1));
    assert_eq!(Cents::from_nano_half_up(Nano::new(-5_000_000)), Cents::new(-1));
    assert_eq!(Cents::from_nano_half_up(Nano::new(i64::MAX)).get(), 922_337_203_685);
    assert_eq!(Cents::from_nano_half_up(Nano::new(i64::MIN)).get(), -922_337_203_685);
}

#[test]
fn amounts_that_cannot_be_counted_are_refused_and_never_wrap() {
    assert_eq!(row(u64::MAX, 1).amount_floor(u64::MAX), Err(Overflow));
    assert_eq!(row(u64::MAX, 1).amount_ceil(u64::MAX), Err(Overflow));
    assert_eq!(row(u64::MAX, 1).net(u64::MAX), Err(Overflow));
    assert_eq!(row(u64::MAX, u64::MAX).amount_floor(7), Ok(Nano::new(7)));
    assert_eq!(row(1, 0).amount_floor(1), Err(Overflow));
    assert_eq!(row(1, 0).amount_ceil(1), Err(Overflow));
    assert_eq!(row(1, 0).net(1), Err(Overflow));
}

#[test]
fn the_exact_item_comes_before_the_star_and_the_newest_book_before_older_ones() {
    let named = PriceRow { item: "h100.8".into(), nano: 7, ..row(0, 1) };
    let book = |version, from: &str| PriceBook { version, from: time(from), rows: vec![row(5, 1), named.clone()] };
    let first = book(1, "2026-01-01T00:00:00Z");
    assert_eq!(first.row(Meter::TokensIn, "h100.8").unwrap().nano, 7);
    assert_eq!(first.row(Meter::TokensIn, "l40s.1").unwrap().nano, 5);
    assert!(first.row(Meter::TokensOut, "h100.8").is_none());
    let books = [book(3, "2026-07-01T00:00:00Z"), first, book(2, "2026-07-01T00:00:00Z")];
    let version_at = |at| price::at(&books, time(at)).map(|book| book.version);
    assert_eq!(version_at("2025-12-31T23:59:59.999Z"), None);
    assert_eq!(version_at("2026-01-01T00:00:00Z"), Some(1));
    assert_eq!(version_at("2026-06-30T23:59:59.999Z"), Some(1));
    assert_eq!(version_at("2026-07-01T00:00:00Z"), Some(3));
}

#[test]
fn a_hold_covers_the_dearest_book_it_may_meet_and_none_that_is_over() {
    let book = |version, from: &str, nano| PriceBook { version, from: time(from), rows: vec![row(nano, 1)] };
    let books = [
        book(1, "2026-01-01T00:00:00Z", 9),
        book(2, "2026-02-01T00:00:00Z", 5),
        book(4, "2026-04-01T00:00:00Z", 6),
        book(3, "2026-03-01T00:00:00Z", 7),
    ];
    let cost = |book: &PriceBook| book.row(Meter::TokensIn, "x").ok_or(Overflow)?.amount_ceil(10);
    let dearest =
        |at| price::dearest(&books, time(at), cost).unwrap().map(|(book, amount)| (book.version, amount.get()));
    assert_eq!(dearest("2025-12-31T00:00:00Z"), None, "no book holds");
    assert_eq!(dearest("2026-01-15T00:00:00Z"), Some((1, 90)));
    assert_eq!(dearest("2026-02-15T00:00:00Z"), Some((3, 70)), "the first is over, the third is to come");
    assert_eq!(dearest("2026-03-15T00:00:00Z"), Some((3, 70)));
    assert_eq!(dearest("2026-05-01T00:00:00Z"), Some((4, 60)));
    let ahead: Vec<u32> = price::ahead(&books, time("2026-02-15T00:00:00Z")).map(|book| book.version).collect();
    assert_eq!(ahead, [3, 4]);
    // A new book begins after all that may have been rated by then, and never before the newest there is.
    let now = time("2026-02-15T00:00:00Z");
    assert_eq!(price::soonest(&books, now), time("2026-04-01T00:00:00Z"));
    let latest_rated = now.plus_millis(gregal_core::meter::CLOCK_AHEAD_MS_MAX);
    assert_eq!(price::soonest(&books[..2], now), latest_rated.plus_millis(1));
}

#[test]
fn a_senseless_price_book_is_refused_by_its_first_bad_row() {
    let check = |rows: Vec<PriceRow>| {
        PriceBook { version: 1, from: Time::default(), rows }.check().map_err(|error| error.to_string())
    };
    let said = |rows| check(rows).unwrap_err();
    assert_eq!(check(vec![row(0, 1)]), Ok(()), "free is a price");
    assert!(said(vec![row(1, 0)]).contains("`per` is at least 1"));
    assert!(said(vec![row(1, 1), row(2, 1)]).contains("twice"));
    assert!(said(vec![PriceRow { meter: Meter::Energy, ..row(1, 1) }]).contains("never priced"));
    assert!(said(vec![PriceRow { item: String::new(), ..row(1, 1) }]).contains("`item` is empty"));
    assert!(said(vec![PriceRow { label: " ".into(), ..row(1, 1) }]).contains("`label` is empty"));
    assert!(said(vec![row(1, 1); price::ROWS_MAX + 1]).contains("at most"));
    assert!(PriceBook { version: 0, from: Time::default(), rows: vec![] }.check().is_err());
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn floor_and_ceiling_enclose_the_exact_amount(nano in 0..1_000_000_000_000u64, per in 1..10_000_000u64, quantity in 0..1_000_000u64) {
        let row = row(nano, per);
        let (numerator, denominator) = row.exact(quantity);
        let denominator = u128::from(denominator);
        let (floor, ceil) = (row.amount_floor(quantity).unwrap().get() as u128, row.amount_ceil(quantity).unwrap().get() as u128);
        prop_assert!(floor * denominator <= numerator && numerator < (floor + 1) * denominator);
        prop_assert!(ceil * denominator >= numerator && (ceil == 0 || (ceil - 1) * denominator < numerator));
        // Nearest cent: the error is at most half a cent, and exactly half only upwards.
        let (cents, cent) = (row.net(quantity).unwrap().get() as u128, denominator * 10_000_000);
        prop_assert!(2 * cents * cent <= 2 * numerator + cent);
        prop_assert!(2 * numerator < 2 * cents * cent + cent);
    }

    #[test]
    fn a_credit_note_mirrors_its_invoice(nano in 0..i64::MAX) {
        let (plus, minus) = (Cents::from_nano_half_up(Nano::new(nano)), Cents::from_nano_half_up(Nano::new(-nano)));
        prop_assert_eq!(plus.get(), -minus.get());
        let error = i128::from(nano) - i128::from(plus.get()) * i128::from(Nano::PER_CENT);
        prop_assert!((-5_000_000..5_000_000).contains(&error));
    }
}
