//! Own policies: whose are meant, what is written, and how an explanation reads.

use serde_json::{Value, json};

use crate::fake::{Fake, ORG, PRJ};

fn policy(project: Value) -> Value {
    json!({
        "id": "pol_00000000000000000000000005", "organisation": ORG, "project": project, "name": "no-jobs",
        "rule": "organisation:no-jobs", "effect": "forbid", "text": "forbid (principal is Holder, action, resource);\n",
        "created_at": "2026-11-22T09:30:00Z", "version": 2,
    })
}

#[tokio::test]
async fn a_policy_is_written_from_a_file_for_the_project_a_key_is_bound_to() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no-jobs.cedar");
    let text = "forbid (principal is Holder, action, resource);\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let part = format!("/api/v1/projects/{PRJ}/policies/no-jobs");
    fake.on(&format!("PUT {part}"), &policy(json!(null)));
    // A key that is bound to a project means that project's.
    let said = fake.run(&["policy", "put", "no-jobs", file]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(fake.asked(&format!("PUT {part}"))[0].json(), json!({ "text": text }));
    insta::assert_snapshot!(said.out, @r"
    name     no-jobs
    rule     organisation:no-jobs
    effect   forbid
    version  2
    written  2026-11-22T09:30:00.000Z

    forbid (principal is Holder, action, resource);
    ");
}

#[tokio::test]
async fn an_explanation_shows_the_policies_and_what_would_help() {
    let fake = Fake::start().await;
    fake.on(
        "POST /api/v1/policies/explain",
        &json!({
            "key": "key_00000000000000000000000004", "role": "developer", "action": "job:create", "object": PRJ,
            "allowed": false, "reason": "forbidden",
            "policies": [{ "rule": "organisation:no-jobs", "effect": "forbid",
                           "text": "forbid (principal is Holder, action, resource);" }],
            "would_need": ["`organisation:no-jobs` changed or removed by an owner"],
        }),
    );
    let said = fake.run(&["policy", "explain", "job:create", PRJ]).await;
    assert_eq!(said.exit, 0, "{}", said.err);
    insta::assert_snapshot!(said.out, @r"
    key      key_00000000000000000000000004
    role     developer
    action   job:create
    object   prj_00000000000000000000000002
    allowed  no
    reason   forbidden

    forbidden by organisation:no-jobs
        forbid (principal is Holder, action, resource);

    would need `organisation:no-jobs` changed or removed by an owner
    ");
}
