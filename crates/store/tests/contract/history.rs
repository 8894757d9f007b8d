//! What only grows: audit log, ledger, usage.

use std::ops::ControlFlow;

use gregal_core::{
    audit::{AuditEntry, ViewChain, ViewPlace},
    id::{JobId, OrganisationId},
    ledger::{Account, Leg, Posting, PostingKind},
    merkle,
    meter::Meter,
    money::Nano,
    price::PriceBook,
    schedule::{Decision, Snapshot, record::Record},
};
use gregal_store::{Error, Page, Store, UsageInserted};

use super::*;

/// Every place from 0 is taken once, every leaf is the hash of its body, and the head is the tree over them.
pub(crate) async fn the_log_holds_together(store: &Store, size: u64) {
    let (head, root) = store.audit_head().await.unwrap();
    assert_eq!(head, size);
    let mut entries = Vec::new();
    while let Some(more) =
        Some(store.audit_list(None, entries.len().checked_sub(1).map(|i| i as u64), 7).await.unwrap())
            .filter(|more| !more.is_empty())
    {
        entries.extend(more);
    }
    assert_eq!(entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), (0..size).collect::<Vec<_>>());
    let leaves: Vec<_> = entries.iter().map(|entry| merkle::leaf_hash(entry.body.as_bytes())).collect();
    assert_eq!(leaves, entries.iter().map(|entry| entry.leaf).collect::<Vec<_>>());
    assert_eq!(leaves, store.audit_leaves(0..size).await.unwrap());
    assert_eq!(merkle::root(&leaves), root);
}

pub(crate) async fn the_audit_log_is_the_tree_over_its_entries(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.audit_head().await.unwrap(), (0, merkle::empty_root()));
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    let own = entry("second");
    let cloud = AuditEntry { organisation: None, ..entry("third") };
    let logged = tx.commit(&[own.clone(), cloud]).await.unwrap();
    assert_eq!(logged.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1, 2]);
    let before = Some(hex::encode(store.audit_get(0).await.unwrap().unwrap().leaf));
    let placed = AuditEntry { view: Some(ViewPlace { number: 1, before }), ..own };
    assert_eq!(logged[0].body, placed.body());
    // More than one statement's worth in one transaction.
    let many: Vec<_> = (0..1_201).map(|number| entry(&number.to_string())).collect();
    store.begin().await.unwrap().commit(&many).await.unwrap();
    the_log_holds_together(&store, 1_204).await;
    let of_acme = store.audit_list(Some(org_id()), Some(0), 2).await.unwrap();
    assert_eq!(of_acme.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1, 3], "the cloud's own is not shown");
    assert_eq!(store.audit_get(1).await.unwrap().as_ref(), Some(&logged[0]));
    assert_eq!(store.audit_leaves(1_200..9_999).await.unwrap().len(), 4);
    // The tree goes on after a restart.
    store.close().await.unwrap();
    let store = place.open().await;
    done(store.begin().await.unwrap()).await;
    the_log_holds_together(&store, 1_205).await;
}

pub(crate) async fn every_view_is_a_chain_without_gaps(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let of = |number| AuditEntry { organisation: Some(OrganisationId::from_u128(number)), ..entry("x") };
    // More organisations than one statement asks for, twice, and one of them twice in one transaction.
    let many: Vec<_> = (0..1_201).map(|number| of(number % 1_100)).collect();
    store.begin().await.unwrap().commit(&many).await.unwrap();
    store.begin().await.unwrap().commit(&many).await.unwrap();
    let (size, _) = store.audit_head().await.unwrap();
    for number in [0, 1, 500, 1_099] {
        let organisation = OrganisationId::from_u128(number);
        let mut chain = ViewChain::new(organisation);
        for logged in store.audit_list(Some(organisation), None, 100).await.unwrap() {
            assert_eq!(store.audit_view(organisation, logged.index).await.unwrap(), (chain.entries(), chain.newest()));
            chain.push(logged.index, &logged.body).unwrap();
        }
        assert_eq!(store.audit_view(organisation, size).await.unwrap(), (chain.entries(), chain.newest()));
        assert!(chain.entries() >= 2);
    }
    let nobody = OrganisationId::from_u128(u128::MAX);
    assert_eq!(store.audit_view(nobody, size).await.unwrap(), (0, merkle::empty_root()));
}

pub(crate) async fn full_tiles_leave_their_roots(place: &Place) {
    let store = place.open().await;
    let many: Vec<_> = (0..700).map(|number| entry(&number.to_string())).collect();
    store.begin().await.unwrap().commit(&many[..255]).await.unwrap();
    assert!(store.audit_hashes(1, 0..256).await.unwrap().is_empty());
    store.begin().await.unwrap().commit(&many[255..]).await.unwrap();
    let leaves = store.audit_hashes(0, 0..700).await.unwrap();
    let roots = [merkle::root(&leaves[..256]), merkle::root(&leaves[256..512])];
    assert_eq!(store.audit_hashes(1, 0..256).await.unwrap(), roots);
    assert_eq!(store.audit_hashes(1, 1..2).await.unwrap(), roots[1..]);
    assert!(store.audit_hashes(2, 0..256).await.unwrap().is_empty());
    assert!(matches!(store.audit_hashes(0, 0..1 << 20).await, Err(Error::TooMany { .. })));
}

pub(crate) async fn a_log_of_before_tiles_and_views_gets_them_when_it_opens(place: &Place) {
    let store = place.open().await;
    let other =
        |number: u32| AuditEntry { organisation: Some(OrganisationId::from_u128(77)), ..entry(&number.to_string()) };
    let many: Vec<_> = (0..600).map(|number| if number % 3 == 0 { other(number) } else { entry("own") }).collect();
    store.begin().await.unwrap().commit(&many).await.unwrap();
    let before = (store.audit_hashes(1, 0..9).await.unwrap(), store.audit_view(org_id(), 600).await.unwrap());
    store.close().await.unwrap();
    // As the schema was before.
    for step in ["DROP TABLE audit_nodes", "DROP TABLE audit_views", "DELETE FROM schema_migrations WHERE number = 12"]
    {
        place.execute(step).await.unwrap();
    }
    place.execute("DROP FUNCTION IF EXISTS audit_views_only_grow").await.ok();
    let store = place.open().await;
    assert_eq!(store.audit_hashes(1, 0..9).await.unwrap(), before.0);
    store.begin().await.unwrap().commit(&[entry("next"), other(1_000)]).await.unwrap();
    for (organisation, expected) in [(org_id(), before.1.0 + 1), (OrganisationId::from_u128(77), 201)] {
        let mut chain = ViewChain::new(organisation);
        for logged in store.audit_list(Some(organisation), None, 1_000).await.unwrap() {
            chain.push(logged.index, &logged.body).unwrap();
        }
        assert_eq!(chain.entries(), expected);
    }
}

pub(crate) async fn an_entry_too_long_for_a_bundle_is_not_written(place: &Place) {
    let store = place.open().await;
    let long = AuditEntry { reason: Some("x".repeat(70_000)), ..entry("long") };
    assert!(matches!(store.begin().await.unwrap().commit(&[long]).await, Err(Error::TooMany { .. })));
    assert_eq!(store.audit_head().await.unwrap().0, 0);
}

pub(crate) async fn history_cannot_be_edited(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    tx.posting_insert(&credit(1, 5)).await.unwrap();
    tx.price_book_insert(&PriceBook { version: 1, from: NOW, rows: vec![] }).await.unwrap();
    tx.usage_insert(&usage("1", Meter::Energy, "-", 1, NOW), Nano::ZERO, NOW).await.unwrap();
    tx.usage_quarantine(site_id(), &usage("2", Meter::Energy, "-", 1, NOW), "odd", NOW).await.unwrap();
    tx.job_insert(&job(1)).await.unwrap();
    let said = Decision::Never { job: JobId::from_u128(1), reason: "nowhere".into() };
    let record = Record::whole(NOW, Snapshot::default(), &[]);
    tx.schedule_pass_insert(None, &record, &[said]).await.unwrap();
    done(tx).await;
    let many: Vec<_> = (0..256).map(|number| entry(&number.to_string())).collect();
    store.begin().await.unwrap().commit(&many).await.unwrap();
    let edits = [
        "UPDATE audit_entries SET body = 'nothing happened'",
        "DELETE FROM audit_entries",
        "UPDATE audit_head SET size = 0",
        "DELETE FROM audit_head",
        "UPDATE audit_nodes SET hash = hash",
        "DELETE FROM audit_nodes",
        "UPDATE audit_views SET entries = 1",
        "DELETE FROM audit_views",
        "UPDATE postings SET available = 7, funding = -7",
        "DELETE FROM postings",
        "UPDATE usage_events SET quantity = 0",
        "DELETE FROM usage_events",
        "UPDATE usage_quarantine SET reason = 'nothing'",
        "DELETE FROM usage_quarantine",
        "UPDATE schedule_passes SET document = '{}'",
        "DELETE FROM schedule_passes",
        "UPDATE schedule_decisions SET document = '{}'",
        "DELETE FROM schedule_decisions",
        "UPDATE price_books SET valid_from = 0",
        "DELETE FROM price_books",
        "UPDATE balances SET available = available + 1",
        "DELETE FROM balances",
    ];
    for edit in edits {
        let refusal = place.execute(edit).await.expect_err(edit).to_string();
        assert!(
            refusal.contains("grows") || refusal.contains("stay") || refusal.to_lowercase().contains("check"),
            "{refusal}"
        );
    }
    assert_eq!(store.postings_list(org_id(), &Page::default()).await.unwrap().items, [credit(1, 5)]);
    assert_eq!(store.price_books_all().await.unwrap().len(), 1);
    the_log_holds_together(&store, 258).await;
}

pub(crate) async fn the_ledger_moves_balances_and_refuses_what_does_not_balance(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    assert_eq!(store.balances_get(org_id()).await.unwrap(), gregal_core::ledger::Balances::default());
    let leg = |account, nano| Leg { account, amount: Nano::new(nano) };
    let set_aside = Posting {
        kind: PostingKind::Hold,
        legs: vec![leg(Account::Available, -3), leg(Account::Held, 3)],
        ..credit(2, 0)
    };
    let tx = store.begin().await.unwrap();
    tx.posting_insert(&credit(1, 10)).await.unwrap();
    let after = tx.posting_insert(&set_aside).await.unwrap();
    assert_eq!(tx.balances_get(org_id()).await.unwrap(), after);
    done(tx).await;
    assert_eq!((after.available, after.held, after.sum()), (Nano::new(7), Nano::new(3), 0));

    let lopsided = Posting { legs: vec![leg(Account::Available, 1)], ..credit(3, 0) };
    let too_much = credit(4, i64::MAX);
    for wrong in [lopsided, too_much] {
        let tx = store.begin().await.unwrap();
        let error = tx.posting_insert(&wrong).await.unwrap_err();
        assert!(matches!(error, Error::Ledger { .. }), "{error:?}");
    }
    assert_eq!(store.balances_get(org_id()).await.unwrap(), after);
    assert_eq!(store.balances_recomputed(org_id()).await.unwrap(), after);
    let first = store.postings_list(org_id(), &Page::first(1)).await.unwrap();
    assert_eq!(first.items, [credit(1, 10)]);
    let second = store.postings_list(org_id(), &Page::after(first.next.unwrap(), 5)).await.unwrap();
    assert_eq!((second.items, second.next), (vec![set_aside], None));
}

pub(crate) async fn usage_counts_once_however_often_it_is_sent(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let event = usage("1", Meter::TokensOut, "small", 40, NOW);
    // A site that never heard our answer sends it again, to several replicas at once.
    let copies: Vec<_> = (0..6)
        .map(|_| {
            let (store, event) = (store.clone(), event.clone());
            tokio::spawn(async move {
                let tx = store.begin().await.unwrap();
                let outcome = tx.usage_insert(&event, Nano::new(8), NOW).await.unwrap();
                done(tx).await;
                outcome
            })
        })
        .collect();
    let mut inserted = 0;
    for copy in copies {
        match copy.await.unwrap() {
            UsageInserted::Inserted => inserted += 1,
            UsageInserted::Duplicate => {}
            UsageInserted::Conflict => panic!("the same facts are no conflict"),
        }
    }
    assert_eq!(inserted, 1);
    let mut forged = event.clone();
    forged.quantity = 41;
    let tx = store.begin().await.unwrap();
    assert_eq!(tx.usage_insert(&forged, Nano::new(9), NOW).await.unwrap(), UsageInserted::Conflict);
    // A conflict is an answer, not an error: the rest of the batch still counts.
    let next = usage("2", Meter::TokensOut, "small", 2, NOW);
    assert_eq!(tx.usage_insert(&next, Nano::new(1), NOW).await.unwrap(), UsageInserted::Inserted);
    done(tx).await;
    let all = store.usage_all(org_id(), NOW, NOW.plus_millis(1)).await.unwrap();
    assert_eq!(all.iter().map(|stored| stored.event.clone()).collect::<Vec<_>>(), [event, next]);
    assert_eq!(all[0].rated, Nano::new(8));
}

pub(crate) async fn usage_sums_what_ended_within_the_period(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let until = NOW.plus_seconds(60);
    let tx = store.begin().await.unwrap();
    let events = [
        ("before", Meter::TokensIn, "small", 1, NOW.plus_millis(-1)),
        ("first", Meter::TokensIn, "small", 10, NOW),
        ("last", Meter::TokensIn, "small", 100, until.plus_millis(-1)),
        ("after", Meter::TokensIn, "small", 1_000, until),
        ("other", Meter::TokensIn, "large", 5, NOW),
        ("core", Meter::ComputeCore, "cpu.1", 7, NOW),
        ("none", Meter::TokensOut, "small", 0, NOW),
    ];
    for (occasion, meter, item, quantity, ended_at) in events {
        let rated = Nano::new(i64::try_from(quantity).unwrap() * 2);
        tx.usage_insert(&usage(occasion, meter, item, quantity, ended_at), rated, NOW).await.unwrap();
    }
    done(tx).await;
    let sums = store.usage_sums(org_id(), NOW, until, None).await.unwrap();
    let plain: Vec<_> =
        sums.iter().map(|sum| (sum.meter, sum.item.as_str(), sum.quantity, sum.rated.get(), sum.records)).collect();
    assert_eq!(
        plain,
        [
            (Meter::ComputeCore, "cpu.1", 7, 14, 1),
            (Meter::TokensIn, "large", 5, 10, 1),
            (Meter::TokensIn, "small", 110, 220, 2),
            (Meter::TokensOut, "small", 0, 0, 1),
        ]
    );
    let other = Some(gregal_core::id::ProjectId::from_u128(2));
    assert!(store.usage_sums(org_id(), NOW, until, other).await.unwrap().is_empty());
    let mut paged = Vec::new();
    let mut page = Page::first(2);
    loop {
        let listed = store.usage_list(org_id(), NOW, until, Some(project_id()), &page).await.unwrap();
        paged.extend(listed.items);
        match listed.next {
            Some(next) => page = Page::after(next, 2),
            None => break,
        }
    }
    assert_eq!(paged, store.usage_all(org_id(), NOW, until).await.unwrap());
    assert_eq!(paged.len(), 5);
}

pub(crate) async fn use_of_any_length_is_seen_once_each(place: &Place) {
    const EVENTS: u64 = 4_500;
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    for number in 0..EVENTS {
        // Many end at the same time, and they do not arrive in the order of their ends.
        let ended_at = NOW.plus_millis(i64::from(number < EVENTS / 2));
        let event = usage(&number.to_string(), Meter::TokensIn, "small", number, ended_at);
        tx.usage_insert(&event, Nano::ZERO, NOW).await.unwrap();
    }
    let outside = usage("after", Meter::TokensIn, "small", 1, NOW.plus_seconds(1));
    tx.usage_insert(&outside, Nano::ZERO, NOW).await.unwrap();
    done(tx).await;
    let mut seen = Vec::new();
    let see = |event: &gregal_core::meter::UsageEvent| {
        seen.push(event.quantity);
        ControlFlow::<()>::Continue(())
    };
    assert!(store.usage_each(org_id(), NOW, NOW.plus_seconds(1), see).await.unwrap().is_continue());
    seen.sort_unstable();
    assert_eq!(seen, (0..EVENTS).collect::<Vec<_>>());
    let stop = |_: &gregal_core::meter::UsageEvent| ControlFlow::Break("enough");
    let stopped = store.usage_each(org_id(), NOW, NOW.plus_seconds(1), stop).await.unwrap();
    assert_eq!(stopped, ControlFlow::Break("enough"));
}

pub(crate) async fn what_cannot_be_counted_is_kept_whole_and_once(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let mut odd = usage("1", Meter::TokensIn, "small", 7, NOW);
    odd.id = "no \u{0} digest".into();
    let good = usage("2", Meter::TokensIn, "small", 8, NOW);
    let tx = store.begin().await.unwrap();
    assert!(tx.usage_quarantine(site_id(), &odd, "odd", NOW).await.unwrap());
    assert!(tx.usage_quarantine(site_id(), &good, "foreign", NOW).await.unwrap());
    assert!(!tx.usage_quarantine(site_id(), &odd, "odd", NOW.plus_seconds(1)).await.unwrap(), "it is here already");
    done(tx).await;
    let first = store.usage_quarantine_list(site_id(), &Page::first(1)).await.unwrap();
    assert_eq!((&first.items[0].event, first.items[0].reason.as_str(), first.items[0].arrived_at), (&odd, "odd", NOW));
    let rest = store.usage_quarantine_list(site_id(), &Page::after(first.next.unwrap(), 5)).await.unwrap();
    assert_eq!(rest.items.iter().map(|kept| &kept.event).collect::<Vec<_>>(), [&good]);
    assert!(rest.next.is_none());
}

pub(crate) async fn numbers_beyond_63_bits_are_refused(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let most = u64::try_from(i64::MAX).unwrap();
    let tx = store.begin().await.unwrap();
    let fits = usage("1", Meter::Energy, "-", most, NOW);
    assert_eq!(tx.usage_insert(&fits, Nano::ZERO, NOW).await.unwrap(), UsageInserted::Inserted);
    done(tx).await;
    let tx = store.begin().await.unwrap();
    let error = tx.usage_insert(&usage("2", Meter::Energy, "-", most + 1, NOW), Nano::ZERO, NOW).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    drop(tx);
    // A sum that no longer fits is an error and never a wrong sum.
    let tx = store.begin().await.unwrap();
    tx.usage_insert(&usage("3", Meter::Energy, "-", most, NOW), Nano::ZERO, NOW).await.unwrap();
    done(tx).await;
    let error = store.usage_sums(org_id(), NOW, NOW.plus_millis(1), None).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    // A loss that is no number would be written as nothing and never be read again.
    let mut diverged = job(1);
    diverged.progress = Some(gregal_core::job::Progress { loss: f64::NAN, ..Default::default() });
    let tx = store.begin().await.unwrap();
    let error = tx.job_insert(&diverged).await.unwrap_err();
    assert!(matches!(error, Error::Unstorable { noun: "job", .. }), "{error:?}");
}
