//! Jobs: submitted, watched, and an end that a script can tell by the exit status.

use serde_json::json;

use crate::fake::{AT, DS, Fake, JOB, MDL, PRJ, SITE, dataset, job};

fn create() -> String {
    format!("POST /api/v1/projects/{PRJ}/jobs")
}

fn read() -> String {
    format!("GET /api/v1/jobs/{JOB}")
}

#[tokio::test]
async fn a_training_is_submitted_with_its_settings_and_followed_to_its_model() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/projects/{PRJ}/datasets"), &json!({ "items": [dataset("facts.jsonl", "stored")] }));
    fake.on(&create(), &job("queued", json!({ "waits_for": "room at `lyon`", "attempt": 0 })));
    let progress = |step: u64| json!({ "step": step, "steps": 400, "loss": 1.25, "tokens": 1000, "tokens_per_s": 512.0, "elapsed_ms": 900, "energy_mj": 3_600_000 });
    let ended = json!({ "progress": progress(400), "model": MDL, "heldout": { "asked": 40, "exact": 39 }, "started_at": AT,
        "ended_at": "2026-11-22T09:31:01.500Z", "end": { "code": 0, "reason": "finished", "hint": null } });
    fake.on(&read(), &job("running", json!({ "progress": progress(40) })))
        .on(&read(), &job("running", json!({ "progress": progress(41) })))
        .on(&read(), &job("succeeded", ended));
    let said = fake
        .run(&[
            "job",
            "train",
            "--dataset",
            "facts.jsonl",
            "--model-name",
            "atlas",
            "--set",
            "steps=400",
            "--set",
            "schedule=cosine",
            "--seconds-max",
            "600",
            "--follow",
        ])
        .await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(
        fake.asked(&create())[0].json(),
        json!({
            "name": "train-atlas",
            "program": { "kind": "train", "dataset": DS, "heldout": null, "base_model": null, "model_name": "atlas",
                "settings": { "steps": 400, "schedule": "cosine" } },
            "sku": "cpu.1", "seconds_max": 600, "site": null,
        })
    );
    insta::assert_snapshot!(said.err, @r"
    job job_00000000000000000000000005 queued: room at `lyon`
    job job_00000000000000000000000005 running
    step 40/400  loss 1.2500  512 tokens/s  0.001000000 kWh
    step 400/400  loss 1.2500  512 tokens/s  0.001000000 kWh
    job job_00000000000000000000000005 succeeded
    next: `gregal endpoint create NAME --model mdl_00000000000000000000000006 --wait`
    ");
    insta::assert_snapshot!(said.out, @r"
    id              job_00000000000000000000000005
    name            train-atlas
    project         prj_00000000000000000000000002
    kind            train
    state           succeeded
    sku             cpu.1
    seconds max     600
    priority        4
    preemptible     no
    site            site_00000000000000000000000003
    attempt         1
    dataset         ds_00000000000000000000000004
    model name      atlas
    progress        step 400/400  loss 1.2500  512 tokens/s  0.001000000 kWh
    held-out exact  39 of 40
    end             finished, exit code 0
    model           mdl_00000000000000000000000006
    created         2026-11-22T09:30:00.000Z
    started         2026-11-22T09:30:00.000Z
    ended           2026-11-22T09:31:01.500Z
    took            61.5 s
    ");
}

#[tokio::test]
async fn a_job_that_failed_prints_its_facts_and_exits_one_with_the_reason() {
    let fake = Fake::start().await;
    let end = json!({ "end": { "code": 137, "reason": "out_of_memory", "hint": "ask for a larger SKU" }, "started_at": AT, "ended_at": AT });
    fake.on(&read(), &job("running", json!({}))).on(&read(), &job("failed", end));
    let said = fake.run(&["job", "watch", JOB, "--json"]).await;
    assert_eq!(said.exit, 1);
    let data: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(data["end"]["reason"], "out_of_memory");
    assert!(
        said.err.ends_with(&format!(
            "error: job `{JOB}` failed: out_of_memory, exit code 137\n\nhint: ask for a larger SKU\n"
        )),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn watching_outlives_a_control_plane_that_is_away_for_a_moment() {
    let fake = Fake::start().await;
    fake.on(&read(), &job("running", json!({})));
    fake.refuse(&read(), 503, "unavailable", json!({})).refuse(&read(), 503, "unavailable", json!({}));
    fake.on(&read(), &job("succeeded", json!({})));
    let said = fake.run(&["job", "watch", JOB]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(said.err.matches("the control plane does not answer; trying again\n").count(), 1, "{}", said.err);
}

#[tokio::test]
async fn a_command_keeps_its_arguments_as_they_were_typed() {
    let fake = Fake::start().await;
    fake.on(&create(), &job("queued", json!({})));
    let said = fake.run(&["job", "run", "--network", "--", "/bin/echo", "--json", "a b"]).await;
    assert_eq!((said.exit, said.err), (0, format!("next: `gregal job watch {JOB}`\n")));
    let sent = fake.asked(&create())[0].json();
    assert_eq!(sent["name"], "echo");
    assert_eq!(
        sent["program"],
        json!({ "kind": "command", "argv": ["/bin/echo", "--json", "a b"], "inputs": [], "network": true })
    );
}

#[tokio::test]
async fn a_job_is_found_by_name_and_cancelled() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/projects/{PRJ}/jobs"), &json!({ "items": [job("running", json!({}))] }));
    fake.on(&format!("POST /api/v1/jobs/{JOB}/cancel"), &job("cancelling", json!({})));
    let said = fake.run(&["job", "cancel", "train-atlas"]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(said.out.contains("state        cancelling\n"), "{}", said.out);
    let missing = fake.run(&["job", "show", "nobody"]).await;
    assert_eq!(missing.err, "error: no job is called `nobody`\n\nhint: `gregal job list` lists them\n");
}

#[tokio::test]
async fn a_job_is_explained_and_a_decision_that_does_not_come_out_again_fails() {
    let explained = |same: bool, rules: u32| {
        json!({
            "job": JOB, "state": "queued", "position": 2, "queued": 5, "waits_for": "1 of 1 cores short at `lyon`",
            "history": [
                { "pass": 7, "at": AT, "decision": "wait", "site": null, "reason": "1 of 1 cores short at `lyon`" },
            ],
            "replay": {
                "rules": rules, "rules_now": 2, "inputs_digest": "ab".repeat(32), "same": same,
                "decision": { "pass": 7, "at": AT, "decision": "wait", "site": null, "reason": "1 of 1 cores short at `lyon`" },
                "asked": { "cpus_milli": 1000, "memory_bytes": 1_u64 << 30, "gpus": 1, "gpu_model": "H100" },
                "sites": [{
                    "site": "lyon", "alive": true, "cpus_milli_free": 0, "cpus_milli_total": 2000,
                    "memory_bytes_free": 1_u64 << 30, "memory_bytes_total": 2_u64 << 30, "gpus_free": 1, "gpus_total": 2,
                }],
            },
        })
    };
    let fake = Fake::start().await;
    fake.on(&read(), &job("queued", json!({ "attempt": 0 })));
    let route = format!("GET /api/v1/jobs/{JOB}/explain");
    fake.on(&route, &explained(true, 2)).on(&route, &explained(false, 1)).on(&route, &explained(false, 2));
    let said = fake.run(&["job", "explain", JOB, "--pass", "7"]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(fake.asked(&route)[0].query, "pass=7");
    insta::assert_snapshot!(said.out, @r"
    job           job_00000000000000000000000005
    state         queued
    in the queue  2 of 5
    waits for     1 of 1 cores short at `lyon`

    PASS  AT                        DECISION
    7     2026-11-22T09:30:00.000Z  wait: 1 of 1 cores short at `lyon`

    pass          7
    inputs        abababababababababababababababababababababababababababababababab
    rules         2 (now 2)
    asked         1 cores, 1.0 GiB, 1 accelerators (H100)
    made again    wait: 1 of 1 cores short at `lyon`
    same as then  yes

    SITE  ANSWERS  CORES FREE  MEMORY FREE         ACCELERATORS FREE
    lyon  yes      0 of 2      1.0 GiB of 2.0 GiB  1 of 2
    ");
    let older = fake.run(&["job", "explain", JOB]).await;
    assert!(older.exit == 0 && older.out.contains("the rules have changed since"), "{}", older.out);
    let wrong = fake.run(&["job", "explain", JOB]).await;
    assert!(wrong.exit != 0 && wrong.err.contains("does not come out"), "{}", wrong.err);
}

#[tokio::test]
async fn priority_and_leave_to_be_stopped_are_asked_for_and_shown() {
    let fake = Fake::start().await;
    let made = job("queued", json!({ "priority": 7, "preemptible": true, "stops": 2 }));
    let sent = async |more: &[&str]| {
        let before = fake.asked(&create()).len();
        fake.on(&create(), &made);
        let said = fake.run(&[&["job", "run"], more, &["--", "/bin/true"]].concat()).await;
        assert_eq!(said.exit, 0, "{}", said.err);
        (fake.asked(&create())[before].json(), said.out)
    };
    let (asked, shown) = sent(&["--priority", "7", "--preemptible"]).await;
    assert_eq!((&asked["priority"], &asked["preemptible"]), (&json!(7), &json!(true)));
    for line in ["priority     7\n", "preemptible  yes\n", "stopped      2 times, for others\n"] {
        assert!(shown.contains(line), "{shown}");
    }
    assert_eq!(sent(&["--not-preemptible"]).await.0["preemptible"], false);
    let (asked, _) = sent(&[]).await;
    assert!(asked.get("priority").is_none() && asked.get("preemptible").is_none(), "the cloud decides: {asked}");
}

#[tokio::test]
async fn an_operator_tells_a_job_to_make_room() {
    let fake = Fake::start().await;
    let route = format!("POST /api/v1/jobs/{JOB}/preempt");
    fake.on(&route, &json!({ "job": JOB, "state": "stopping", "site": SITE, "stops": 1 }));
    let said = fake.run(&["job", "preempt", JOB, "--why", "repair"]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(fake.asked(&route)[0].json(), json!({ "why": "repair" }));
    assert!(said.out.contains("state           stopping\n"), "{}", said.out);
}
