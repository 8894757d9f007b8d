//! Transactions: all or nothing, one at a time, never without a record.

use std::time::Duration;

use gregal_core::{id::OrganisationId, money::Nano};
use gregal_store::{Error, Page, Store};

use super::*;

pub(crate) async fn a_dropped_transaction_leaves_nothing(place: &Place) {
    let store = place.open().await;
    let tx = store.begin().await.unwrap();
    tx.organisation_insert(&organisation(1, "acme")).await.unwrap();
    tx.posting_insert(&credit(1, 5)).await.unwrap();
    tx.outbox_push("poke", &serde_json::json!({})).await.unwrap();
    drop(tx);
    assert_eq!(store.organisation_get(org_id()).await.unwrap(), None);
    assert_eq!(store.outbox_take(10).await.unwrap(), []);
    assert_eq!(store.audit_head().await.unwrap().0, 0);
    // The next writer does not find the way blocked.
    parents(&store).await;
}

pub(crate) async fn nothing_is_committed_without_an_audit_entry(place: &Place) {
    let store = place.open().await;
    let tx = store.begin().await.unwrap();
    tx.organisation_insert(&organisation(1, "acme")).await.unwrap();
    assert!(matches!(tx.commit(&[]).await, Err(Error::NoAudit)));
    assert_eq!(store.organisation_get(org_id()).await.unwrap(), None);
}

pub(crate) async fn a_transaction_that_met_an_error_cannot_be_committed(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    tx.project_insert(&project(2, "second")).await.unwrap();
    assert!(matches!(tx.project_insert(&project(3, "second")).await, Err(Error::Taken { .. })));
    assert!(matches!(tx.project_insert(&project(4, "fourth")).await, Err(Error::Aborted)));
    assert!(matches!(tx.commit(&[entry("it")]).await, Err(Error::Aborted)));
    assert_eq!(store.projects_list(org_id(), &Page::default()).await.unwrap().items.len(), 1);
}

/// More writes than could all end at once.
const MANY: u128 = 10_000;

/// Asks a piece of work once and drops it, as a hang-up does.
async fn polled_once<T>(work: impl Future<Output = T>) -> std::task::Poll<T> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| std::task::Poll::Ready(work.as_mut().poll(cx))).await
}

pub(crate) async fn a_write_dropped_halfway_cannot_be_committed(place: &Place) {
    let store = place.open().await;
    parents(&store).await;
    let tx = store.begin().await.unwrap();
    // A database that answers at once lets a write through in one poll; one of so many is surely met halfway.
    let mut number = 0;
    let halfway = loop {
        number += 1;
        assert!(number < MANY, "no write was ever halfway");
        let posting = credit(number, 5);
        if polled_once(tx.posting_insert(&posting)).await.is_pending() {
            break number;
        }
    };
    assert!(matches!(tx.commit(&[entry("it")]).await, Err(Error::Aborted)));
    assert_eq!(
        store.balances_get(org_id()).await.unwrap().available,
        Nano::ZERO,
        "something of {halfway} writes is left"
    );
    // A client that hangs up while its request commits leaves a store that works, whether or not it happened.
    loop {
        number += 1;
        assert!(number < MANY, "no commit was ever halfway");
        let tx = store.begin().await.unwrap();
        tx.posting_insert(&credit(number, 5)).await.unwrap();
        if polled_once(tx.commit(&[entry("it")])).await.is_pending() {
            break;
        }
    }
    let tx = store.begin().await.unwrap();
    tx.posting_insert(&credit(MANY, 5)).await.unwrap();
    done(tx).await;
    let balances = store.balances_get(org_id()).await.unwrap();
    assert_eq!(balances, store.balances_recomputed(org_id()).await.unwrap());
}

pub(crate) async fn readers_see_what_was_committed_and_a_transaction_also_its_own(place: &Place) {
    let store = place.open().await;
    let tx = store.begin().await.unwrap();
    tx.organisation_insert(&organisation(1, "acme")).await.unwrap();
    assert_eq!(tx.organisation_by_name("acme").await.unwrap(), Some(organisation(1, "acme")));
    // Answers at once, although a writer is at work.
    assert_eq!(store.organisation_by_name("acme").await.unwrap(), None);
    done(tx).await;
    assert_eq!(store.organisation_by_name("acme").await.unwrap(), Some(organisation(1, "acme")));
}

/// Two stores on one database, as two control replicas would be, and several tasks on each.
pub(crate) async fn writers_at_once_leave_no_gap_and_lose_no_update(place: &Place) {
    const TASKS: u128 = 6;
    const ROUNDS: u128 = 15;
    let stores = [place.open().await, place.open().await];
    parents(&stores[0]).await;
    let tasks = (0..TASKS).map(|task| {
        let store = stores[usize::try_from(task % 2).unwrap()].clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                add_credit(&store, 1 + task * ROUNDS + round).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let store = &stores[0];
    let rounds = i64::try_from(TASKS * ROUNDS).unwrap();
    let organisation = store.organisation_get(org_id()).await.unwrap().unwrap();
    assert_eq!(organisation.credit, Nano::new(rounds), "an update was lost");
    assert_eq!(organisation.version, 1 + rounds.unsigned_abs());
    let balances = store.balances_get(org_id()).await.unwrap();
    assert_eq!((balances.available, balances.sum()), (Nano::new(rounds), 0));
    assert_eq!(balances, store.balances_recomputed(org_id()).await.unwrap());
    the_log_holds_together(store, 1 + rounds.unsigned_abs()).await;
}

/// Reads, decides, writes: exactly what loses updates where transactions overlap.
async fn add_credit(store: &Store, number: u128) {
    let tx = store.begin().await.unwrap();
    let mut organisation = tx.organisation_get(OrganisationId::from_u128(1)).await.unwrap().unwrap();
    tokio::task::yield_now().await;
    organisation.credit = organisation.credit.add(Nano::new(1)).unwrap();
    organisation.version += 1;
    tx.organisation_update(&organisation).await.unwrap();
    tx.posting_insert(&credit(number, 1)).await.unwrap();
    tx.commit(&[entry(&number.to_string())]).await.unwrap();
}

pub(crate) async fn a_writer_that_waits_too_long_is_told_so(place: &Place) {
    let store = place.open().await;
    let hurried = place.open_impatient(150).await;
    let tx = store.begin().await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(30), hurried.begin()).await.expect("a bound");
    let error = waited.expect_err("the place is taken");
    assert!(matches!(error, Error::Busy), "{error:?}");
    assert!(error.is_transient() && error.hint().is_some());
    drop(tx);
    // Rolled back or not, the place is free again within the patience of a patient writer.
    done(store.begin().await.unwrap()).await;
}
