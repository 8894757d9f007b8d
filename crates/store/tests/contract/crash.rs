//! A process that dies: what it acknowledged is there, what it did not finish is not, and everything fits together.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use gregal_core::{meter::Meter, money::Nano};
use gregal_store::{Store, StoreOptions, UsageInserted};

use super::*;

/// Set for the process that is to be killed.
const CHILD: &str = "GREGAL_STORE_TEST_CRASH_URL";

pub(crate) async fn what_was_acknowledged_survives_a_kill(place: &Place) {
    if let Ok(url) = std::env::var(CHILD) {
        return commit_for_ever(&url).await;
    }
    let store = place.open().await;
    parents(&store).await;
    store.close().await.unwrap();
    for acknowledged in [1, 5, 40, 13] {
        let said = killed_after(&place.url, acknowledged);
        let store = place.open().await;
        for number in &said {
            let id = usage(number, Meter::TokensIn, "small", 1, NOW).id;
            assert!(store.usage_get(&id).await.unwrap().is_some(), "{number} was acknowledged and is lost");
        }
        let records = store.usage_all(org_id(), NOW, NOW.plus_millis(1)).await.unwrap().len();
        let balances = store.balances_get(org_id()).await.unwrap();
        assert_eq!(balances, store.balances_recomputed(org_id()).await.unwrap());
        assert_eq!(balances.available, Nano::new(i64::try_from(records).unwrap()), "usage and money went together");
        assert_eq!(balances.sum(), 0);
        the_log_holds_together(&store, records as u64 + 1).await;
        store.close().await.unwrap();
    }
}

/// Starts this very test as another process, reads what it acknowledges, and kills it in the middle of its work.
fn killed_after(url: &str, acknowledged: usize) -> Vec<String> {
    let name = "what_was_acknowledged_survives_a_kill";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The test harness talks on the same stream, and does not always end its line.
        if let Some((_, number)) = line.unwrap().split_once("acknowledged ") {
            said.push(number.to_owned());
        }
        if said.len() == acknowledged {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(said.len(), acknowledged, "the process ended by itself");
    said
}

async fn commit_for_ever(url: &str) {
    let store = Store::open(StoreOptions::new(url)).await.unwrap();
    let begin = store.usage_all(org_id(), NOW, NOW.plus_millis(1)).await.unwrap().len() as u128;
    // Bounded, so that a parent that died does not leave a process behind.
    for number in (begin + 1)..(begin + 100_000) {
        let occasion = number.to_string();
        let tx = store.begin().await.unwrap();
        let event = usage(&occasion, Meter::TokensIn, "small", 1, NOW);
        let outcome = tx.usage_insert(&event, Nano::new(1), NOW).await.unwrap();
        assert_eq!(outcome, UsageInserted::Inserted);
        tx.posting_insert(&credit(number, 1)).await.unwrap();
        tx.outbox_push("test", &serde_json::json!({ "number": occasion })).await.unwrap();
        tx.commit(&[entry(&occasion)]).await.unwrap();
        let mut out = std::io::stdout().lock();
        if writeln!(out, "acknowledged {occasion}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
