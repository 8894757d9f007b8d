//! Sites: what they are told, when, and by whom they are believed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::Cloud;

#[tokio::test]
async fn an_intent_keeps_its_number_until_it_says_something_else() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let first = site.intent().revision;
    for _ in 0..3 {
        assert!(site.sync(&cloud).await.intent.is_none(), "nothing is new");
    }
    // A site that has lost its copy gets the same one again, under the same number.
    site.report.intent_revision = 0;
    site.sync(&cloud).await;
    assert_eq!(site.intent().revision, first);
    let tenant = cloud.tenant("Acme", 0).await;
    cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    site.sync(&cloud).await;
    assert!(site.intent().revision > first);
    assert_eq!(site.intent().datasets[0].digest, Some("ab".repeat(32)));
    assert_eq!(site.intent().organisations[0].organisation, tenant.organisation);
    assert_eq!(site.intent().site.secret_digest, "", "not even the digest of a secret leaves");
    // A number we do not remember (a restored backup) is passed, not repeated.
    site.report.intent_revision = 1_000;
    site.sync(&cloud).await;
    assert_eq!(site.intent().revision, 1_001);
}

#[tokio::test]
async fn a_site_that_waits_is_told_as_soon_as_something_changes() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 0).await;
    site.sync(&cloud).await;
    site.report.wait_ms = 10_000;
    let began = Instant::now();
    // The site has written its report down once its lease is renewed; how it was is read before it may.
    let lease = async || cloud.store.site_get(site_id(&cloud).await).await.unwrap().unwrap().version;
    let before = lease().await;
    let change = async {
        while lease().await == before {
            tokio::task::yield_now().await;
        }
        let wanted = json!({ "name": "late", "site": "lyon" });
        cloud.call(&tenant.owner, "dataset_create", &[&tenant.project()], wanted).await.good();
    };
    let (answer, ()) = tokio::join!(site.sync(&cloud), change);
    assert!(answer.intent.is_some());
    assert!(began.elapsed() < Duration::from_secs(9), "it did not wait to the end");
}

async fn site_id(cloud: &Cloud) -> gregal_core::id::SiteId {
    cloud.store.sites_all().await.unwrap()[0].id
}

#[tokio::test]
async fn what_a_site_says_has_bounds() {
    let cloud = Cloud::open().await;
    let site = cloud.site("lyon", "FR").await;
    let sync = async |change: &dyn Fn(&mut Value)| {
        let mut body = serde_json::to_value(&site.report).unwrap();
        change(&mut body);
        cloud.call(&site.secret, "site_sync", &[], body).await
    };
    assert_eq!(sync(&|body| body["url"] = json!("ftp://x")).await.problem(), "invalid_request");
    assert_eq!(sync(&|body| body["incarnation"] = json!("")).await.problem(), "invalid_request");
    assert_eq!(sync(&|body| body["surprise"] = json!(1)).await.problem(), "invalid_request");
    let events = json!({ "events": vec![json!({}); 1_001] });
    assert_eq!(cloud.call(&site.secret, "site_usage", &[], events).await.problem(), "invalid_request");
}

#[tokio::test]
async fn a_removed_dataset_is_wanted_gone_until_its_site_says_so_and_nobody_can_write_it_any_more() {
    let cloud = Cloud::open().await;
    let mut lyon = cloud.site("lyon", "FR").await;
    let mut turin = cloud.site("turin", "IT").await;
    let tenant = cloud.tenant("Acme", 0).await;
    let dataset: gregal_core::id::DatasetId = cloud.dataset(&tenant, &mut lyon, "facts.jsonl").await.parse().unwrap();
    let wanted = |site: &crate::world::FakeSite| {
        site.intent().datasets.iter().map(|one| (one.dataset, one.delete)).collect::<Vec<_>>()
    };
    // Said of one that is there, it changes nothing.
    lyon.report.datasets_gone = vec![dataset];
    lyon.sync(&cloud).await;
    lyon.sync(&cloud).await;
    assert_eq!(wanted(&lyon), [(dataset, false)]);
    cloud.call(&tenant.owner, "dataset_delete", &[&dataset.to_string()], Value::Null).await.good();
    cloud.world.pass_seconds(900);
    lyon.sync(&cloud).await;
    assert_eq!(wanted(&lyon), [(dataset, true)], "a grant may live a little longer");
    cloud.world.pass_seconds(61);
    // Not what another site says, and not by itself.
    turin.report.datasets_gone = vec![dataset];
    turin.sync(&cloud).await;
    lyon.report.datasets_gone.clear();
    lyon.sync(&cloud).await;
    assert_eq!(wanted(&lyon), [(dataset, true)]);
    lyon.report.datasets_gone = vec![dataset];
    lyon.sync(&cloud).await;
    assert_eq!(wanted(&lyon), []);
    // The answer was lost: it is said again, and nothing more comes of it.
    let (before, _) = cloud.store.audit_head().await.unwrap();
    lyon.report.intent_revision -= 1;
    lyon.sync(&cloud).await;
    assert_eq!((wanted(&lyon), cloud.store.audit_head().await.unwrap().0), (Vec::new(), before));
    let read = cloud.call(&tenant.owner, "dataset_read", &[&dataset.to_string()], Value::Null).await.good();
    assert_eq!(read["state"], "deleted", "its facts stay for lineage");
    cloud.dataset(&tenant, &mut lyon, "facts.jsonl").await;
}

#[tokio::test]
async fn a_site_speaks_only_of_what_is_at_it() {
    let cloud = Cloud::open().await;
    let mut lyon = cloud.site("lyon", "FR").await;
    let mut turin = cloud.site("turin", "IT").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut lyon, "facts.jsonl").await;
    let job = cloud.job(&tenant, &dataset, "first").await;
    cloud.control.step().await.unwrap();
    turin.says(&cloud, job, 1, crate::world::ended(&cloud, "finished", true)).await;
    assert_eq!(cloud.job_read(&tenant, job).await["state"], "starting");
    let wanted = json!({ "name": "second", "site": "lyon" });
    let made = cloud.call(&tenant.owner, "dataset_create", &[&tenant.project()], wanted).await.good();
    let second = made["dataset"]["id"].as_str().unwrap();
    turin.report.datasets = vec![gregal_api::protocol::ObservedDataset {
        dataset: second.parse().unwrap(),
        digest: "ee".repeat(32),
        bytes: 1,
    }];
    assert!(turin.sync(&cloud).await.datasets_stored.is_empty());
    let read = cloud.call(&tenant.owner, "dataset_read", &[second], Value::Null).await.good();
    assert_eq!(read["state"], "pending");
}

#[tokio::test]
async fn a_site_cannot_say_that_it_has_more_than_anybody_could_look_at() {
    let cloud = Cloud::open().await;
    let site = cloud.site("lyon", "FR").await;
    let accelerator = |model: String| json!({ "uuid": "GPU-1", "model": model, "memory_bytes": 1, "healthy": true });
    let said = async |accelerators: Vec<Value>| {
        let mut body = serde_json::to_value(&site.report).unwrap();
        body["capacity"]["accelerators"] = json!(accelerators);
        cloud.call(&site.secret, "site_sync", &[], body).await.status
    };
    assert_eq!(said(vec![accelerator("H100".into())]).await, 200);
    assert_eq!(said((0..1025).map(|number| accelerator(format!("model-{number}"))).collect()).await, 400);
    assert_eq!(said(vec![accelerator("x".repeat(101))]).await, 400);
}
