//! Tenants' content: written and read with grants, stored sealed, told to control by its digest only.

use std::sync::atomic::Ordering;

use gregal_api::{grant::GrantPurpose, protocol::WantedDataset};
use gregal_core::id::{DatasetId, JobId};
use gregal_site::{
    DatasetStored,
    objects::{materialise, models_of},
};
use sha2::{Digest as _, Sha256};

use super::{
    control::{ORG, OTHER_ORG, OTHER_PROJECT, OWNER, PROJECT, secret},
    world::{MODEL_FILE, Running, World, model_digest, until},
};

const DATASET: DatasetId = DatasetId::from_u128(77);

fn path() -> String {
    format!("/content/v1/datasets/{DATASET}")
}

async fn put(site: &Running, grant: &str, bytes: Vec<u8>) -> reqwest::Response {
    put_at(site, DATASET, grant, bytes).await
}

async fn put_at(site: &Running, id: DatasetId, grant: &str, bytes: Vec<u8>) -> reqwest::Response {
    let url = format!("{}/content/v1/datasets/{id}", site.url);
    site.http.put(url).bearer_auth(grant).body(bytes).send().await.unwrap()
}

async fn synced(world: &World, site: &Running) {
    until("the first sync", async || {
        let health: serde_json::Value =
            site.http.get(format!("{}/healthz", site.url)).send().await.unwrap().json().await.unwrap();
        (health["intent_revision"].as_u64() > Some(0) && world.control.last().is_some()).then_some(())
    })
    .await;
}

/// Whether control has said that it knows of the dataset.
fn told(world: &World) -> Option<()> {
    let record = std::fs::read_to_string(world.folder.path().join(format!("datasets/{DATASET}.json"))).ok()?;
    record.contains("\"acknowledged\":true").then_some(())
}

fn unfinished(world: &World) -> usize {
    std::fs::read_dir(world.folder.path().join("objects/unfinished")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_word_from_control_a_grant_is_not_wrong_but_early() {
    let world = World::new().await;
    world.control.state.away.store(true, Ordering::SeqCst);
    let site = world.start().await;
    let grant = world.control.grant(GrantPurpose::DatasetWrite, DATASET);
    assert_eq!(put(&site, &grant, b"a line".to_vec()).await.status(), 503);
    let models = site.get("/v1/models", &secret(OWNER)).await;
    assert_eq!(models.status(), 503, "nor is a key");
    world.control.state.away.store(false, Ordering::SeqCst);
    synced(&world, &site).await;
    assert_eq!(put(&site, &grant, b"a line".to_vec()).await.status(), 200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_stored_sealed_told_and_read_back() {
    let world = World::new().await;
    let site = world.start().await;
    synced(&world, &site).await;
    let bytes: Vec<u8> = b"a secret line of a tenant\n".repeat(100_000);
    let grant = world.control.grant(GrantPurpose::DatasetWrite, DATASET);
    let stored: DatasetStored = put(&site, &grant, bytes.clone()).await.json().await.unwrap();
    assert_eq!(stored, DatasetStored { digest: hex::encode(Sha256::digest(&bytes)), bytes: bytes.len() as u64 });
    until("control to be told", async || told(&world)).await;
    let again = put(&site, &grant, bytes.clone()).await;
    assert_eq!(again.status(), 200, "the same bytes are the same act");
    let other = put(&site, &grant, b"other".to_vec()).await;
    assert_eq!(other.status(), 409);
    let read = site.get(&path(), &world.control.grant(GrantPurpose::DatasetRead, DATASET)).await;
    assert_eq!(read.headers()["content-length"], bytes.len().to_string());
    assert_eq!(read.bytes().await.unwrap(), bytes);
    for entry in std::fs::read_dir(world.folder.path().join("objects").join(ORG.to_string())).unwrap() {
        let on_disk = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!on_disk.windows(8).any(|window| window == b"a secret"));
    }
    world.control.change(|intent| {
        intent.datasets = vec![WantedDataset {
            dataset: DATASET,
            organisation: ORG,
            project: PROJECT,
            digest: Some(stored.digest.clone()),
            delete: true,
        }];
    });
    let object = world.folder.path().join("objects").join(ORG.to_string()).join(&stored.digest);
    until("the bytes to be gone", async || (!object.exists()).then_some(())).await;
    let gone = put(&site, &grant, bytes).await;
    assert_eq!(gone.status(), 404, "what is to be gone does not come back");
    until("control to be told", async || world.control.last().filter(|last| last.datasets_gone == [DATASET])).await;
    world.control.change(|intent| intent.datasets.clear());
    until("it to be forgotten", async || world.control.last().filter(|last| last.datasets_gone.is_empty())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_dataset_is_not_gone_while_somebody_still_writes_it() {
    let world = World::new().await;
    let site = world.start().await;
    synced(&world, &site).await;
    let (out, pieces) = tokio::sync::mpsc::channel::<std::io::Result<Vec<u8>>>(1);
    let body = futures_util::stream::unfold(pieces, |mut pieces| async { pieces.recv().await.map(|p| (p, pieces)) });
    let grant = world.control.grant(GrantPurpose::DatasetWrite, DATASET);
    let sending = site.http.put(format!("{}{}", site.url, path())).bearer_auth(&grant);
    let sending = tokio::spawn(sending.body(reqwest::Body::wrap_stream(body)).send());
    out.send(Ok(vec![1; 10])).await.unwrap();
    until("the write to begin", async || (unfinished(&world) == 1).then_some(())).await;
    let other = DatasetId::from_u128(78);
    world.control.change(|intent| {
        let wanted =
            |dataset| WantedDataset { dataset, organisation: ORG, project: PROJECT, digest: None, delete: true };
        intent.datasets = vec![wanted(DATASET), wanted(other)];
    });
    // Of the one that was never here it is said at once, of this one not.
    let said = until("a word on what is gone", async || {
        world.control.last().map(|last| last.datasets_gone).filter(|gone| !gone.is_empty())
    })
    .await;
    assert_eq!(said, [other]);
    drop(out);
    assert_eq!(sending.await.unwrap().unwrap().status(), 200);
    until("it to be gone as well", async || world.control.last().filter(|last| last.datasets_gone == [DATASET, other]))
        .await;
    assert!(!world.folder.path().join(format!("datasets/{DATASET}.json")).exists());
    let objects = world.folder.path().join("objects").join(ORG.to_string());
    assert!(!objects.join(hex::encode(Sha256::digest([1; 10]))).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_goes_takes_no_file_of_a_model_along() {
    let world = World::new().await;
    let site = world.start().await;
    synced(&world, &site).await;
    let grant = world.control.grant(GrantPurpose::DatasetWrite, DATASET);
    assert_eq!(put(&site, &grant, MODEL_FILE.as_bytes().to_vec()).await.status(), 200);
    world.control.change(|intent| {
        intent.datasets = vec![WantedDataset {
            dataset: DATASET,
            organisation: ORG,
            project: PROJECT,
            digest: Some(hex::encode(Sha256::digest(MODEL_FILE))),
            delete: true,
        }];
    });
    until("it to be gone", async || world.control.last().filter(|last| last.datasets_gone == [DATASET])).await;
    let unpacked = tempfile::tempdir().unwrap();
    materialise(&world.keep(), &models_of(ORG), &model_digest(), &unpacked.path().join("model")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_stay_for_a_dataset_that_comes_while_another_goes() {
    let world = World::new().await;
    let site = world.start().await;
    synced(&world, &site).await;
    let bytes = b"the very same bytes".to_vec();
    let object = world.folder.path().join("objects").join(ORG.to_string()).join(hex::encode(Sha256::digest(&bytes)));
    let mut old = DatasetId::from_u128(100);
    let write = |id| world.control.grant(GrantPurpose::DatasetWrite, id);
    assert_eq!(put_at(&site, old, &write(old), bytes.clone()).await.status(), 200);
    for round in 101..121 {
        let new = DatasetId::from_u128(round);
        world.control.change(|intent| {
            let gone = WantedDataset {
                dataset: old,
                organisation: ORG,
                project: PROJECT,
                digest: Some(hex::encode(Sha256::digest(&bytes))),
                delete: true,
            };
            intent.datasets = vec![gone];
        });
        assert_eq!(put_at(&site, new, &write(new), bytes.clone()).await.status(), 200);
        let record = world.folder.path().join(format!("datasets/{old}.json"));
        until("the old one to be gone", async || (!record.exists()).then_some(())).await;
        assert!(object.exists(), "round {round}");
        let grant = world.control.grant(GrantPurpose::DatasetRead, new);
        let read = site.get(&format!("/content/v1/datasets/{new}"), &grant).await;
        assert_eq!(read.bytes().await.unwrap(), bytes);
        old = new;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_grant_opens_a_route() {
    let world = World::new().await;
    let site = world.start().await;
    synced(&world, &site).await;
    let control = &world.control;
    let right = control.grant(GrantPurpose::DatasetWrite, DATASET);
    let mut forged = right.clone();
    forged.replace_range(4..5, if &right[4..5] == "A" { "B" } else { "A" });
    let cases = [
        (forged, 401),
        (control.grant(GrantPurpose::DatasetRead, DATASET), 401),
        (control.grant_of(ORG, PROJECT, GrantPurpose::DatasetWrite, DATASET, -1), 401),
        (control.grant_of(ORG, PROJECT, GrantPurpose::DatasetWrite, DATASET, 100_000), 401),
        (secret(OWNER), 401),
        (control.grant(GrantPurpose::DatasetWrite, DatasetId::from_u128(78)), 404),
    ];
    for (credential, status) in cases {
        assert_eq!(put(&site, &credential, b"x".to_vec()).await.status(), status, "{credential}");
    }
    assert_eq!(put(&site, &right, b"x".to_vec()).await.status(), 200);
    // The same id under another organisation's grant: nothing is read, nothing is changed.
    let theirs = control.grant_of(OTHER_ORG, OTHER_PROJECT, GrantPurpose::DatasetRead, DATASET, 300);
    assert_eq!(site.get(&path(), &theirs).await.status(), 404);
    let theirs = control.grant_of(OTHER_ORG, OTHER_PROJECT, GrantPurpose::DatasetWrite, DATASET, 300);
    assert_eq!(put(&site, &theirs, b"x".to_vec()).await.status(), 404);

    let job = JobId::from_u128(5);
    for (credential, status) in [
        (control.grant(GrantPurpose::JobLogs, JobId::from_u128(6)), 404),
        (control.grant(GrantPurpose::Infer, job), 401),
        (control.grant(GrantPurpose::JobLogs, job), 404),
    ] {
        assert_eq!(site.get(&format!("/content/v1/jobs/{job}/logs"), &credential).await.status(), status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_too_many_bytes_or_a_broken_connection_leave_nothing() {
    let mut world = World::new().await;
    world.tuning.dataset_bytes_max = 1_000_000;
    let site = world.start().await;
    synced(&world, &site).await;
    let grant = world.control.grant(GrantPurpose::DatasetWrite, DATASET);
    let url = format!("{}{}", site.url, path());
    let send = async |digest: &str, bytes: Vec<u8>| {
        site.http.put(&url).bearer_auth(&grant).header("x-content-sha256", digest).body(bytes).send().await.unwrap()
    };
    let refused = send(&"0".repeat(64), b"hello".to_vec()).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("nothing was stored"));
    assert_eq!(send("short", b"hello".to_vec()).await.status(), 400);
    // The answer arrives although the client still sends, and whoever it is.
    for (credential, status) in [(grant.as_str(), 413), ("nobody", 401)] {
        for _ in 0..20 {
            let large = site.http.put(&url).bearer_auth(credential).body(vec![0u8; 5_000_000]).send().await.unwrap();
            assert_eq!(large.status(), status);
        }
    }

    let half = futures_util::stream::iter([Ok(vec![1u8; 100_000]), Err(std::io::Error::other("the sender broke"))]);
    let broken = site.http.put(&url).bearer_auth(&grant).body(reqwest::Body::wrap_stream(half)).send().await;
    assert!(broken.is_err() || !broken.unwrap().status().is_success());
    until("nothing to be left", async || (unfinished(&world) == 0).then_some(())).await;
    assert!(!world.folder.path().join(format!("datasets/{DATASET}.json")).exists());
    assert_eq!(send(&hex::encode(Sha256::digest("hello")), b"hello".to_vec()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_served_while_control_is_away() {
    let world = World::new().await;
    let site = world.start().await;
    synced(&world, &site).await;
    world.control.state.away.store(true, Ordering::SeqCst);
    let grant = world.control.grant(GrantPurpose::DatasetWrite, DATASET);
    assert_eq!(put(&site, &grant, b"x".to_vec()).await.status(), 200);
    site.crash();
    let site = world.start().await;
    let read = site.get(&path(), &world.control.grant(GrantPurpose::DatasetRead, DATASET)).await;
    assert_eq!(read.text().await.unwrap(), "x");
    world.control.state.away.store(false, Ordering::SeqCst);
    until("control to be told at last", async || told(&world)).await;
}
