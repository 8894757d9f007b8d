//! Content: it goes to the site with a grant, and never to control.

use serde_json::json;

use crate::fake::{DS, Fake, JOB, PRJ, dataset, grant, job};

fn file(fake: &Fake, name: &str, bytes: &[u8]) -> String {
    let path = fake.state.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_dataset_is_announced_to_control_and_sent_to_its_site() {
    let fake = Fake::start().await;
    let create = format!("POST /api/v1/projects/{PRJ}/datasets");
    fake.on(&create, &json!({ "dataset": dataset("my-facts.jsonl", "pending"), "grant": grant(&fake.url) }));
    let put = format!("PUT /content/v1/datasets/{DS}");
    fake.on(&put, &json!({ "digest": "ab", "bytes": 600_000 }));
    let read = format!("GET /api/v1/datasets/{DS}");
    let mut stored = dataset("my-facts.jsonl", "stored");
    stored["digest"] = json!("64229b5b58c6098adeb568bdd6c7b881d94098e29349c55b325c2346831e91ce");
    stored["bytes"] = json!(600_000);
    fake.on(&read, &dataset("my-facts.jsonl", "pending")).on(&read, &stored);
    let bytes: Vec<u8> = (0..600_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let path = file(&fake, "My Facts.jsonl", &bytes);

    let said = fake.run(&["dataset", "add", &path]).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
    id       ds_00000000000000000000000004
    name     my-facts.jsonl
    state    stored
    project  prj_00000000000000000000000002
    site     site_00000000000000000000000003
    size     585.9 KiB (600,000 bytes)
    sha256   64229b5b58c6098adeb568bdd6c7b881d94098e29349c55b325c2346831e91ce
    created  2026-11-22T09:30:00.000Z
    ");
    assert_eq!(fake.asked(&create)[0].json(), json!({ "name": "my-facts.jsonl", "site": null }));
    let sent = &fake.asked(&put)[0];
    assert!(sent.bytes == bytes, "the site got other bytes than the file has");
    assert_eq!(sent.key, "Bearer leave.signed", "the site gets the grant, not the key");
}

#[tokio::test]
async fn an_upload_that_was_cut_off_is_taken_up_by_the_same_command() {
    let fake = Fake::start().await;
    fake.refuse(
        &format!("POST /api/v1/projects/{PRJ}/datasets"),
        409,
        "taken",
        json!({ "detail": "`facts.jsonl` is taken" }),
    );
    let list = format!("GET /api/v1/projects/{PRJ}/datasets");
    fake.on(&list, &json!({ "items": [dataset("facts.jsonl", "pending")] }));
    let grants = format!("POST /api/v1/projects/{PRJ}/grants");
    fake.on(&grants, &grant(&fake.url));
    fake.on(&format!("PUT /content/v1/datasets/{DS}"), &json!({}));
    fake.on(&format!("GET /api/v1/datasets/{DS}"), &dataset("facts.jsonl", "stored"));
    let path = file(&fake, "facts.jsonl", b"{}\n");
    let said = fake.run(&["dataset", "add", &path]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(said.err.contains("was announced before and waits for its bytes"), "{}", said.err);
    assert_eq!(fake.asked(&grants)[0].json(), json!({ "purpose": "dataset_write", "object": DS }));

    // One that is stored already is not touched.
    fake.forget(&list);
    fake.on(&list, &json!({ "items": [dataset("facts.jsonl", "stored")] }));
    let taken = fake.run(&["dataset", "add", &path]).await;
    assert_eq!(taken.exit, 1);
    insta::assert_snapshot!(taken.err, @r"
    error: `facts.jsonl` is taken

    hint: choose another name with `--name`, or remove the old one: `gregal dataset rm NAME --yes`
    ");
    assert_eq!(fake.asked(&format!("PUT /content/v1/datasets/{DS}")).len(), 1);
}

#[tokio::test]
async fn a_site_that_stored_other_bytes_than_were_sent_is_found_out() {
    let fake = Fake::start().await;
    let announced = json!({ "dataset": dataset("facts.jsonl", "pending"), "grant": grant(&fake.url) });
    fake.on(&format!("POST /api/v1/projects/{PRJ}/datasets"), &announced);
    fake.on(&format!("PUT /content/v1/datasets/{DS}"), &json!({}));
    let mut stored = dataset("facts.jsonl", "stored");
    stored["digest"] = json!("ab12");
    fake.on(&format!("GET /api/v1/datasets/{DS}"), &stored);
    let path = file(&fake, "facts.jsonl", b"{}\n");
    let said = fake.run(&["dataset", "add", &path]).await;
    assert_eq!((said.exit, said.out.as_str()), (2, ""));
    assert!(said.err.contains("is stored with the digest ab12, but "), "{}", said.err);
}

#[tokio::test]
async fn a_file_that_cannot_be_sent_announces_nothing() {
    let fake = Fake::start().await;
    let empty = file(&fake, "empty.jsonl", b"");
    let said = fake.run(&["dataset", "add", &empty]).await;
    assert_eq!((said.exit, said.err), (1, format!("error: `{empty}` is empty\n")));
    let said = fake.run(&["dataset", "add", "/nowhere/at/all"]).await;
    assert_eq!(said.exit, 1);
    assert_eq!(said.err, "error: could not open `/nowhere/at/all`: No such file or directory (os error 2)\n");
    assert!(fake.asked(&format!("POST /api/v1/projects/{PRJ}/datasets")).is_empty());
}

#[tokio::test]
async fn a_site_without_room_is_told_with_the_way_to_go_on() {
    let fake = Fake::start().await;
    let announced = json!({ "dataset": dataset("facts.jsonl", "pending"), "grant": grant(&fake.url) });
    fake.on(&format!("POST /api/v1/projects/{PRJ}/datasets"), &announced);
    fake.refuse(
        &format!("PUT /content/v1/datasets/{DS}"),
        507,
        "storage_full",
        json!({ "detail": "the site's disk is full" }),
    );
    let path = file(&fake, "facts.jsonl", b"{}\n");
    let said = fake.run(&["dataset", "add", &path]).await;
    assert_eq!(said.exit, 2);
    insta::assert_snapshot!(said.err, @r"
    error: the site's disk is full

    hint: `facts.jsonl` is announced and waits for its bytes: the same command sends them again
    ");
}

#[tokio::test]
async fn removing_a_dataset_needs_a_flag() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/datasets/{DS}"), &dataset("facts", "stored"));
    let delete = format!("DELETE /api/v1/datasets/{DS}");
    fake.on(&delete, &dataset("facts", "deleted"));
    let said = fake.run(&["dataset", "rm", DS]).await;
    assert_eq!((said.exit, fake.asked(&delete).len()), (1, 0));
    assert!(said.err.contains(&format!("hint: say it with a flag: `gregal dataset rm {DS} --yes`")), "{}", said.err);
    assert_eq!(fake.run(&["dataset", "rm", DS, "--yes"]).await.exit, 0);
    assert_eq!(fake.asked(&delete).len(), 1);
}

#[tokio::test]
async fn a_log_comes_from_the_site_with_a_grant_as_text_or_as_events() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/jobs/{JOB}"), &job("running", json!({})));
    let grants = format!("POST /api/v1/projects/{PRJ}/grants");
    fake.on(&grants, &grant(&fake.url));
    let logs = format!("GET /content/v1/jobs/{JOB}/logs");
    fake.on_text(&logs, 200, "text/plain; charset=utf-8", "step 1\nstep 2\nhalf a li");
    let plain = fake.run(&["job", "logs", JOB, "--follow"]).await;
    assert_eq!((plain.exit, plain.out.as_str(), plain.err.as_str()), (0, "step 1\nstep 2\nhalf a li", ""));
    let asked = &fake.asked(&logs)[0];
    assert_eq!((asked.query.as_str(), asked.key.as_str()), ("follow=true", "Bearer leave.signed"));
    assert_eq!(fake.asked(&grants)[0].json(), json!({ "purpose": "job_logs", "object": JOB }));

    fake.forget(&logs);
    fake.on_text(&logs, 200, "text/event-stream", ": hello\n\ndata: step 1\n\ndata: step 2\n\n");
    assert_eq!(fake.run(&["job", "logs", JOB]).await.out, "step 1\nstep 2\n");
    assert_eq!(fake.run(&["job", "logs", JOB, "--json"]).await.out, "{\"line\":\"step 1\"}\n{\"line\":\"step 2\"}\n");
}
