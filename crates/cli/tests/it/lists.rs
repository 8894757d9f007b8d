//! Reading: tables for people, JSON for programs, all pages of either.

use serde_json::{Value, json};

use crate::fake::{AT, Fake, KEY, MDL, ORG, PRJ, SITE, job, key, model};

#[tokio::test]
async fn a_table_is_aligned_and_numbers_stand_to_the_right() {
    let fake = Fake::start().await;
    let sku = |name: &str, milli: u32, gpus: u32, model: Value| {
        json!({ "name": name, "cpus_milli": milli, "memory_bytes": 4_u64 << 30, "gpus": gpus, "gpu_model": model,
            "family": "cpu", "units": gpus.max(1),
            "price": { "book": 1, "job_hour_nano": 40_000_000, "served_hour_nano": null, "by_any": [] } })
    };
    fake.on(
        "GET /api/v1/skus",
        &json!({ "items": [sku("cpu.1", 1000, 0, Value::Null), sku("h100.8", 96500, 8, json!("H100"))] }),
    );
    let said = fake.run(&["sku", "list"]).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
    NAME    CORES   MEMORY  GPUS  GPU MODEL  FAMILY  UNITS   AN HOUR  RETIRED
    cpu.1       1  4.0 GiB     0  -          cpu         1  0.04 EUR  -
    h100.8   96.5  4.0 GiB     8  H100       cpu         8  0.04 EUR  -
    ");
}

#[tokio::test]
async fn json_is_one_document_with_the_items_of_all_pages() {
    let fake = Fake::start().await;
    let path = format!("GET /api/v1/projects/{PRJ}/jobs");
    fake.on(&path, &json!({ "items": [job("queued", json!({}))], "next": "one" }));
    fake.on(&path, &json!({ "items": [job("running", json!({}))] }));
    let said = fake.run(&["job", "list", "--json"]).await;
    let states: Vec<_> = said.json()["items"].as_array().unwrap().iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, ["queued", "running"]);
    let queries: Vec<_> = fake.asked(&path).into_iter().map(|asked| asked.query).collect();
    assert_eq!(queries, ["limit=500", "after=one&limit=500"]);
}

#[tokio::test]
async fn an_empty_list_is_no_data_and_a_word_on_stderr() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/projects/{PRJ}/jobs"), &json!({ "items": [] }));
    let said = fake.run(&["job", "list"]).await;
    assert_eq!((said.exit, said.out.as_str(), said.err.as_str()), (0, "", "no jobs\n"));
    assert_eq!(fake.run(&["job", "list", "--json"]).await.json(), json!({ "items": [] }));
}

#[tokio::test]
async fn an_operator_lists_what_could_not_be_counted_and_why() {
    let fake = Fake::start().await;
    let record = json!({ "id": "ab", "organisation": ORG, "project": PRJ, "site": SITE, "meter": "compute_core",
        "item": "cpu.1", "quantity": 9002, "subject": "job", "started_at": AT, "ended_at": AT });
    let kept = json!({ "record": record, "reason": "9002 cannot be used in 9000 ms", "arrived_at": AT });
    fake.on("GET /api/v1/sites/lyon/quarantine", &json!({ "items": [kept] }));
    let said = fake.run(&["site", "quarantine", "lyon"]).await;
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r"
    ARRIVED                   WHY                             ENDED                     METER         ITEM   QUANTITY  SUBJECT  ID
    2026-11-22T09:30:00.000Z  9002 cannot be used in 9000 ms  2026-11-22T09:30:00.000Z  compute_core  cpu.1     9,002  job      ab
    ");
}

#[tokio::test]
async fn names_cannot_drive_the_terminal_or_break_a_row() {
    let fake = Fake::start().await;
    let evil = json!({ "id": ORG, "name": "a\u{1b}[2Jb\nc", "country": "FR", "vat_id": null, "plan": "self_service",
        "residency": { "jurisdictions": ["FR"] }, "created_at": AT });
    fake.on("GET /api/v1/organisations", &json!({ "items": [evil] }));
    let said = fake.run(&["organisation", "list"]).await;
    assert_eq!(said.out.lines().count(), 2);
    assert!(said.out.contains("a [2Jb c"), "{}", said.out);
}

#[tokio::test]
async fn a_model_shows_its_lineage() {
    let fake = Fake::start().await;
    fake.on(&format!("GET /api/v1/models/{MDL}"), &model());
    let by_id = fake.run(&["model", "show", MDL]).await;
    insta::assert_snapshot!(by_id.out, @r"
    id            mdl_00000000000000000000000006
    name          atlas version 2
    project       prj_00000000000000000000000002
    site          site_00000000000000000000000003
    digest        ab12
    size          2.0 MiB
    parameters    1,234,567
    job           job_00000000000000000000000005
    dataset       ds_00000000000000000000000004 (sha256 cd34)
    code version  0.1.0
    tokens        400,000
    flop          5,000,000,000
    energy        0.001000000 kWh (estimated: watts per core)
    created       2026-11-22T09:30:00.000Z
    ");
    fake.on(&format!("GET /api/v1/projects/{PRJ}/models"), &json!({ "items": [model()] }));
    assert_eq!(fake.run(&["model", "show", "atlas"]).await, by_id);
    assert_eq!(fake.run(&["model", "show", "atlas@2"]).await, by_id);
    let other = fake.run(&["model", "show", "atlas@3"]).await;
    assert_eq!(other.exit, 1);
    assert_eq!(other.err, "error: no model is called `atlas@3`\n\nhint: `gregal model list` lists them\n");
}

#[tokio::test]
async fn whoami_says_whom_the_key_acts_for() {
    let fake = Fake::start().await;
    insta::assert_snapshot!(fake.run(&["whoami"]).await.out, @r"
    key           key_00000000000000000000000008
    name          laptop
    role          developer
    organisation  org_00000000000000000000000001
    project       prj_00000000000000000000000002
    may           job:read, job:create
    ");
    assert_eq!(fake.run(&["whoami", "--json"]).await.json()["key"]["id"], KEY);
}

#[tokio::test]
async fn a_key_of_the_whole_organisation_finds_its_only_project_and_asks_which_of_several() {
    let fake = Fake::start().await;
    let mut free = key();
    free["project"] = Value::Null;
    fake.forget("GET /api/v1/whoami");
    fake.on("GET /api/v1/whoami", &json!({ "key": free, "actions": [] }));
    let project = |id: &str, name: &str| json!({ "id": id, "organisation": ORG, "name": name, "created_at": AT });
    let path = format!("GET /api/v1/organisations/{ORG}/projects");
    fake.on(&path, &json!({ "items": [project(PRJ, "lab")] }));
    fake.on(&format!("GET /api/v1/projects/{PRJ}/jobs"), &json!({ "items": [] }));
    assert_eq!(fake.run(&["job", "list"]).await.exit, 0);

    fake.forget(&path);
    fake.on(&path, &json!({ "items": [project(PRJ, "lab"), project("prj_00000000000000000000000009", "shop")] }));
    let several = fake.run(&["job", "list"]).await;
    assert_eq!(several.exit, 1);
    assert_eq!(
        several.err,
        "error: there are 2 projects\n\nhint: say which: `--project lab`, or set `GREGAL_PROJECT`\n"
    );
    assert_eq!(fake.run(&["job", "list", "--project", "lab"]).await.exit, 0);
    let wrong = fake.run(&["job", "list", "--project", "nowhere"]).await;
    assert_eq!(wrong.err, "error: no project is called `nowhere`\n\nhint: `gregal project list` lists them\n");
}

#[tokio::test]
async fn placement_is_explained_site_by_site() {
    let fake = Fake::start().await;
    let verdict = |name: &str, allowed: bool, rule: Value| json!({ "site": SITE, "name": name, "allowed": allowed, "rule": rule, "because": "the law is FR", "would_need": null });
    let answer = json!({ "sites": [verdict("lyon", true, Value::Null), verdict("virginia", false, json!("residency.jurisdiction"))] });
    fake.on(&format!("POST /api/v1/projects/{PRJ}/placements"), &answer);
    insta::assert_snapshot!(fake.run(&["place", "explain"]).await.out, @r"
    SITE      ALLOWED  RULE                    BECAUSE        WOULD NEED
    lyon      yes      -                       the law is FR  -
    virginia  no       residency.jurisdiction  the law is FR  -
    ");
}

#[tokio::test]
async fn money_shows_all_its_decimals_and_the_ledger_every_leg() {
    let fake = Fake::start().await;
    let balance = json!({ "available_nano": 24_999_999_556_i64, "held_nano": 0, "accrued_nano": 444 });
    fake.on(&format!("GET /api/v1/organisations/{ORG}/balance"), &balance);
    insta::assert_snapshot!(fake.run(&["balance", "show"]).await.out, @r"
    available  24.999999556 EUR
    held       0.00 EUR
    used       0.000000444 EUR
    ");
    let posting = json!({ "id": "pst_1", "kind": "hold", "reference": JOB_REFERENCE, "at": AT,
        "legs": [{ "account": "available", "amount": -40_000_000 }, { "account": "held", "amount": 40_000_000 }] });
    fake.on(&format!("GET /api/v1/organisations/{ORG}/postings"), &json!({ "items": [posting] }));
    insta::assert_snapshot!(fake.run(&["ledger", "list"]).await.out, @r"
    AT                        KIND  MOVES                                REFERENCE  ID
    2026-11-22T09:30:00.000Z  hold  available -0.04 EUR, held +0.04 EUR  the-job    pst_1
    ");
}

const JOB_REFERENCE: &str = "the-job";
