//! The audit log, checked as a stranger would: by its proofs, its checkpoint and its key.

use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use gregal_core::{
    access::Role,
    audit::{Checkpoint, SignedNote, ViewChain, ViewHead, key_hash_ed25519},
    merkle::{Hash, Tiles, Wanted, leaf_hash, verify_consistency, verify_inclusion},
};
use serde_json::Value;

use crate::world::Cloud;

const ORIGIN: &str = "audit.test.example/gregal";

fn hash(text: &Value) -> Hash {
    hex::decode(text.as_str().unwrap()).unwrap().try_into().unwrap()
}

/// The checkpoint, once its signature is believed.
fn believed(note: &str, log_key: &Value) -> Checkpoint {
    Checkpoint::from_text(&signed_text(note, log_key)).unwrap()
}

/// A note's text, once its signature is believed.
fn signed_text(note: &str, log_key: &Value) -> String {
    let note = SignedNote::from_text(note).unwrap();
    let key = hash(log_key);
    let signature = &note.signatures[0];
    assert_eq!((signature.name.as_str(), signature.key_hash), (ORIGIN, key_hash_ed25519(ORIGIN, &key)));
    let signed = Signature::from_slice(&signature.signature).unwrap();
    VerifyingKey::from_bytes(&key).unwrap().verify(note.text.as_bytes(), &signed).unwrap();
    note.text
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

/// What a public route answers.
async fn public(cloud: &Cloud, path: &str) -> (u16, Vec<u8>, Option<String>) {
    let request = axum::http::Request::get(format!("/api/v1/audit/{path}")).body(axum::body::Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(cloud.control.router(), request).await.unwrap();
    let status = answer.status().as_u16();
    let cached = answer.headers().get("cache-control").map(|value| value.to_str().unwrap().to_owned());
    (status, axum::body::to_bytes(answer.into_body(), 1 << 24).await.unwrap().to_vec(), cached)
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    assert!(rest.is_empty());
    hashes.to_vec()
}

/// Makes the log longer by entries of the test's own.
async fn lengthen(cloud: &Cloud, by: usize) {
    let now = gregal_core::time::Time::from_millis(1_000);
    let entries: Vec<_> = (0..by).map(|n| crate::world::entry(now, &format!("test:{n}"))).collect();
    cloud.store.begin().await.unwrap().commit(&entries).await.unwrap();
}

#[tokio::test]
async fn anyone_can_follow_the_log_by_its_tiles_and_learns_nothing_but_hashes() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    lengthen(&cloud, 700).await;
    let log_key = cloud.get(&cloud.operator, "/api/v1/audit?limit=1").await.good()["log_key"].clone();
    let (_, note, _) = public(&cloud, "checkpoint").await;
    let checkpoint = believed(std::str::from_utf8(&note).unwrap(), &log_key);
    let mut tiles = Tiles::default();
    for tile in Wanted::Root(checkpoint.size).tiles() {
        let (status, bytes, cached) = public(&cloud, &format!("tile/{}", tile.path())).await;
        assert_eq!((status, bytes.len()), (200, usize::from(tile.width) * 32));
        let kept = cached.unwrap();
        assert_eq!(kept.contains("immutable"), tile.is_full(), "{kept}");
        tiles.put(tile, hashes(&bytes));
    }
    assert_eq!(tiles.show(Wanted::Root(checkpoint.size)), Some(vec![checkpoint.root]));
    // A part of a tile that became full meanwhile is still served, and what is not there is not.
    assert_eq!(public(&cloud, "tile/0/000.p/3").await.1.len(), 96);
    let missing =
        ["tile/0/x999/000", "tile/0/002.p/255", "tile/1/000", "tile/0/0", "tile/0/000.p/0", "tile/9/000", "tile/x/000"];
    for path in missing {
        assert_eq!(public(&cloud, path).await.0, 404, "{path}");
    }
    // Entries are for who may read them all.
    assert_eq!(public(&cloud, "tile/entries/000").await.0, 401);
    let refused = cloud.call(&tenant.owner, "audit_entries", &["000"], Value::Null).await;
    assert_eq!(refused.problem(), "forbidden");
    let bundle = cloud.call(&cloud.operator, "audit_entries", &["002.p/9"], Value::Null).await;
    assert_eq!(bundle.status, 200);
    let (mut rest, mut leaves) = (&bundle.bytes[..], Vec::new());
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (body, more) = more.split_at(usize::from(u16::from_be_bytes(*length)));
        leaves.push(leaf_hash(body));
        rest = more;
    }
    assert_eq!(leaves, hashes(&public(&cloud, "tile/0/002.p/9").await.1));
}

#[tokio::test]
async fn a_later_log_is_proved_to_begin_with_an_earlier_one() {
    let cloud = Cloud::open().await;
    lengthen(&cloud, 300).await;
    let (old_size, old_root) = cloud.store.audit_head().await.unwrap();
    lengthen(&cloud, 411).await;
    let (new_size, new_root) = cloud.store.audit_head().await.unwrap();
    let (_, answer, _) = public(&cloud, &format!("consistency?old={old_size}")).await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let proof: Vec<Hash> = answer["proof"].as_array().unwrap().iter().map(hash).collect();
    assert_eq!((answer["new_size"].as_u64(), hash(&answer["old_root"])), (Some(new_size), old_root));
    assert!(!proof.is_empty() && verify_consistency(old_size, new_size, &old_root, &new_root, &proof));
    for beyond in [format!("old={}", new_size + 1), format!("old=1&new={}", new_size + 1), "old=9&new=3".into()] {
        assert_eq!(public(&cloud, &format!("consistency?{beyond}")).await.0, 400, "{beyond}");
    }
    // The past is shown as it was.
    let page = cloud.get(&cloud.operator, &format!("/api/v1/audit?limit=2&after=5&at={old_size}")).await.good();
    let checkpoint = believed(page["checkpoint"].as_str().unwrap(), &page["log_key"]);
    assert_eq!((checkpoint.size, checkpoint.root), (old_size, old_root));
    for item in page["items"].as_array().unwrap() {
        assert!(proves(item, item["body"].as_str().unwrap(), &checkpoint), "{item}");
    }
    let beyond = cloud.get(&cloud.operator, &format!("/api/v1/audit?at={}", new_size + 1)).await;
    assert_eq!(beyond.problem(), "invalid_request");
}

#[tokio::test]
async fn an_organisations_view_is_numbered_and_its_end_is_signed() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let other = cloud.tenant("Other", 1_000).await;
    let (size, root) = cloud.store.audit_head().await.unwrap();
    cloud.key(Some(tenant.organisation), None, Role::Viewer).await;
    for at in [String::new(), format!("&at={size}")] {
        let path = format!("/api/v1/organisations/{}/audit?limit=500{at}", tenant.organisation);
        let page = cloud.get(&tenant.owner, &path).await.good();
        let head = ViewHead::from_text(&signed_text(page["view_head"].as_str().unwrap(), &page["log_key"])).unwrap();
        let checkpoint = believed(page["checkpoint"].as_str().unwrap(), &page["log_key"]);
        assert_eq!((head.log_size, head.log_root), (checkpoint.size, checkpoint.root));
        assert_eq!((head.origin.as_str(), head.organisation), (ORIGIN, tenant.organisation));
        let mut chain = ViewChain::new(tenant.organisation);
        for item in page["items"].as_array().unwrap() {
            chain.push(item["index"].as_u64().unwrap(), item["body"].as_str().unwrap()).unwrap();
        }
        chain.ends_at(&head).unwrap();
        assert!(chain.entries() > 2);
        if !at.is_empty() {
            assert_eq!((head.log_size, head.log_root), (size, root));
        }
    }
    drop(other);
}

#[tokio::test]
async fn every_entry_says_through_which_door_it_came_and_has_a_salt_of_its_own() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    cloud.dataset(&tenant, &mut site, "facts.jsonl").await;
    let viewer = cloud.key(Some(tenant.organisation), None, Role::Viewer).await;
    cloud.call(&viewer, "balance_read", &[&tenant.organisation()], Value::Null).await.problem();
    let page = cloud.get(&cloud.operator, "/api/v1/audit?limit=500").await.good();
    let mut salts = std::collections::BTreeSet::new();
    let mut doors = std::collections::BTreeMap::new();
    for item in page["items"].as_array().unwrap() {
        let entry: Value = serde_json::from_str(item["body"].as_str().unwrap()).unwrap();
        if entry["actor"] == "test" {
            continue;
        }
        let salt = entry["salt"].as_str().unwrap().to_owned();
        assert!(salt.len() == 32 && salts.insert(salt), "{entry}");
        let result = entry["result"].as_str().unwrap();
        doors.insert(
            format!("{} {result}", entry["action"].as_str().unwrap()),
            entry["source"].as_str().unwrap().to_owned(),
        );
    }
    for (what, door) in [
        ("signing_key:create done", "task"),
        ("organisation:create done", "api"),
        ("dataset:store done", "site"),
        ("invoice:read denied", "api"),
    ] {
        assert_eq!(doors.get(what).map(String::as_str), Some(door), "{what} in {doors:?}");
    }
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
            // What is of each entry alone tells nothing of what was asked for.
            for own in ["at", "request", "salt", "view"] {
                entry[own] = Value::Null;
            }
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
