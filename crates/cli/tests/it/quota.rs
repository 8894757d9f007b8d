//! Quotas: whose is meant, and what is set.

use serde_json::{Value, json};

use crate::fake::{Fake, ORG, PRJ};

fn quota(project: Value) -> Value {
    json!({
        "organisation": ORG, "project": project, "sku": "cpu.1", "guarantee": 4, "borrow_max": 8, "lend_max": null,
        "limit": 12, "used": 5, "borrowed": 1,
    })
}

#[tokio::test]
async fn an_organisations_quota_is_set_by_its_name_or_id_and_a_projects_without() {
    let fake = Fake::start().await;
    let (whole, part) =
        (format!("/api/v1/organisations/{ORG}/quotas/cpu.1"), format!("/api/v1/projects/{PRJ}/quotas/cpu.1"));
    fake.on(&format!("PUT {whole}"), &quota(Value::Null)).on(&format!("PUT {part}"), &quota(json!(PRJ)));
    let set = ["quota", "set", "--sku", "cpu.1", "--guarantee", "4"];
    let said = fake.run(&[&set[..], &[ORG, "--borrow-max", "8", "--lend-max", "2"]].concat()).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(
        fake.asked(&format!("PUT {whole}"))[0].json(),
        json!({ "guarantee": 4, "borrow_max": 8, "lend_max": 2 })
    );
    insta::assert_snapshot!(said.out, @r"
    holder      org_00000000000000000000000001
    sku         cpu.1
    guarantee   4
    borrow max  8
    lend max    all of it
    limit       12
    used        5
    borrowed    1
    ");
    let said = fake.run(&[&set[..], &["--project", PRJ]].concat()).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(fake.asked(&format!("PUT {part}"))[0].json(), json!({ "guarantee": 4 }), "what is absent has no limit");
    fake.on(&format!("DELETE {whole}"), &quota(Value::Null));
    assert_eq!(fake.run(&["quota", "remove", ORG, "--sku", "cpu.1"]).await.exit, 0);
}

#[tokio::test]
async fn quotas_are_listed_with_their_use() {
    let fake = Fake::start().await;
    fake.on(
        &format!("GET /api/v1/organisations/{ORG}/quotas"),
        &json!({ "items": [quota(Value::Null), quota(json!(PRJ))] }),
    );
    let said = fake.run(&["quota", "list", ORG]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    insta::assert_snapshot!(said.out, @r"
    HOLDER                          SKU    GUARANTEE  BORROW MAX  LEND MAX  LIMIT  USED  BORROWED
    org_00000000000000000000000001  cpu.1          4           8       all     12     5         1
    prj_00000000000000000000000002  cpu.1          4           8       all     12     5         1
    ");
}

#[tokio::test]
async fn a_share_keeps_what_is_not_said() {
    let fake = Fake::start().await;
    let now = json!({
        "id": ORG, "name": "Acme", "country": "FR", "vat_id": null, "plan": "self_service",
        "residency": { "jurisdictions": ["FR"], "certifications": [], "operators": [] },
        "weight": 3, "priority_max": 5, "created_at": "2026-11-22T09:30:00.000Z",
    });
    fake.on(&format!("GET /api/v1/organisations/{ORG}"), &now);
    fake.on(&format!("PUT /api/v1/organisations/{ORG}/share"), &now);
    let said = fake.run(&["quota", "share", ORG, "--priority-max", "7"]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    let sent = fake.asked(&format!("PUT /api/v1/organisations/{ORG}/share"))[0].json();
    assert_eq!(sent, json!({ "weight": 3, "priority_max": 7 }));
}
