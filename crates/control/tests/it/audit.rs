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
