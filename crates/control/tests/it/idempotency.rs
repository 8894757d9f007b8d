//! The same request twice is one act.

use serde_json::{Value, json};

use crate::world::{Cloud, training};

#[tokio::test]
async fn a_repeated_create_answers_the_same_and_makes_nothing_new() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let organisation = tenant.organisation();
    let make = async |name: &str, once: &str| {
        let wanted = json!({ "name": name });
        cloud.call_once(&tenant.owner, "project_create", &[&organisation], wanted, Some(once)).await
    };
    let first = make("blue", "k1").await;
    let again = make("blue", "k1").await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.json(), again.json());
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(make("green", "k1").await.problem(), "idempotency_mismatch");
    assert_eq!(make("blue", "k2").await.problem(), "taken");
    assert_eq!(make("green", "k2").await.status, 201, "a refused request leaves its key free");
    let listed = cloud.call(&tenant.owner, "projects_list", &[&organisation], Value::Null).await.good();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    for unusable in ["", &"k".repeat(129)] {
        assert_eq!(make("red", unusable).await.problem(), "invalid_request");
    }
}

#[tokio::test]
async fn a_secret_is_shown_once_and_never_kept() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let make = async || {
        let wanted = json!({ "name": "ci", "role": "developer" });
        cloud.call_once(&tenant.owner, "key_create", &[&tenant.project()], wanted, Some("once")).await
    };
    let first = make().await.good();
    let secret = first["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("gk_"));
    let again = make().await.good();
    assert_eq!((&again["secret"], &again["key"]), (&Value::Null, &first["key"]));

    let wanted = json!({ "name": "Second", "country": "FR" });
    let twice =
        async || cloud.call_once(&cloud.operator, "organisation_create", &[], wanted.clone(), Some("org")).await.good();
    assert!(twice().await["owner_key"]["secret"].is_string());
    assert_eq!(twice().await["owner_key"]["secret"], Value::Null);
    let log = cloud.call(&cloud.operator, "audit_list_all", &[], Value::Null).await.text;
    assert!(!log.contains(&secret) && !log.contains(&tenant.owner), "the log knows no secret");
}

#[tokio::test]
async fn the_same_request_many_times_at_once_is_carried_out_once() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let project = tenant.project();
    let parameters = [project.as_str()];
    let calls = (0..16)
        .map(|_| cloud.call_once(&tenant.owner, "job_create", &parameters, training(&dataset, "one"), Some("same")));
    let answers = futures_util::future::join_all(calls).await;
    let ids: std::collections::BTreeSet<String> =
        answers.iter().map(|answer| answer.good()["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1);
    let fresh = answers.iter().filter(|answer| !answer.headers.contains_key("idempotent-replayed")).count();
    assert_eq!(fresh, 1);
    assert_eq!(cloud.balances(tenant.organisation).await.held.get(), 666_667, "held once");
}

#[tokio::test]
async fn another_keys_idempotency_key_is_its_own_and_answers_are_forgotten_after_a_day() {
    let cloud = Cloud::open().await;
    let (one, two) = (cloud.tenant("One", 0).await, cloud.tenant("Two", 0).await);
    for tenant in [&one, &two] {
        let wanted = json!({ "name": "blue" });
        let made = cloud.call_once(&tenant.owner, "project_create", &[&tenant.organisation()], wanted, Some("k")).await;
        assert_eq!((made.status, made.headers.contains_key("idempotent-replayed")), (201, false));
    }
    cloud.world.pass_seconds(90_000);
    cloud.control.step().await.unwrap();
    let wanted = json!({ "name": "green" });
    let made = cloud.call_once(&one.owner, "project_create", &[&one.organisation()], wanted, Some("k")).await;
    assert_eq!(made.status, 201);
}

#[tokio::test]
async fn a_repeated_grant_is_given_afresh_because_its_credential_was_not_kept() {
    let cloud = Cloud::open().await;
    cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 0).await;
    let announce = async || {
        let wanted = json!({ "name": "facts.jsonl" });
        cloud.call_once(&tenant.owner, "dataset_create", &[&tenant.project()], wanted, Some("d")).await.good()
    };
    let made = announce().await;
    assert!(made["grant"]["grant"].is_string());
    let dataset = made["dataset"]["id"].as_str().unwrap().to_owned();
    assert_eq!(announce().await["grant"], Value::Null);
    for _ in 0..2 {
        let wanted = json!({ "purpose": "dataset_write", "object": dataset });
        let grant =
            cloud.call_once(&tenant.owner, "grant_create", &[&tenant.project()], wanted, Some("g")).await.good();
        assert_eq!(grant["url"], "http://lyon.test");
        assert!(grant["grant"].as_str().is_some_and(|line| line.contains('.')), "{grant}");
    }
}
