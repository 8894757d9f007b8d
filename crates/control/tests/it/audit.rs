//! The audit log, checked as a stranger would: by its proofs, its checkpoint and its key.

use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use gregal_core::{
    access::Role,
    audit::{Checkpoint, SignedNote, key_hash_ed25519},
    merkle::{Hash, leaf_hash, verify_inclusion},
};
use serde_json::Value;

use crate::world::Cloud;

const ORIGIN: &str = "audit.test.example/gregal";

fn hash(text: &Value) -> Hash {
    hex::decode(text.as_str().unwrap()).unwrap().try_into().unwrap()
}

/// The checkpoint, once its signature is believed.
fn believed(note: &str, log_key: &Value) -> Checkpoint {
    let note = SignedNote::from_text(note).unwrap();
    let key = hash(log_key);
    let signature = &note.signatures[0];
    assert_eq!((signature.name.as_str(), signature.key_hash), (ORIGIN, key_hash_ed25519(ORIGIN, &key)));
    let signed = Signature::from_slice(&signature.signature).unwrap();
    VerifyingKey::from_bytes(&key).unwrap().verify(note.text.as_bytes(), &signed).unwrap();
    Checkpoint::from_text(&note.text).unwrap()
}

fn proves(item: &Value, body: &str, checkpoint: &Checkpoint) -> bool {
    let proof: Vec<Hash> = item["proof"].as_array().unwrap().iter().map(hash).collect();
    let index = item["index"].as_u64().unwrap();
    verify_inclusion(&leaf_hash(body.as_bytes()), index, checkpoint.size, &proof, &checkpoint.root)
}

#[tokio::test]
async fn every_entry_of_an_organisations_view_proves_its_place_and_a_tampered_one_does_not() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let other = cloud.tenant("Other", 1_000).await;
    let dataset = cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    for name in ["a", "b", "c", "d"] {
        cloud.job(&tenant, &dataset, name).await;
    }
    let organisation = tenant.organisation();
    let (mut path, mut seen) = (format!("/api/v1/organisations/{organisation}/audit?limit=3"), Vec::new());
    loop {
        let page = cloud.get(&tenant.owner, &path).await.good();
        let checkpoint = believed(page["checkpoint"].as_str().unwrap(), &page["log_key"]);
        for item in page["items"].as_array().unwrap() {
            let body = item["body"].as_str().unwrap();
            assert!(proves(item, body, &checkpoint), "{item}");
            let tampered = body.replacen("done", "gone", 1);
            assert!(tampered != body && !proves(item, &tampered, &checkpoint), "{item}");
            let entry: Value = serde_json::from_str(body).unwrap();
            assert_eq!(entry["organisation"], organisation, "nobody else's entries");
            seen.push(entry["action"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/api/v1/organisations/{organisation}/audit?limit=3&after={next}");
    }
    let expected = ["organisation:create", "key:create", "project:create", "dataset:create", "dataset:store"];
    assert_eq!(seen[..5], expected);
    assert_eq!(seen.iter().filter(|action| *action == "job:create").count(), 4);
    let whole = cloud.call(&cloud.operator, "audit_list_all", &[], Value::Null).await.good();
    let (entries, root) = cloud.store.audit_head().await.unwrap();
    assert_eq!(whole["items"].as_array().unwrap().len() as u64, entries);
    let public =
        cloud.send(axum::http::Request::get("/api/v1/audit/checkpoint").body(axum::body::Body::empty()).unwrap()).await;
    let checkpoint = believed(&public.text, &whole["log_key"]);
    assert_eq!((checkpoint.size, checkpoint.root), (entries, root));
    drop(other);
}

#[tokio::test]
async fn a_denial_is_written_into_the_view_of_whoever_knocked_once_a_minute() {
    let cloud = Cloud::open().await;
    let (tenant, other) = (cloud.tenant("Acme", 0).await, cloud.tenant("Other", 0).await);
    let viewer = cloud.key(Some(tenant.organisation), None, Role::Viewer).await;
    for _ in 0..5 {
        let answer = cloud.call(&viewer, "balance_read", &[&tenant.organisation()], Value::Null).await;
        assert_eq!(answer.problem(), "forbidden");
        let answer = cloud.call(&viewer, "balance_read", &[&other.organisation()], Value::Null).await;
        assert_eq!(answer.problem(), "not_found");
    }
    let denials = async |tenant: &crate::world::Tenant| {
        let page = cloud.call(&tenant.owner, "audit_list", &[&tenant.organisation()], Value::Null).await.good();
        let items = page["items"].as_array().unwrap().clone();
        items.iter().filter(|item| item["body"].as_str().unwrap().contains(r#""result":"denied""#)).count()
    };
    assert_eq!((denials(&tenant).await, denials(&other).await), (2, 0));
    cloud.world.pass_seconds(61);
    cloud.call(&viewer, "balance_read", &[&tenant.organisation()], Value::Null).await;
    assert_eq!(denials(&tenant).await, 3);
}

#[tokio::test]
async fn a_stranger_reads_the_same_in_his_own_log_of_what_is_somebody_elses_and_of_what_is_not_there() {
    let cloud = Cloud::open().await;
    let (tenant, stranger) = (cloud.tenant("Acme", 0).await, cloud.tenant("Other", 0).await);
    let made_up = gregal_core::id::ProjectId::from_u128(7).to_string();
    let wanted = serde_json::json!({ "name": "k", "role": "inference" });
    for id in ["project_read", "jobs_list", "key_create"] {
        let body = if id == "key_create" { wanted.clone() } else { Value::Null };
        for project in [&tenant.project(), &made_up] {
            assert_eq!(cloud.call(&stranger.owner, id, &[project], body.clone()).await.problem(), "not_found");
        }
    }
    let page = cloud.call(&stranger.owner, "audit_list", &[&stranger.organisation()], Value::Null).await.good();
    let said = |of: &str| -> Vec<Value> {
        let bodies = page["items"].as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap());
        let about = bodies.filter(|body| body.contains(of)).map(|body| body.replace(of, "ID"));
        let plain = about.map(|body| {
            let mut entry: Value = serde_json::from_str(&body).unwrap();
            (entry["at"], entry["request"]) = (Value::Null, Value::Null);
            entry
        });
        plain.collect()
    };
    let (real, nothing) = (said(&tenant.project()), said(&made_up));
    assert_eq!((real.len(), &real), (3, &nothing));
    assert!(real.iter().all(|entry| entry["result"] == "denied" && entry["policy"] == Value::Null), "{real:?}");
}

#[tokio::test]
async fn who_guesses_ids_fills_no_log_and_nobody_elses_denials_are_lost() {
    let cloud = Cloud::open().await;
    let (guesser, other) = (cloud.tenant("Acme", 0).await, cloud.tenant("Other", 0).await);
    let denied = async |tenant: &crate::world::Tenant| {
        let path = format!("/api/v1/organisations/{}/audit?limit=500", tenant.organisation());
        let page = cloud.get(&tenant.owner, &path).await.good();
        let bodies = page["items"].as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap().to_owned());
        bodies.filter(|body| body.contains(r#""result":"denied""#)).collect::<Vec<_>>()
    };
    for i in 0..100 {
        let guess = gregal_core::id::JobId::from_u128(i).to_string();
        assert_eq!(cloud.call(&guesser.owner, "job_read", &[&guess], Value::Null).await.problem(), "not_found");
    }
    cloud.call(&other.owner, "job_read", &[&gregal_core::id::JobId::from_u128(1).to_string()], Value::Null).await;
    assert_eq!((denied(&guesser).await.len(), denied(&other).await.len()), (60, 1));
    cloud.world.pass_seconds(61);
    cloud.call(&guesser.owner, "job_read", &[&gregal_core::id::JobId::from_u128(1).to_string()], Value::Null).await;
    assert!(denied(&guesser).await.pop().unwrap().contains(r#""left_out_before":40"#));
}
