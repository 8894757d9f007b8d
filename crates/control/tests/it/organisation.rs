//! Organisations, their ceilings, their projects and keys.

use serde_json::{Value, json};

use crate::world::Cloud;

#[tokio::test]
async fn content_is_placed_only_where_the_ceiling_allows_and_the_rule_is_named() {
    let cloud = Cloud::open().await;
    cloud.site("reston", "US").await;
    let tenant = cloud.tenant("Acme", 0).await;
    let project = tenant.project();
    let announce = async |wanted: Value| cloud.call(&tenant.owner, "dataset_create", &[&project], wanted).await;
    let refused = announce(json!({ "name": "a" })).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "residency_refused"));
    assert_eq!(refused.json()["rule"], "residency.site_jurisdiction");

    cloud.site("lyon", "FR").await;
    let refused = announce(json!({ "name": "a", "site": "reston" })).await;
    assert_eq!(refused.json()["rule"], "residency.site_jurisdiction");
    assert!(refused.text.contains("`US` among the organisation's allowed jurisdictions"), "{}", refused.text);
    let made = announce(json!({ "name": "a" })).await.good();
    assert_eq!(made["grant"]["url"], "http://lyon.test", "a lawful one is chosen");
    let verdicts = cloud.call(&tenant.owner, "placement_explain", &[&project], json!({})).await.good();
    let allowed: Vec<_> =
        verdicts["sites"].as_array().unwrap().iter().map(|site| (&site["name"], &site["allowed"])).collect();
    assert_eq!(allowed, [(&json!("reston"), &json!(false)), (&json!("lyon"), &json!(true))]);
    let one = cloud.call(&tenant.owner, "placement_explain", &[&project], json!({ "site": "reston" })).await.good();
    assert_eq!(one["sites"][0]["rule"], "residency.site_jurisdiction");
}

#[tokio::test]
async fn a_ceiling_is_not_lowered_over_content_that_stands_outside_it() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let organisation = tenant.organisation();
    let set = async |laws: Value| {
        let wanted = json!({ "jurisdictions": laws });
        cloud.call(&tenant.owner, "residency_write", &[&organisation], wanted).await
    };
    let refused = set(json!(["DE"])).await;
    assert_eq!(refused.problem(), "conflict");
    assert!(refused.text.contains("dataset `facts.jsonl`"), "{}", refused.text);
    assert_eq!(set(json!(["DE", "FR"])).await.good()["residency"]["jurisdictions"], json!(["DE", "FR"]));
    cloud.call(&tenant.owner, "dataset_delete", &[&dataset], Value::Null).await.good();
    assert_eq!(set(json!(["DE"])).await.status, 200);
    assert_eq!(set(json!(["EU"])).await.good()["residency"]["jurisdictions"].as_array().unwrap().len(), 27);
    for wrong in [json!([]), json!(["eu"]), json!(["Germany"])] {
        assert_eq!(set(wrong).await.problem(), "invalid_request");
    }
}

#[tokio::test]
async fn nobody_grants_more_than_he_holds_and_a_revoked_key_stops_at_once() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let project = tenant.project();
    let make = async |key: &str, role: &str| {
        cloud.call(key, "key_create", &[&project], json!({ "name": "k", "role": role })).await
    };
    let admin = make(&tenant.owner, "admin").await.good();
    let secret = admin["secret"].as_str().unwrap();
    assert_eq!(make(secret, "owner").await.problem(), "forbidden");
    assert_eq!(make(secret, "admin").await.problem(), "forbidden");
    assert_eq!(make(&tenant.owner, "operator").await.problem(), "forbidden");
    let developer = make(secret, "developer").await.good();
    let developer_secret = developer["secret"].as_str().unwrap();
    assert_eq!(make(developer_secret, "viewer").await.problem(), "forbidden");
    let me = cloud.call(developer_secret, "whoami", &[], Value::Null).await.good();
    let may = |action: &str| me["actions"].as_array().unwrap().contains(&json!(action));
    assert!(may("job:create") && may("key:create") && !may("invoice:read") && !may("organisation:create"), "{me}");

    let id = developer["key"]["id"].as_str().unwrap();
    for _ in 0..2 {
        assert!(cloud.call(secret, "key_revoke", &[id], Value::Null).await.good()["revoked_at"].is_string());
    }
    assert_eq!(cloud.call(developer_secret, "whoami", &[], Value::Null).await.problem(), "unauthenticated");
    let listed = cloud.call(&tenant.owner, "keys_list", &[&project], Value::Null).await;
    assert!(!listed.text.contains("secret") && !listed.text.contains("digest"), "{}", listed.text);

    let wanted = json!({ "name": "short", "role": "viewer", "expires_in_s": 60 });
    let short = cloud.call(&tenant.owner, "key_create", &[&project], wanted).await.good();
    let short = short["secret"].as_str().unwrap();
    assert_eq!(cloud.call(short, "project_read", &[&project], Value::Null).await.status, 200);
    cloud.world.pass_seconds(61);
    assert_eq!(cloud.call(short, "project_read", &[&project], Value::Null).await.problem(), "unauthenticated");
}

#[tokio::test]
async fn the_operators_key_is_made_once() {
    let cloud = Cloud::open().await;
    assert_eq!(cloud.control.operator_key_ensure().await.unwrap(), None);
}
