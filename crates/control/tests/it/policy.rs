//! Policies that organisations write for themselves: what they change, what they cannot, and how a bad one is refused.

use gregal_core::access::Role;
use serde_json::{Value, json};

use crate::world::{Answer, Cloud, Tenant, with_dataset};

const NO_JOBS: &str =
    "forbid (principal is Holder in Role::\"developer\", action == Action::\"job:create\", resource);";
const VIEWERS_CANCEL: &str = "permit (principal is Holder in Role::\"viewer\", action == Action::\"job:cancel\", \
                              resource) when { resource in principal.organisation };";

async fn put(cloud: &Cloud, tenant: &Tenant, name: &str, text: &str) -> Answer {
    cloud.call(&tenant.owner, "policy_write", &[&tenant.organisation(), name], json!({ "text": text })).await
}

async fn remove(cloud: &Cloud, tenant: &Tenant, name: &str) -> Answer {
    cloud.call(&tenant.owner, "policy_remove", &[&tenant.organisation(), name], Value::Null).await
}

async fn explain(cloud: &Cloud, key: &str, action: &str, object: &str) -> Answer {
    cloud.call(key, "policy_explain", &[], json!({ "action": action, "object": object })).await
}

#[tokio::test]
async fn a_guardrail_takes_what_a_role_carries_until_it_is_removed() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    let developer = cloud.key(Some(tenant.organisation), None, Role::Developer).await;
    let submit = || async {
        cloud.call(&developer, "job_create", &[&tenant.project()], crate::world::training(&dataset, "one")).await
    };
    let written = put(&cloud, &tenant, "no-jobs", NO_JOBS).await.good();
    assert_eq!((&written["rule"], &written["effect"]), (&json!("organisation:no-jobs"), &json!("forbid")));
    let refused = submit().await;
    assert_eq!((refused.problem().as_str(), &refused.json()["rule"]), ("forbidden", &json!("organisation:no-jobs")));
    // A second plane over the same store goes by it too, though it never saw the write.
    let beside = cloud.beside().await;
    let elsewhere =
        beside.call(&developer, "job_create", &[&tenant.project()], crate::world::training(&dataset, "two")).await;
    assert_eq!(elsewhere.problem(), "forbidden");
    remove(&cloud, &tenant, "no-jobs").await.good();
    submit().await.good();
    let gone = remove(&cloud, &tenant, "no-jobs").await;
    assert_eq!(gone.problem(), "not_found");
}

#[tokio::test]
async fn a_permit_gives_what_a_role_does_not_carry_and_nothing_elsewhere() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    let viewer = cloud.key(Some(tenant.organisation), None, Role::Viewer).await;
    let job = cloud.job(&tenant, &dataset, "one").await.to_string();
    let cancel = |key: String| {
        let (cloud, job) = (&cloud, &job);
        async move { cloud.call(&key, "job_cancel", &[job], json!({})).await }
    };
    assert_eq!(cancel(viewer.clone()).await.problem(), "forbidden");
    put(&cloud, &tenant, "viewers-cancel", VIEWERS_CANCEL).await.good();
    let other = cloud.tenant("Other", 1_000).await;
    let stranger = cloud.key(Some(other.organisation), None, Role::Viewer).await;
    assert_eq!(cancel(stranger).await.problem(), "not_found", "a permit speaks within its organisation");
    assert_eq!(cancel(viewer).await.good()["state"], "cancelled");
    let log = cloud.get(&tenant.owner, &format!("/api/v1/organisations/{}/audit?limit=500", tenant.organisation)).await;
    let log = log.good();
    let bodies = log["items"].as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap());
    let entries: Vec<Value> = bodies.map(|body| serde_json::from_str(body).unwrap()).collect();
    let cancelled = entries.iter().find(|entry| entry["action"] == "job:cancel" && entry["result"] == "done").unwrap();
    assert_eq!(cancelled["policy"], "organisation:viewers-cancel");
}

#[tokio::test]
async fn owners_cannot_lock_themselves_out() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    put(&cloud, &tenant, "nothing", "forbid (principal is Holder, action, resource);").await.good();
    let key = cloud.key(Some(tenant.organisation), None, Role::Admin).await;
    assert_eq!(cloud.call(&key, "project_read", &[&tenant.project()], Value::Null).await.problem(), "forbidden");
    let read = cloud.call(&tenant.owner, "project_read", &[&tenant.project()], Value::Null).await;
    assert_eq!(read.problem(), "forbidden");
    // An owner bound to a project is bound by the organisation's guardrails.
    let bound = cloud.key(Some(tenant.organisation), Some(tenant.project), Role::Owner).await;
    let text = json!({ "text": NO_JOBS });
    let refused = cloud.call(&bound, "project_policy_write", &[&tenant.project(), "mine"], text).await;
    assert_eq!(refused.problem(), "forbidden");
    let listed = cloud.call(&tenant.owner, "policies_list", &[&tenant.organisation()], Value::Null).await.good();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    remove(&cloud, &tenant, "nothing").await.good();
    cloud.call(&key, "project_read", &[&tenant.project()], Value::Null).await.good();
}

#[tokio::test]
async fn a_projects_policies_speak_for_it_alone_and_below_its_organisations() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    let second = cloud
        .call(&tenant.owner, "project_create", &[&tenant.organisation()], json!({ "name": "second" }))
        .await
        .good();
    let second = second["id"].as_str().unwrap();
    let bound = cloud.key(Some(tenant.organisation), Some(tenant.project), Role::Owner).await;
    let text = json!({ "text": "permit (principal is Holder in Role::\"viewer\", action == Action::\"job:create\", resource);" });
    cloud.call(&bound, "project_policy_write", &[&tenant.project(), "viewers"], text.clone()).await.good();
    let elsewhere = cloud.call(&bound, "project_policy_write", &[second, "viewers"], text).await;
    assert_eq!(elsewhere.problem(), "not_found");
    let viewer = cloud.key(Some(tenant.organisation), None, Role::Viewer).await;
    let job = |name: &'static str| crate::world::training(&dataset, name);
    cloud.call(&viewer, "job_create", &[&tenant.project()], job("one")).await.good();
    let beside = cloud.call(&viewer, "job_create", &[second], job("two")).await;
    assert_eq!(beside.problem(), "forbidden");
    // What the organisation forbids stays forbidden, whatever the project permits.
    let never = "forbid (principal is Holder in Role::\"viewer\", action == Action::\"job:create\", resource);";
    put(&cloud, &tenant, "never", never).await.good();
    let refused = cloud.call(&viewer, "job_create", &[&tenant.project()], job("three")).await;
    assert_eq!(refused.json()["rule"], "organisation:never");
}

#[tokio::test]
async fn a_bad_policy_is_refused_with_a_case_in_point() {
    let cloud = Cloud::open().await;
    let (tenant, other) = (cloud.tenant("Acme", 1_000).await, cloud.tenant("Other", 1_000).await);
    let theirs = format!("forbid (principal is Holder, action, resource in Project::\"{}\");", other.project);
    let nobodys = theirs.replace(&other.project(), "prj_00000000000000000000000009");
    for (text, rule, words) in [
        (
            "permit (principal is Holder, action == Action::\"job:cancel\", resource);",
            "tenant.isolation",
            "`job:cancel` to a job of another organisation",
        ),
        (
            "permit (principal is Holder, action == Action::\"policy:write\", resource) when { resource in principal.organisation };",
            "reach.permits",
            "`policy:write` to",
        ),
        ("forbid (principal is Holder, action, resource) when { 9223372036854775807 + 1 == 0 };", "", "overflow"),
        (
            "permit (principal is Ceiling, action, resource is Ground);",
            "residency.base",
            "places can only be forbidden",
        ),
        ("forbid (principal, action, resource);", "", "whom it speaks of"),
        ("forbid (principal is Holder in Role::\"ownr\", action, resource);", "", "Role::\"ownr\""),
        ("forbid (principal is Holder, action == Action::\"job:reed\", resource);", "", "schema"),
        ("forbid (principal is Holder, action, resource) when { principal.project == resource };", "", "schema"),
        (
            "forbid (principal is Holder, action, resource); permit (principal is Holder, action, resource);",
            "",
            "parse",
        ),
        (
            "forbid (principal is Holder, action, resource) when { principal.bound && !(principal has project) };",
            "",
            "applies in none",
        ),
        (&theirs, "", "which the organisation has not"),
        (&nobodys, "", "which the organisation has not"),
        (&"// \n".repeat(600), "", "longer than"),
    ] {
        let answer = put(&cloud, &tenant, "bad", text).await;
        assert_eq!(answer.problem(), "policy_refused", "{text}: {}", answer.text);
        let problem = answer.json();
        assert!(problem["detail"].as_str().unwrap().contains(words), "{text}: {}", answer.text);
        assert_eq!(problem["rule"].as_str().unwrap_or_default(), rule, "{}", answer.text);
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{}", answer.text);
    }
    let listed = cloud.call(&tenant.owner, "policies_list", &[&tenant.organisation()], Value::Null).await.good();
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn a_placement_guardrail_closes_a_site_that_residency_allows_unless_content_stands_there() {
    let (cloud, _lyon, tenant, _) = with_dataset().await;
    cloud.site("bonn", "DE").await;
    let closes = |law: &str| {
        format!(
            "forbid (principal is Ceiling, action, resource is Ground) when {{ resource.jurisdiction == \"{law}\" }};"
        )
    };
    let stands = put(&cloud, &tenant, "not-here", &closes("FR")).await;
    assert_eq!(stands.problem(), "conflict");
    assert!(stands.text.contains("dataset `facts.jsonl`"), "{}", stands.text);
    let wanted = json!({ "text": closes("DE") });
    let checked = cloud.call(&tenant.owner, "policy_check", &[&tenant.organisation()], wanted).await.good();
    assert_eq!((&checked["about"], &checked["sites_forbidden"]), (&json!("places"), &json!(["bonn"])));
    put(&cloud, &tenant, "not-there", &closes("DE")).await.good();
    let explained =
        cloud.call(&tenant.owner, "placement_explain", &[&tenant.project()], json!({ "site": "bonn" })).await;
    let verdict = &explained.good()["sites"][0];
    assert_eq!((&verdict["allowed"], &verdict["rule"]), (&json!(false), &json!("organisation:not-there")));
    let wanted = json!({ "name": "there", "site": "bonn" });
    let refused = cloud.call(&tenant.owner, "dataset_create", &[&tenant.project()], wanted).await;
    assert_eq!(refused.problem(), "residency_refused");
    assert_eq!(refused.json()["rule"], "organisation:not-there");
    let command = json!({ "name": "there", "sku": "cpu.1", "seconds_max": 60, "site": "bonn",
                          "program": { "kind": "command", "argv": ["true"] } });
    let refused = cloud.call(&tenant.owner, "job_create", &[&tenant.project()], command).await;
    assert_eq!(refused.json()["rule"], "organisation:not-there", "{}", refused.text);
}

#[tokio::test]
async fn what_is_placed_leaves_the_facts_it_was_decided_by() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    cloud.job(&tenant, &dataset, "one").await;
    cloud.control.step().await.unwrap();
    let log = cloud.get(&tenant.owner, &format!("/api/v1/organisations/{}/audit?limit=500", tenant.organisation)).await;
    let log = log.good();
    let bodies = log["items"].as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap());
    let entries: Vec<Value> = bodies.map(|body| serde_json::from_str(body).unwrap()).collect();
    for action in ["dataset:create", "job:bind"] {
        let entry = entries.iter().find(|entry| entry["action"] == action).unwrap();
        assert_eq!(
            entry["facts"]["residency"],
            json!({
                "site": {
                    "jurisdiction": "FR", "operator": "Hoster", "operator_jurisdiction": "FR",
                    "parent_jurisdiction": "FR", "certifications": [],
                },
                "ceiling": { "jurisdictions": ["EU"], "certifications": [], "operators": [] },
                "own_policies": 0,
            }),
            "{action}"
        );
    }
}

#[tokio::test]
async fn a_site_is_told_the_policies_of_those_it_serves_and_the_keys_they_may_permit() {
    let (cloud, mut site, tenant, _) = with_dataset().await;
    assert_eq!(site.intent().organisations[0].policies, []);
    put(&cloud, &tenant, "no-jobs", NO_JOBS).await.good();
    site.sync(&cloud).await;
    let told = &site.intent().organisations[0].policies;
    assert_eq!((told.len(), told[0].name.as_str(), told[0].text.as_str()), (1, "no-jobs", NO_JOBS));
    remove(&cloud, &tenant, "no-jobs").await.good();
    site.sync(&cloud).await;
    assert_eq!(site.intent().organisations[0].policies, []);
}

#[tokio::test]
async fn an_explanation_names_the_policies_with_their_text_and_what_would_help() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    let job = cloud.job(&tenant, &dataset, "one").await.to_string();
    let viewer = cloud.key(Some(tenant.organisation), None, Role::Viewer).await;
    let told = explain(&cloud, &viewer, "job:cancel", &job).await.good();
    assert_eq!(
        (&told["allowed"], &told["reason"], &told["policies"]),
        (&json!(false), &json!("no_permit"), &json!([]))
    );
    assert_eq!(
        told["would_need"],
        json!([
            "a key with the role `owner` or `admin` or `developer`",
            "a permit for `job:cancel` that an owner writes: `gregal policy put`",
        ])
    );
    put(&cloud, &tenant, "viewers-cancel", VIEWERS_CANCEL).await.good();
    let told = explain(&cloud, &viewer, "job:cancel", &job).await.good();
    assert_eq!((&told["allowed"], &told["policies"][0]["text"]), (&json!(true), &json!(VIEWERS_CANCEL)));
    put(&cloud, &tenant, "no-jobs", NO_JOBS).await.good();
    let developer = cloud.key(Some(tenant.organisation), None, Role::Developer).await;
    let told = explain(&cloud, &developer, "job:create", &tenant.project()).await.good();
    assert_eq!(told["policies"][0]["rule"], "organisation:no-jobs");
    assert_eq!(told["would_need"], json!(["`organisation:no-jobs` changed or removed by an owner"]));

    // Of others' things nothing is told, not even that they are there; and other keys only to who may read policies.
    let other = cloud.tenant("Other", 1_000).await;
    assert_eq!(explain(&cloud, &other.owner, "job:read", &job).await.problem(), "not_found");
    let mine = cloud.call(&viewer, "whoami", &[], Value::Null).await.good();
    let mine = mine["key"]["id"].as_str().unwrap().to_owned();
    let about = |key: String| {
        let asked = json!({ "action": "job:read", "object": tenant.project(), "key": mine });
        let cloud = &cloud;
        async move { cloud.call(&key, "policy_explain", &[], asked).await }
    };
    assert_eq!(about(tenant.owner.clone()).await.good()["role"], "viewer");
    assert_eq!(about(other.owner.clone()).await.problem(), "not_found");
    let billing = cloud.key(Some(tenant.organisation), None, Role::Billing).await;
    assert_eq!(about(billing).await.problem(), "forbidden");
}
