//! The audit log: proved, remembered, and not believed once it was touched.

use ed25519_dalek::SigningKey;
use gregal_api::audit::{AuditList, AuditRecord, checkpoint_seal};
use gregal_core::{audit::Checkpoint, merkle};
use serde_json::{Value, json};

use crate::fake::{AT, Fake, KEY, ORG, Said, type_in};

fn body(index: usize) -> String {
    json!({ "at": AT, "organisation": ORG, "actor": KEY, "action": "job:create", "object": format!("job_{index}"),
        "result": "done", "reason": null, "policy": "owner", "request": null })
    .to_string()
}

/// A log of `size` entries, and those of `shown` with proofs, signed by the key of a seed.
fn page(bodies: &[String], shown: std::ops::Range<usize>, next: Option<u64>, seed: u8) -> AuditList {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let leaves: Vec<_> = bodies.iter().map(|body| merkle::leaf_hash(body.as_bytes())).collect();
    let checkpoint =
        Checkpoint { origin: "audit.test/gregal".into(), size: leaves.len() as u64, root: merkle::root(&leaves) };
    let items = shown.map(|index| AuditRecord {
        index: index as u64,
        body: bodies[index].clone(),
        proof: merkle::inclusion_proof(&leaves, index).unwrap().iter().map(hex::encode).collect(),
    });
    AuditList {
        items: items.collect(),
        next,
        checkpoint: checkpoint_seal(&checkpoint, &key).unwrap(),
        log_key: hex::encode(key.verifying_key().as_bytes()),
    }
}

fn path() -> String {
    format!("GET /api/v1/organisations/{ORG}/audit")
}

fn bodies(count: usize) -> Vec<String> {
    (0..count).map(body).collect()
}

/// Shows the cloud's log as these pages from now on, and verifies it.
async fn verify(fake: &Fake, pages: &[AuditList]) -> Said {
    fake.forget(&path());
    for page in pages {
        fake.on(&path(), &serde_json::to_value(page).unwrap());
    }
    fake.run(&["audit", "verify"]).await
}

#[tokio::test]
async fn an_honest_log_is_proved_over_all_its_pages_while_it_grows() {
    let fake = Fake::start().await;
    // The second page was read when two more entries were there.
    let pages = [page(&bodies(5), 0..3, Some(2), 3), page(&bodies(7), 3..7, None, 3)];
    let said = verify(&fake, &pages).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(said.err, "this is the first look at this log: its key is remembered, and trusted from now on\n");
    assert!(said.out.starts_with("verified  7 entries of 7\n"), "{}", said.out);
    let queries: Vec<_> = fake.asked(&path()).into_iter().map(|asked| asked.query).collect();
    assert_eq!(queries, ["limit=500", "after=2&limit=500"]);
    let again = verify(&fake, &[page(&bodies(9), 0..9, None, 3)]).await;
    assert_eq!((again.exit, again.err.as_str()), (0, ""));
}

#[tokio::test]
async fn a_changed_entry_is_named() {
    let fake = Fake::start().await;
    let mut page = page(&bodies(5), 0..5, None, 3);
    page.items[3].body = page.items[3].body.replace("job_3", "job_9");
    let said = verify(&fake, &[page]).await;
    assert_eq!((said.exit, said.out.as_str()), (1, ""));
    assert!(
        said.err.contains("error: the audit log does not verify: entry 3 is not in the log as the checkpoint has it\n"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn a_log_that_shrank_or_whose_past_or_key_changed_is_refused() {
    let fake = Fake::start().await;
    assert_eq!(verify(&fake, &[page(&bodies(5), 0..5, None, 3)]).await.exit, 0);

    let shorter = verify(&fake, &[page(&bodies(4), 0..4, None, 3)]).await;
    assert_eq!(shorter.exit, 1);
    assert!(shorter.err.contains("it has 4 entries, and had 5 before: a log never shrinks"), "{}", shorter.err);

    let mut other = bodies(5);
    other[0] = body(77);
    let rewritten = verify(&fake, &[page(&other, 0..5, None, 3)]).await;
    assert_eq!(rewritten.exit, 1);
    assert!(rewritten.err.contains("the same 5 entries as before, but another root"), "{}", rewritten.err);

    let exchanged = verify(&fake, &[page(&bodies(6), 0..6, None, 4)]).await;
    assert_eq!(exchanged.exit, 1);
    assert!(exchanged.err.contains("the log's key is not the expected one"), "{}", exchanged.err);
    assert!(exchanged.err.contains("its key is not the one seen before"), "{}", exchanged.err);

    let hidden = verify(&fake, &[page(&bodies(6), 0..3, None, 3)]).await;
    assert_eq!(hidden.exit, 1);
    assert!(hidden.err.contains("5 entries of this view were shown before, 3 now"), "{}", hidden.err);

    // None of that was remembered: the honest log still verifies.
    assert_eq!(verify(&fake, &[page(&bodies(6), 0..6, None, 3)]).await.exit, 0);
}

#[tokio::test]
async fn whoever_reads_the_whole_log_finds_a_missing_entry_and_a_rewritten_past() {
    let fake = Fake::start().await;
    let all = "GET /api/v1/audit";
    fake.on(all, &serde_json::to_value(page(&bodies(5), 0..5, None, 3)).unwrap());
    assert_eq!(fake.run(&["audit", "verify", "--all"]).await.exit, 0);

    let mut gap = page(&bodies(6), 0..6, None, 3);
    gap.items.remove(2);
    fake.forget(all);
    fake.on(all, &serde_json::to_value(gap).unwrap());
    let said = fake.run(&["audit", "verify", "--all"]).await;
    assert!(said.exit == 1 && said.err.contains("entry 2 is missing"), "{}", said.err);

    let mut other = bodies(6);
    other[1] = body(77);
    fake.forget(all);
    fake.on(all, &serde_json::to_value(page(&other, 0..6, None, 3)).unwrap());
    let said = fake.run(&["audit", "verify", "--all"]).await;
    assert!(said.exit == 1 && said.err.contains("its first 5 entries are not those seen before"), "{}", said.err);
}

#[tokio::test]
async fn an_exported_log_verifies_without_a_server_and_a_touched_one_does_not() {
    let fake = Fake::start().await;
    let file = fake.state.path().join("log.json");
    let file = file.to_str().unwrap();
    let honest = page(&bodies(5), 0..5, None, 3);
    fake.on(&path(), &serde_json::to_value(&honest).unwrap());
    assert_eq!(fake.run(&["audit", "verify", "--export", file]).await.exit, 0);

    let offline = |more: &'static [&'static str]| async move {
        let args: Vec<&str> =
            ["audit", "verify", "--key", "", "--json", "--file", file].iter().chain(more).copied().collect();
        type_in(&args, None, "", true).await
    };
    let said = offline(&[]).await;
    assert_eq!(said.json()["entries"], 5);
    assert!(said.err.contains("the log's key is the one the file itself names"), "{}", said.err);
    let wrong = offline(&["--log-key", "0000000000000000000000000000000000000000000000000000000000000000"]).await;
    assert_eq!(wrong.exit, 1);

    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text.replacen("job_2", "job_8", 1)).unwrap();
    let touched = offline(&[]).await;
    assert_eq!((touched.exit, touched.out.as_str()), (1, ""));
    assert!(touched.err.contains("entry 2 is not in the log"), "{}", touched.err);
}

#[tokio::test]
async fn a_damaged_memory_is_not_passed_over() {
    let fake = Fake::start().await;
    assert_eq!(verify(&fake, &[page(&bodies(2), 0..2, None, 3)]).await.exit, 0);
    let folder = fake.state.path().join("audit");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, "{").unwrap();
    let said = verify(&fake, &[page(&bodies(2), 0..2, None, 3)]).await;
    assert_eq!(said.exit, 1);
    assert!(said.err.contains("to trust the log anew"), "{}", said.err);
}

#[tokio::test]
async fn entries_read_as_who_did_what_and_json_is_what_verify_takes() {
    let fake = Fake::start().await;
    fake.on(&path(), &serde_json::to_value(page(&bodies(1), 0..1, None, 3)).unwrap());
    let said = fake.run(&["audit", "list"]).await;
    insta::assert_snapshot!(said.out, @r"
    INDEX  AT                        ACTOR                           ACTION      OBJECT  RESULT  REASON
        0  2026-11-22T09:30:00.000Z  key_00000000000000000000000008  job:create  job_0   done    -
    ");
    let file = fake.state.path().join("listed.json");
    std::fs::write(&file, fake.run(&["audit", "list", "--json"]).await.out).unwrap();
    let said =
        type_in(&["audit", "verify", "--file", file.to_str().unwrap(), "--key", "", "--json"], None, "", true).await;
    assert_eq!(said.json()["verified"], Value::Bool(true));
}
