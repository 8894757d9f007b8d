use gregal_core::{
    id::OrganisationId,
    invoice::{self, InvoiceDraft, InvoiceError, RecomputeError, VatRule},
    meter::{self, Meter, UsageEvent},
    money::Cents,
    price::{self, PriceBook, PriceRow},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::given::{cases, event, law, organisation, time};

const FROM: &str = "2026-11-01T00:00:00Z";
const UNTIL: &str = "2026-12-01T00:00:00Z";
const MIDDLE: &str = "2026-11-15T00:00:00Z";

fn books() -> Vec<PriceBook> {
    let mut second = price::default_book(time(MIDDLE));
    second.version = 2;
    for row in &mut second.rows {
        row.nano = row.nano * 3 / 2 + 1;
    }
    let named = PriceRow { item: "big".into(), nano: 1_234_567, per: 7, ..second.rows[2].clone() };
    second.rows.push(named);
    vec![price::default_book(time("2026-01-01T00:00:00Z")), second]
}

fn draft(events: &[UsageEvent]) -> Result<InvoiceDraft, InvoiceError> {
    invoice::draft(&organisation("FR", None), law("FR"), time(FROM), time(UNTIL), &books(), events)
}

fn raw(events: &[UsageEvent]) -> Vec<Value> {
    events.iter().map(|event| serde_json::to_value(event).unwrap()).collect()
}

#[test]
fn a_month_of_use_becomes_lines_vat_and_a_total() {
    let at = time("2026-11-10T12:00:00Z");
    let mut events = vec![
        event(1, Meter::ComputeCore, "cpu.1", 3_600_000, at),
        event(2, Meter::ComputeCore, "cpu.1", 5_400_000, at),
        event(3, Meter::TokensIn, "small", 1_000_000, at),
        event(4, Meter::TokensOut, "small", 25_000, at),
        event(5, Meter::Energy, "-", 1_000_000, at),
    ];
    events.push(events[0].clone());
    let draft = draft(&events).unwrap();
    let lines: Vec<_> =
        draft.lines.iter().map(|line| (line.meter, line.quantity, line.records, line.net.to_string())).collect();
    assert_eq!(
        lines,
        [
            (Meter::ComputeCore, 9_000_000, 2, "0.10".into()),
            (Meter::TokensIn, 1_000_000, 1, "0.20".into()),
            // 25 000 tokens at 0.60 a million are 1.5 cents.
            (Meter::TokensOut, 25_000, 1, "0.02".into()),
        ]
    );
    assert_eq!((draft.vat_rule, draft.vat_basis_points), (VatRule::Domestic, 2000));
    // 20 % of 0.32 are 6.4 cents.
    assert_eq!((draft.net, draft.vat, draft.total), (Cents::new(32), Cents::new(6), Cents::new(38)));
}

#[test]
fn use_belongs_to_the_period_it_ended_in() {
    let just = |at: &str| draft(&[event(1, Meter::TokensIn, "small", 1_000_000, time(at))]).unwrap().lines.len();
    assert_eq!(just("2026-10-31T23:59:59.999Z"), 0);
    assert_eq!(just(FROM), 1);
    assert_eq!(just("2026-11-30T23:59:59.999Z"), 1);
    assert_eq!(just(UNTIL), 0);
}

#[test]
fn a_new_price_book_makes_a_new_line_and_leaves_the_old_use_alone() {
    let before = event(1, Meter::TokensIn, "small", 1_000_000, time(MIDDLE).plus_millis(-1));
    let after = event(2, Meter::TokensIn, "small", 1_000_000, time(MIDDLE));
    let draft = draft(&[after, before]).unwrap();
    let lines: Vec<_> = draft.lines.iter().map(|line| (line.price_book, line.net.get())).collect();
    assert_eq!(lines, [(1, 20), (2, 30)]);
}

#[test]
fn vat_follows_the_buyer() {
    let of = |country: &str, id: Option<&str>| {
        let events = [event(1, Meter::Accelerator, "gpu.1", 36_000_000, time(FROM))];
        let buyer = organisation(country, id);
        let draft = invoice::draft(&buyer, law("FR"), time(FROM), time(UNTIL), &books(), &events).unwrap();
        (draft.vat_rule, draft.vat_basis_points, draft.vat.to_string(), draft.total.to_string())
    };
    assert_eq!(of("FR", Some("FR1")), (VatRule::Domestic, 2000, "4.80".into(), "28.80".into()));
    assert_eq!(of("FI", None), (VatRule::OneStopShop, 2550, "6.12".into(), "30.12".into()));
    assert_eq!(of("FI", Some("FI1")), (VatRule::ReverseCharge, 0, "0.00".into(), "24.00".into()));
    assert_eq!(of("CH", None), (VatRule::OutsideScope, 0, "0.00".into(), "24.00".into()));
    let american = invoice::draft(&organisation("US", None), law("US"), time(FROM), time(UNTIL), &books(), []);
    assert_eq!(american, Err(InvoiceError::NoVatRate { country: law("US") }));
}

#[test]
fn records_that_do_not_belong_are_named_instead_of_billed() {
    let one = event(1, Meter::TokensIn, "small", 10, time(FROM));
    let other = UsageEvent { quantity: 11, ..one.clone() };
    assert_eq!(draft(&[one.clone(), other.clone()]), Err(InvoiceError::Conflict { id: one.id.clone() }));
    let records = raw(&[one.clone(), other]);
    let sound = draft(std::slice::from_ref(&one)).unwrap();
    let conflict = RecomputeError::Conflict { number: 2, id: one.id.clone() };
    assert_eq!(invoice::recompute(&sound, &books(), &records), Err(conflict));
    let foreign = UsageEvent { organisation: OrganisationId::from_u128(2), ..one.clone() };
    assert_eq!(draft(&[foreign]), Err(InvoiceError::Foreign { id: one.id.clone() }));
    let unpriced = invoice::draft(&organisation("FR", None), law("FR"), time(FROM), time(UNTIL), &[], [&one]);
    assert!(matches!(unpriced, Err(InvoiceError::Rate { .. })));
    let huge = [1, 2].map(|number| event(number, Meter::TokensIn, "small", u64::MAX, time(FROM)));
    assert!(matches!(draft(&huge), Err(InvoiceError::Overflow(_))));
    let backwards = invoice::draft(&organisation("FR", None), law("FR"), time(UNTIL), time(FROM), &books(), []);
    assert!(matches!(backwards, Err(InvoiceError::Period { .. })));
}

#[test]
fn a_damaged_record_is_named_by_number_and_field() {
    let sound = event(1, Meter::TokensIn, "small", 10, time(FROM));
    let draft = draft(std::slice::from_ref(&sound)).unwrap();
    for (field, bad) in [
        ("id", Value::Null),
        ("ended_at", "yesterday".into()),
        ("meter", 7.into()),
        ("quantity", (-1).into()),
        ("quantity", 1.5.into()),
        ("item", Value::Null),
    ] {
        let mut records = raw(&[sound.clone(), event(2, Meter::TokensIn, "small", 10, time(FROM))]);
        records[1][field] = bad;
        let error = invoice::recompute(&draft, &books(), &records).unwrap_err();
        assert!(matches!(&error, RecomputeError::Record { number: 2, field: named, .. } if *named == field), "{error}");
    }
}

#[test]
fn an_invoice_that_differs_from_the_records_is_told_where() {
    let at = time("2026-11-10T12:00:00Z");
    let events =
        [event(1, Meter::TokensIn, "small", 5_000_000, at), event(2, Meter::TokensOut, "small", 5_000_000, at)];
    let sound = draft(&events).unwrap();
    let differs = |change: &dyn Fn(&mut InvoiceDraft)| {
        let mut forged = sound.clone();
        change(&mut forged);
        invoice::recompute(&forged, &books(), &raw(&events)).unwrap().differences
    };
    assert_eq!(differs(&|_| ()), [""; 0]);
    assert_eq!(
        differs(&|draft| draft.lines[0].quantity += 1),
        ["`small` on `tokens_in` by price book 1: quantity is 5000000 by the records, 5000001 on the invoice"]
    );
    assert_eq!(differs(&|draft| draft.total = Cents::new(481)), ["total: 4.80 by the records, 4.81 on the invoice"]);
    let changes: [fn(&mut InvoiceDraft); 9] = [
        |draft| draft.lines[1].price_nano += 1,
        |draft| draft.lines[1].price_per += 1,
        |draft| draft.lines[1].records += 1,
        |draft| draft.lines[1].net = Cents::new(1),
        |draft| draft.vat = Cents::new(0),
        |draft| draft.net = Cents::new(0),
        |draft| drop(draft.lines.pop()),
        |draft| draft.lines.push(draft.lines[0].clone()),
        |draft| draft.lines[0].item = "other".into(),
    ];
    for change in changes {
        assert!(!differs(&change).is_empty());
    }
    let fewer = invoice::recompute(&sound, &books(), &raw(&events[..1])).unwrap();
    assert!(!fewer.agrees());
}

fn events() -> impl Strategy<Value = Vec<UsageEvent>> {
    let meter = prop::sample::select(Meter::ALL);
    let item = prop::sample::select(vec!["small", "big", "cpu.1"]);
    // From an hour before the period to an hour after it.
    let ended = (-3_600_000i64..30 * 86_400_000 + 3_600_000).prop_map(|ms| time(FROM).plus_millis(ms));
    prop::collection::vec((meter, item, 0..50_000_000u64, ended), 0..40).prop_map(|facts| {
        let numbered = facts.into_iter().enumerate();
        numbered.map(|(at, (meter, item, quantity, ended))| event(at as u32, meter, item, quantity, ended)).collect()
    })
}

/// The events in another order, some of them twice.
fn resent() -> impl Strategy<Value = (Vec<UsageEvent>, Vec<UsageEvent>)> {
    events().prop_flat_map(|events| {
        let twice = prop::sample::subsequence(events.clone(), 0..=events.len());
        let mixed = (Just(events.clone()), twice).prop_map(|(mut all, twice)| {
            all.extend(twice);
            all
        });
        (Just(events), mixed.prop_shuffle())
    })
}

proptest! {
    #![proptest_config(cases(384))]

    #[test]
    fn order_and_repetition_of_records_change_nothing((events, resent) in resent()) {
        prop_assert_eq!(draft(&events).unwrap(), draft(&resent).unwrap());
        let recomputed = invoice::recompute(&draft(&events).unwrap(), &books(), &raw(&resent)).unwrap();
        prop_assert!(recomputed.agrees(), "{:?}", recomputed.differences);
    }

    #[test]
    fn every_invoice_re_derives_from_its_raw_records(events in events()) {
        let draft = draft(&events).unwrap();
        let recomputed = invoice::recompute(&draft, &books(), &raw(&events)).unwrap();
        prop_assert!(recomputed.agrees(), "{:?}", recomputed.differences);
        prop_assert_eq!((recomputed.net, recomputed.vat, recomputed.total), (draft.net, draft.vat, draft.total));
        // Each record of the period is in exactly one line, what has no price in none.
        let inside = |event: &&UsageEvent| {
            event.meter.is_priced() && time(FROM) <= event.ended_at && event.ended_at < time(UNTIL)
        };
        prop_assert_eq!(draft.lines.iter().map(|line| line.records).sum::<u64>(), events.iter().filter(inside).count() as u64);
        prop_assert!(draft.lines.is_sorted_by_key(|line| (line.meter, line.item.clone(), line.price_book)));
    }

    #[test]
    fn the_ledger_never_charges_more_than_the_invoice_and_less_than_a_nano_an_event_below(events in events()) {
        let draft = draft(&events).unwrap();
        let inside: Vec<_> = events.iter().filter(|e| time(FROM) <= e.ended_at && e.ended_at < time(UNTIL)).collect();
        let charged: i128 = inside.iter().map(|event| i128::from(meter::rate(event, &books()).unwrap().get())).sum();
        let exact_up: i128 = draft.lines.iter().map(|line| {
            (i128::from(line.quantity) * i128::from(line.price_nano)).div_euclid(i128::from(line.price_per)) + 1
        }).sum();
        prop_assert!(charged <= exact_up);
        prop_assert!(exact_up - charged <= (inside.len() + draft.lines.len()) as i128);
    }
}

#[test]
fn an_empty_period_is_an_invoice_of_nothing() {
    let draft = draft(&[]).unwrap();
    assert!(draft.lines.is_empty());
    assert_eq!(draft.total, Cents::ZERO);
    assert!(invoice::recompute(&draft, &books(), []).unwrap().agrees());
}
