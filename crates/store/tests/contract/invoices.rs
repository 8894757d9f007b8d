//! Issued invoices: kept as they were issued, numbered without gaps; use that is on none of them is found, each once.

use std::{collections::BTreeSet, ops::ControlFlow};

use gregal_core::{
    invoice::{self, Address, Billing, Entry, Gathered, Invoice, Numbered, Reach, Seller},
    meter::Meter,
    money::{Cents, Nano},
    month::Month,
    price::default_book,
    time::Time,
};
use gregal_store::{Page, Store};

use super::*;

/// The invoice of the month of `NOW` after some months.
fn issued(place: u64, months: usize) -> Invoice {
    let month = (0..months).fold(Month::of(NOW), |month, _| Month::of(month.until));
    let address = Address { street: "1".into(), city: "Lyon".into(), post_code: "69001".into() };
    let seller = Seller {
        name: "Gregal".into(),
        registration: "1".into(),
        vat_id: "FR44732829320".into(),
        country: "FR".parse().unwrap(),
        address: address.clone(),
        iban: "FR7630006000011234567890189".into(),
        electronic: None,
    };
    let billing =
        Billing { legal_name: "Acme".into(), address, reference: None, order: None, electronic: None, exemption: None };
    let (organisation, books) = (organisation(1, "acme"), [default_book(Time::from_millis(0))]);
    let mut gathered = Gathered::new(&organisation, month, &books);
    gathered.add(&usage("1", Meter::TokensIn, "small", 5_000_000, month.from), Nano::ZERO).unwrap();
    let numbered = Numbered { number: invoice::number("T", place), at: month.until };
    let lines = gathered.made().unwrap();
    let period = (month, Reach::default(), 7);
    invoice::issue(numbered, (&organisation, &billing), (&seller, 30), period, lines).unwrap().unwrap()
}

pub(crate) async fn an_issued_invoice_stays_as_it_is_and_numbers_have_no_gaps(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let first = issued(1, 0);
    let tx = store.begin().await.unwrap();
    assert_eq!(tx.invoice_place_next("T").await.unwrap(), 1);
    tx.invoice_insert("T", 1, &first).await.unwrap();
    // Undone: the number is not used.
    drop(tx);
    assert_eq!(store.invoice_place_next("T").await.unwrap(), 1);
    let tx = store.begin().await.unwrap();
    tx.invoice_insert("T", 1, &first).await.unwrap();
    done(tx).await;
    assert_eq!(store.invoice_place_next("T").await.unwrap(), 2);
    assert_eq!(store.invoice_place_next("U").await.unwrap(), 1, "another series begins at 1");

    // The same month, the same number and a payment told twice are refused.
    let again = [
        ("T", 2, Invoice { number: "T-000002".into(), ..first.clone() }),
        ("U", 1, first.clone()),
        ("T", 1, issued(9, 1)),
    ];
    for (series, number, invoice) in again {
        let tx = store.begin().await.unwrap();
        assert!(tx.invoice_insert(series, number, &invoice).await.is_err(), "{series} {number}");
    }
    let tx = store.begin().await.unwrap();
    let paid = Entry::paid(&first, Cents::new(1), "bank 1", NOW);
    tx.invoice_entry_insert(&paid).await.unwrap();
    done(tx).await;
    assert!(store.begin().await.unwrap().invoice_entry_insert(&paid).await.is_err());

    for edit in [
        "UPDATE invoices SET document = '{}'",
        "DELETE FROM invoices",
        "UPDATE invoice_entries SET receivable = 0, bank = 0",
        "DELETE FROM invoice_entries",
    ] {
        let refusal = place.execute(edit).await.expect_err(edit).to_string();
        assert!(refusal.contains("only grows"), "{refusal}");
    }
    let kept = store.invoice_get("T-000001").await.unwrap().unwrap();
    assert_eq!((&kept.invoice, &kept.digest), (&first, &invoice::digest(&kept.document)));
    assert_eq!(store.invoice_of_month(org_id(), first.from).await.unwrap(), Some(kept));
    assert_eq!(store.invoice_entries("T-000001").await.unwrap(), [Entry::issued(&first), paid]);
    assert_eq!(store.invoice_reach(org_id()).await.unwrap(), Reach { until: first.until, through: 7 });
    assert_eq!(store.invoices_list(org_id(), &Page::default()).await.unwrap().items.len(), 1);
}

async fn uncovered(store: &Store, until: Time, reach: Reach, after: u64, through: u64) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    let see = |used: &gregal_store::StoredUsage| {
        assert!(seen.insert(used.sequence), "{} was seen twice", used.sequence);
        ControlFlow::<()>::Continue(())
    };
    let ended = store.usage_uncovered_each(org_id(), until, reach, (after, through), see).await.unwrap();
    assert_eq!(ended, ControlFlow::Continue(()));
    seen
}

pub(crate) async fn use_that_no_invoice_covers_is_found_each_once(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    // More than are read at a time on either side of the newest invoice; many of one instant.
    for number in 0..3_000_u32 {
        let ended_at = NOW.plus_millis(i64::from(number * 7 % 5) * 1_000);
        let event = usage(&number.to_string(), Meter::TokensIn, "small", 1, ended_at);
        tx.usage_insert(&event, Nano::ZERO, NOW).await.unwrap();
    }
    done(tx).await;
    let all = store.usage_all(org_id(), NOW, NOW.plus_seconds(60)).await.unwrap();
    let newest = store.usage_newest(org_id()).await.unwrap();
    assert_eq!(newest, all.last().unwrap().sequence);
    for (reach_s, share, until_s, after) in [(0, 0, 9, 0), (2, 2, 9, 0), (2, 2, 4, 0), (9, 3, 9, 0), (2, 3, 9, 2_000)] {
        let reach = Reach { until: NOW.plus_seconds(reach_s), through: newest * share / 3 };
        let until = NOW.plus_seconds(until_s);
        let expected: BTreeSet<u64> = all
            .iter()
            .filter(|used| used.event.ended_at < until && used.sequence > after)
            .filter(|used| !reach.covers(used.event.ended_at, used.sequence))
            .map(|used| used.sequence)
            .collect();
        assert_eq!(uncovered(&store, until, reach, after, newest).await, expected, "{reach:?}");
        // In two steps, as it is read outside and inside a transaction, it comes to the same.
        let middle = newest / 2;
        let mut steps = uncovered(&store, until, reach, after, middle).await;
        steps.extend(uncovered(&store, until, reach, after.max(middle), newest).await);
        assert_eq!(steps, expected, "{reach:?}");
        if after == 0 {
            let invoice = Invoice { since: reach, until, through: newest, ..issued(1, 0) };
            let (mut listed, mut page) = (BTreeSet::new(), Page::first(500));
            loop {
                let found = store.invoice_records(&invoice, &page).await.unwrap();
                listed.extend(found.items.iter().map(|used| used.sequence));
                let Some(next) = found.next else { break };
                page = Page::after(next, 500);
            }
            assert_eq!(listed, expected, "{reach:?}");
        }
    }
}
