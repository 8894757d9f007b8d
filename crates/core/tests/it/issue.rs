//! Issued invoices as decisions: all use on exactly one of them, whatever the order; money to the cent.

use gregal_core::{
    invoice::{
        self, Address, Billing, Category, CreditError, Gathered, Invoice, Numbered, Reach, Seller, Taken, document,
    },
    meter::{Meter, UsageEvent},
    money::{Cents, Nano},
    month::Month,
    price::{self, PriceBook, PriceRow},
};
use proptest::prelude::*;

use crate::given::{cases, event, law, organisation, time};

fn address() -> Address {
    Address { street: "1".into(), city: "Lyon".into(), post_code: "69001".into() }
}

fn seller() -> Seller {
    Seller {
        name: "Gregal".into(),
        registration: "732829320".into(),
        vat_id: "FR44732829320".into(),
        country: law("FR"),
        address: address(),
        iban: "FR7630006000011234567890189".into(),
        electronic: None,
    }
}

fn billing() -> Billing {
    Billing {
        legal_name: "Aurora".into(),
        address: address(),
        reference: None,
        order: None,
        electronic: None,
        exemption: None,
    }
}

fn books() -> Vec<PriceBook> {
    let mut book = price::default_book(time("2026-01-01T00:00:00Z"));
    let cent = |item: &str, nano| PriceRow { item: item.into(), nano, per: 1, ..book.rows[0].clone() };
    let more = [cent("half", 5_000_000), cent("cent", 10_000_000), cent("under", 4_000_000), cent("free", 0)];
    book.rows.extend(more);
    vec![book]
}

/// What is on no invoice yet, in the order of arrival, as a store finds it.
fn issue(events: &[UsageEvent], reach: Reach, month: &str, place: u64) -> Option<Invoice> {
    let (organisation, books) = (organisation("FR", None), books());
    let month: Month = month.parse().unwrap();
    let mut gathered = Gathered::new(&organisation, month, &books);
    for (at, event) in events.iter().enumerate() {
        if !reach.covers(event.ended_at, at as u64 + 1) {
            gathered.add(event, Nano::ZERO).unwrap();
        }
    }
    let numbered = Numbered { number: invoice::number("T", place), at: month.until };
    let lines = gathered.made().unwrap();
    let period = (month, reach, events.len() as u64);
    invoice::issue(numbered, (&organisation, &billing()), (&seller(), 30), period, lines).unwrap()
}

const fn reach_of(invoice: &Invoice) -> Reach {
    Reach { until: invoice.until, through: invoice.through }
}

#[test]
fn each_line_is_rounded_once_and_vat_once_on_their_sum() {
    let at = time("2026-10-05T00:00:00Z");
    // Three records of half a cent on one line: 1.5 cents are 2, not 3. Three lines in all.
    let mut events: Vec<_> = (1..4).map(|number| event(number, Meter::ComputeCore, "half", 1, at)).collect();
    events.push(event(4, Meter::ComputeCore, "cent", 1, at));
    events.push(event(5, Meter::ComputeCore, "under", 1, at));
    let issued = issue(&events, Reach::default(), "2026-10", 1).unwrap();
    let nets: Vec<_> = issued.lines.iter().map(|line| (line.line.item.as_str(), line.line.net.get())).collect();
    assert_eq!(nets, [("cent", 1), ("half", 2), ("under", 0)]);
    // 20 % of 0.03 EUR is 0.6 cents, 1; by line it would be 0.2, 0.4 and 0: nothing.
    assert_eq!((issued.net, issued.vat.amount, issued.total), (Cents::new(3), Cents::new(1), Cents::new(4)));
}

#[test]
fn nothing_used_is_no_invoice_and_an_exemption_goes_before_the_rate() {
    assert_eq!(issue(&[], Reach::default(), "2026-10", 1), None);
    let energy = event(1, Meter::Energy, "-", 1_000, time("2026-10-05T00:00:00Z"));
    assert_eq!(issue(&[energy], Reach::default(), "2026-10", 1), None);
    let free = event(1, Meter::ComputeCore, "free", 1_000, time("2026-10-05T00:00:00Z"));
    assert_eq!(issue(&[free], Reach::default(), "2026-10", 1), None, "a price of nothing is no invoice of nothing");
    let (organisation, books) = (organisation("FR", None), books());
    let mut gathered = Gathered::new(&organisation, "2026-10".parse().unwrap(), &books);
    gathered.add(&event(1, Meter::ComputeCore, "cent", 100, time("2026-10-05T00:00:00Z")), Nano::ZERO).unwrap();
    let lines = gathered.made().unwrap();
    let exempt = Billing { exemption: Some("Article 151".into()), ..billing() };
    let numbered = Numbered { number: "T-000001".into(), at: time("2026-11-01T00:00:00Z") };
    let period = ("2026-10".parse().unwrap(), Reach::default(), 1);
    let issued = invoice::issue(numbered, (&organisation, &exempt), (&seller(), 30), period, lines).unwrap().unwrap();
    assert_eq!((issued.vat.category, issued.total), (Category::E, Cents::new(100)));
    assert!(document::ubl(&issued).contains("Article 151") && document::cii(&issued).contains("Article 151"));
}

#[test]
fn an_invoice_says_the_same_whatever_is_typed_into_a_name() {
    let mut issued = issue(
        &[event(1, Meter::ComputeCore, "cent", 100, time("2026-10-05T00:00:00Z"))],
        Reach::default(),
        "2026-10",
        1,
    )
    .unwrap();
    issued.buyer.billing.legal_name = "</cbc:RegistrationName><cbc:Evil>&\u{0}".into();
    for text in [document::ubl(&issued), document::cii(&issued)] {
        assert!(!text.contains("<cbc:Evil>") && !text.contains('\u{0}'), "{text}");
        assert!(text.contains("&lt;cbc:Evil&gt;&amp;"), "{text}");
    }
}

fn used() -> impl Strategy<Value = Vec<(u8, u8, u64)>> {
    // Which item, which day from 1 August on, how much.
    prop::collection::vec((0_u8..4, 0_u8..91, 0_u64..5_000_000), 1..40)
}

fn events(used: &[(u8, u8, u64)]) -> Vec<UsageEvent> {
    let each = |(number, (item, day, quantity)): (usize, &(u8, u8, u64))| {
        let (meter, item) = [
            (Meter::ComputeCore, "half"),
            (Meter::ComputeCore, "cpu.1"),
            (Meter::TokensOut, "small"),
            (Meter::Energy, "-"),
        ][usize::from(*item)];
        let at = time("2026-08-01T00:00:00Z").plus_seconds(i64::from(*day) * 86_400);
        event(u32::try_from(number).unwrap(), meter, item, *quantity, at)
    };
    used.iter().enumerate().map(each).collect()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn the_same_use_in_any_order_is_the_same_invoice_to_the_byte(used in used(), seed in any::<u64>()) {
        let events = events(&used);
        let mut shuffled = events.clone();
        shuffled.sort_by_key(|event| {
            event.id.bytes().fold(seed, |hash, byte| hash.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(byte))
        });
        let bytes = |events: &[UsageEvent]| {
            issue(events, Reach::default(), "2026-10", 1).map(|invoice| {
                (serde_json::to_string(&invoice).unwrap(), document::ubl(&invoice), document::cii(&invoice))
            })
        };
        prop_assert_eq!(bytes(&events), bytes(&shuffled));
    }

    #[test]
    fn all_use_is_on_exactly_one_invoice_however_late_it_arrives(
        used in used(),
        arrived in prop::collection::vec(0_usize..41, 2),
    ) {
        // Some of it has arrived when August is issued, some more for September, all of it for October.
        let all = events(&used);
        let mut reach = Reach::default();
        let (mut quantity, mut records) = (0, 0);
        let (first, second) = (arrived[0].min(arrived[1]), arrived[0].max(arrived[1]));
        for (month, there) in [("2026-08", first), ("2026-09", second), ("2026-10", all.len())] {
            let Some(invoice) = issue(&all[..there.min(all.len())], reach, month, 1) else { continue };
            for line in &invoice.lines {
                prop_assert!(line.late.as_deref().is_none_or(|late| late < month));
            }
            quantity += invoice.lines.iter().map(|line| line.line.quantity).sum::<u64>();
            records += invoice.lines.iter().map(|line| line.line.records).sum::<u64>();
            reach = reach_of(&invoice);
        }
        let priced: Vec<_> = all.iter().filter(|event| event.meter.is_priced()).collect();
        prop_assert_eq!(quantity, priced.iter().map(|event| event.quantity).sum::<u64>());
        prop_assert_eq!(records, priced.len() as u64);
    }

    #[test]
    fn credit_notes_together_come_to_the_invoice_and_never_beyond(
        used in used(),
        parts in prop::collection::vec((0_usize..8, 1_i64..2_000), 0..12),
    ) {
        let Some(invoice) = issue(&events(&used), Reach::default(), "2026-10", 1) else { return Ok(()) };
        let numbered = |place: usize| Numbered { number: invoice::number("T", place as u64 + 2), at: invoice.issued_at };
        let mut notes: Vec<Invoice> = Vec::new();
        for (line, cents) in parts {
            let line = u32::try_from(line).unwrap();
            let part = [Taken { line, net: Cents::new(cents) }];
            match invoice::credit(numbered(notes.len()), &invoice, &notes, Some(&part), "because") {
                Ok(note) => notes.push(note),
                Err(CreditError::Line { .. } | CreditError::Beyond { .. }) => {}
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
        match invoice::credit(numbered(notes.len()), &invoice, &notes, None, "because") {
            Ok(rest) => notes.push(rest),
            Err(error) => prop_assert_eq!(error, CreditError::Nothing),
        }
        let sum = |of: fn(&Invoice) -> Cents| notes.iter().map(|note| of(note).get()).sum::<i64>();
        prop_assert_eq!(sum(|note| note.net), invoice.net.get());
        prop_assert_eq!(sum(|note| note.vat.amount), invoice.vat.amount.get());
        prop_assert_eq!(sum(|note| note.total), invoice.total.get());
        prop_assert!(notes.iter().all(|note| note.net > Cents::ZERO && note.vat.amount >= Cents::ZERO));
        let again = invoice::credit(numbered(0), &invoice, &notes, None, "because");
        prop_assert_eq!(again, Err(CreditError::Nothing));
    }
}
