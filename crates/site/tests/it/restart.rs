//! Control away, answers lost, intents forged, the process killed: the site goes on by what it may believe.

use std::sync::atomic::Ordering;

use gregal_core::{meter::Meter, money::Nano};
use serde_json::{Value, json};

use super::{
    control::{OWNER, STRANGER, allowance},
    world::{World, until},
};

fn ask(count: u64) -> Value {
    json!({"model": "chat", "max_tokens": count, "messages": [{"role": "user", "content": format!("count:{count}")}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn with_control_away_a_restarted_site_serves_meters_and_catches_up() {
    let world = World::new().await;
    let site = world.start_ready().await;
    world.control.state.away.store(true, Ordering::SeqCst);
    assert_eq!(site.chat(OWNER, &ask(3)).await.status(), 200);
    site.crash();
    let site = world.start_ready().await;
    assert_eq!(site.chat(OWNER, &ask(4)).await.status(), 200);
    assert_eq!(site.chat(STRANGER, &ask(4)).await.status(), 404, "and still knows who may not");
    assert!(world.control.usage().is_empty());
    world.control.state.away.store(false, Ordering::SeqCst);
    let usage = until("it to catch up", async || Some(world.control.usage()).filter(|usage| usage.len() == 4)).await;
    let mut out: Vec<u64> =
        usage.iter().filter(|event| event.meter == Meter::TokensOut).map(|event| event.quantity).collect();
    out.sort_unstable();
    assert_eq!(out, [3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_of_an_allowance_is_remembered_over_restarts_and_uploads() {
    let world = World::new().await;
    let site = world.start_ready().await;
    world.control.change(|intent| intent.allowances = vec![allowance(Nano::new(285 * 200 + 4 * 600 + 1))]);
    // Worst case of this request: 284 tokens read and 4 written; really 7 and 4.
    until("the new allowance", async || world.control.last().filter(|last| last.intent_revision == 2)).await;
    assert_eq!(site.chat(OWNER, &ask(4)).await.status(), 200);
    let used = Nano::new(7 * 200 + 4 * 600);
    let report = async || {
        until("the use to be reported", async || {
            world.control.last()?.allowances.first().map(|seen| seen.used).filter(|seen| *seen == used)
        })
        .await
    };
    report().await;
    until("the upload", async || (world.control.usage().len() == 2).then_some(())).await;
    assert_eq!(site.chat(OWNER, &ask(4)).await.status(), 402);
    site.crash();
    // Once it was handed over, once again with control away: what was used stays used.
    for away in [false, true] {
        world.control.state.away.store(away, Ordering::SeqCst);
        let site = world.start().await;
        let refused = until("the replica to be ready", async || {
            Some(site.chat(OWNER, &ask(4)).await).filter(|response| response.status() != 503)
        })
        .await;
        assert_eq!(refused.status(), 402);
        site.crash();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_lost_its_spool_serves_what_control_says_is_left_of_an_allowance_and_not_more() {
    let world = World::new().await;
    // Room for the worst case of one request (283 tokens read and 4 written) less a little, once three are answered.
    let (worst, real) = (283 * 200 + 4 * 600, 7 * 200 + 4 * 600);
    world.control.change(|intent| intent.allowances = vec![allowance(Nano::new(worst + 3 * real - 1))]);
    let site = world.start_ready().await;
    for _ in 0..3 {
        assert_eq!(site.chat(OWNER, &ask(4)).await.status(), 200);
    }
    until("the upload", async || (world.control.usage().len() == 6).then_some(())).await;
    assert_eq!(site.chat(OWNER, &ask(4)).await.status(), 402);
    world.control.charge(Nano::new(3 * real));
    // With control away it cannot know what is left, so it serves nothing on credit.
    world.control.state.away.store(true, Ordering::SeqCst);
    site.crash();
    let spool = world.folder.path().join("spool");
    // The writer of the crashed site may be amid a file.
    until("the spool to be lost", async || std::fs::remove_dir_all(&spool).ok()).await;
    let site = world.start().await;
    let refused = until("the replica to be ready", async || {
        let text = site.chat(OWNER, &ask(4)).await.text().await.unwrap();
        Some(text).filter(|text| !text.contains("load"))
    })
    .await;
    assert!(refused.contains("lost its count of usage"), "{refused}");
    world.control.state.away.store(false, Ordering::SeqCst);
    let answered = async |site: &super::world::Running| {
        until("the count to be taken in", async || {
            Some(site.chat(OWNER, &ask(4)).await.status()).filter(|status| *status != 503)
        })
        .await
    };
    assert_eq!(answered(&site).await, 402, "what was charged is used");
    let seen = async |used: i64| {
        until("the use to be told", async || {
            world.control.last()?.allowances.first().filter(|seen| seen.used == Nano::new(used)).map(drop)
        })
        .await;
    };
    seen(3 * real).await;

    // What is used from here on comes on top, once: while it waits, when it is charged, and over a restart.
    world.control.change(|intent| intent.allowances[0].granted = Nano::new(worst + 4 * real - 1));
    until("more credit", async || (site.chat(OWNER, &ask(4)).await.status() == 200).then_some(())).await;
    seen(4 * real).await;
    for charged in [3 * real, 4 * real] {
        world.control.change(|intent| intent.allowances[0].charged = Nano::new(charged));
        let revision = world.control.change(|_| {});
        until("the intent", async || world.control.last().filter(|last| last.intent_revision == revision)).await;
        seen(4 * real).await;
        assert_eq!(site.chat(OWNER, &ask(4)).await.status(), 402, "charged {charged}");
    }
    site.crash();
    let site = world.start().await;
    assert_eq!(answered(&site).await, 402, "the count was taken in durably");
    seen(4 * real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_control_did_not_sign_changes_nothing() {
    let world = World::new().await;
    let site = world.start_ready().await;
    world.control.state.forging.store(true, Ordering::SeqCst);
    world.control.change(|intent| intent.keys.clear());
    let failed = async |site: &super::world::Running| {
        let text = site.http.get(format!("{}/metrics", site.url)).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("gregal_site_syncs_failed_total")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    until("refused syncs", async || (failed(&site).await >= 2).then_some(())).await;
    assert_eq!(site.chat(OWNER, &ask(1)).await.status(), 200);
    site.crash();
    // The same on disk: a changed file is not believed, and the site waits for control instead.
    let path = world.folder.path().join("intent.json");
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept.contains("owner"));
    world.control.state.away.store(true, Ordering::SeqCst);
    std::fs::write(&path, kept.replacen("viewer", "owner_", 1).replace("owner_", "owner")).unwrap();
    let site = world.start().await;
    assert_eq!(
        site.chat(OWNER, &ask(1)).await.status(),
        503,
        "a site without a believed intent knows nobody, and says so"
    );
    let health: Value = site.http.get(format!("{}/healthz", site.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["intent_revision"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_whose_answer_was_lost_is_sent_again_and_counted_once() {
    let world = World::new().await;
    let site = world.start_ready().await;
    world.control.state.answers_lost.store(3, Ordering::SeqCst);
    for count in 1..4 {
        assert_eq!(site.chat(OWNER, &ask(count)).await.status(), 200);
    }
    until("everything to be handed over", async || {
        let health: Value = site.http.get(format!("{}/healthz", site.url)).send().await.unwrap().json().await.unwrap();
        (health["usage_waiting"] == 0 && world.control.usage().len() == 6).then_some(())
    })
    .await;
    assert!(world.control.state.records_received.load(Ordering::SeqCst) > 6, "some came more than once");
    let out: u64 =
        world.control.usage().iter().filter(|event| event.meter == Meter::TokensOut).map(|event| event.quantity).sum();
    assert_eq!(out, 1 + 2 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_comes_back_is_found_again_while_control_is_away() {
    let world = World::new().await;
    let site = world.start_ready().await;
    world.control.state.away.store(true, Ordering::SeqCst);
    let (spool, hidden) = (world.folder.path().join("spool"), world.folder.path().join("hidden"));
    // Nothing was recorded yet, so that the first record needs the folder.
    std::fs::rename(&spool, &hidden).unwrap();
    assert_eq!(site.chat(OWNER, &ask(2)).await.status(), 503, "what cannot be recorded is not answered whole");
    let refused = site.chat(OWNER, &ask(2)).await.text().await.unwrap();
    assert!(refused.contains("cannot record more usage"), "{refused}");
    std::fs::rename(&hidden, &spool).unwrap();
    until("the site to take work again", async || (site.chat(OWNER, &ask(3)).await.status() == 200).then_some(()))
        .await;
    world.control.state.away.store(false, Ordering::SeqCst);
    let usage =
        until("both to reach control", async || Some(world.control.usage()).filter(|usage| usage.len() == 4)).await;
    let mut out: Vec<u64> =
        usage.iter().filter(|event| event.meter == Meter::TokensOut).map(|event| event.quantity).collect();
    out.sort_unstable();
    assert_eq!(out, [2, 3], "what the disk refused first is billed once it took it");
}
