//! Usage: counted once, for whom it belongs to, or not at all.

use gregal_core::meter::Meter;
use serde_json::{Value, json};

use crate::world::{Cloud, ended, running, with_dataset};

#[tokio::test]
async fn a_record_sent_again_counts_once_in_the_same_batch_and_in_a_later_one() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.world.pass_seconds(20);
    let event = site.core_seconds(&cloud, &tenant, job, "1", 9);
    let receipt = site.uses(&cloud, &[event.clone(), event.clone()]).await;
    assert_eq!(receipt, json!({ "accepted": 1, "duplicates": 1, "refused": [] }));
    let once = cloud.balances(tenant.organisation).await;
    assert_eq!(once.accrued.get(), 100_000);
    let (before, _) = cloud.store.audit_head().await.unwrap();
    let receipt = site.uses(&cloud, std::slice::from_ref(&event)).await;
    assert_eq!(receipt, json!({ "accepted": 0, "duplicates": 1, "refused": [] }));
    assert_eq!(cloud.balances(tenant.organisation).await, once);
    assert_eq!(cloud.store.audit_head().await.unwrap().0, before, "nothing was done, nothing is written");

    let mut other = event;
    other.quantity -= 1;
    let receipt = site.uses(&cloud, &[other]).await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(0), &json!(0)));
    assert!(receipt["refused"][0]["reason"].as_str().unwrap().contains("other facts"), "{receipt}");
    assert_eq!(cloud.balances(tenant.organisation).await, once);
}

#[tokio::test]
async fn what_a_site_cannot_know_or_have_sold_is_refused_and_kept_in_quarantine() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let other_site = cloud.site("turin", "IT").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let stranger = cloud.tenant("Other", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.world.pass_seconds(20);
    let good = site.core_seconds(&cloud, &tenant, job, "1", 9);
    let changed = |change: &dyn Fn(&mut gregal_core::meter::UsageEvent), occasion: &str| {
        let mut event = site.core_seconds(&cloud, &tenant, job, occasion, 9);
        change(&mut event);
        event
    };
    let bad = [
        (changed(&|e| e.organisation = stranger.organisation, "a"), "not of this project"),
        (changed(&|e| e.project = stranger.project, "b"), "not of this project"),
        (changed(&|e| e.site = other_site.id, "c"), "of another site"),
        (changed(&|e| e.subject = "nothing".into(), "d"), "neither a job nor an endpoint"),
        (changed(&|e| e.item = "*".into(), "e"), "was sold `cpu.1`"),
        (changed(&|e| e.quantity = 9_002, "f"), "cannot be used in 9000 ms"),
        (changed(&|e| e.meter = Meter::TokensOut, "g"), "a job uses no tokens"),
        (changed(&|e| e.ended_at = e.ended_at.plus_seconds(100_000), "h"), "still to come"),
        (changed(&|e| e.id = "short".into(), "i"), "64 lower-case hex digits"),
    ];
    let mut events: Vec<_> = bad.iter().map(|(event, _)| event.clone()).collect();
    events.push(good);
    let receipt = site.uses(&cloud, &events).await;
    assert_eq!(receipt["accepted"], 1, "{receipt}");
    for (index, (event, why)) in bad.iter().enumerate() {
        let refusal = &receipt["refused"][index];
        assert_eq!(refusal["id"], event.id);
        assert!(refusal["reason"].as_str().unwrap().contains(why), "{refusal}, expected {why}");
    }
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 100_000);
    assert_eq!(cloud.balances(stranger.organisation).await.accrued.get(), 0);
    let log = cloud.call(&cloud.operator, "audit_list_all", &[], Value::Null).await.good();
    let is_quarantine = |item: &&Value| item["body"].as_str().unwrap().contains("usage:quarantine");
    assert_eq!(log["items"].as_array().unwrap().iter().filter(is_quarantine).count(), 1);

    // The site lets go of what was refused, so all of it is here, whole, and once however often it is sent.
    site.uses(&cloud, &events).await;
    let mut kept: Vec<gregal_api::usage::QuarantinedUsage> = Vec::new();
    let mut next = String::new();
    loop {
        let page = cloud.get(&cloud.operator, &format!("/api/v1/sites/lyon/quarantine?limit=4{next}")).await.good();
        kept.extend(serde_json::from_value::<Vec<_>>(page["items"].clone()).unwrap());
        let Some(after) = page["next"].as_str() else { break };
        next = format!("&after={after}");
        assert!(kept.len() <= bad.len(), "a page comes again: {kept:?}");
    }
    assert_eq!(kept.len(), bad.len());
    for (kept, (event, why)) in kept.iter().zip(&bad) {
        assert_eq!(kept.record, *event);
        assert!(kept.reason.contains(why), "{}", kept.reason);
    }
    let other = cloud.call(&cloud.operator, "site_quarantine", &["turin"], Value::Null).await.good();
    assert_eq!(other["items"], json!([]));
    let log = cloud.call(&cloud.operator, "audit_list_all", &[], Value::Null).await.good();
    assert_eq!(log["items"].as_array().unwrap().iter().filter(is_quarantine).count(), 1, "nothing new, nothing said");

    // A job at another site is a stranger there, whoever asks.
    let mut event = other_site.core_seconds(&cloud, &tenant, job, "j", 1);
    event.site = other_site.id;
    let receipt = other_site.uses(&cloud, &[event]).await;
    assert_eq!(receipt["accepted"], 0, "{receipt}");
}

#[tokio::test]
async fn a_batch_with_a_record_that_may_count_later_is_not_taken_and_counts_later() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.world.pass_seconds(20);
    let good = site.core_seconds(&cloud, &tenant, job, "1", 9);
    let mut odd = site.core_seconds(&cloud, &tenant, job, "2", 9);
    odd.item = "*".into();
    // The site's clock is an hour ahead.
    let mut ahead = site.core_seconds(&cloud, &tenant, job, "3", 9);
    ahead.ended_at = ahead.ended_at.plus_seconds(3_600);
    let batch = json!({ "events": [good, odd, ahead] });
    let (before, _) = cloud.store.audit_head().await.unwrap();
    let refusal = cloud.call(&site.secret, "site_usage", &[], batch.clone()).await;
    assert_eq!((refusal.status, refusal.problem().as_str()), (503, "unavailable"), "{}", refusal.text);
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 0);
    assert_eq!(cloud.store.audit_head().await.unwrap().0, before);
    let page = gregal_store::Page::first(10);
    assert!(cloud.store.usage_quarantine_list(site.id, &page).await.unwrap().items.is_empty());
    cloud.world.pass_seconds(3_600);
    let receipt = cloud.call(&site.secret, "site_usage", &[], batch).await.good();
    assert_eq!((&receipt["accepted"], receipt["refused"].as_array().unwrap().len()), (&json!(2), 1), "{receipt}");
    assert_eq!(cloud.balances(tenant.organisation).await.accrued.get(), 200_000);
    assert_eq!(cloud.store.usage_quarantine_list(site.id, &page).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn use_that_comes_in_after_the_hold_was_closed_is_billed_all_the_same() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    site.says(&cloud, job, 1, running(&cloud)).await;
    cloud.world.pass_seconds(20);
    let event = site.core_seconds(&cloud, &tenant, job, "1", 9);
    site.says(&cloud, job, 1, ended(&cloud, "failed", false)).await;
    site.uses(&cloud, &[event]).await;
    let balances = cloud.balances(tenant.organisation).await;
    assert_eq!((balances.accrued.get(), balances.held.get()), (100_000, 0));
}
