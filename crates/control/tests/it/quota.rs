//! Quotas: set by operators, shared by organisations, never given twice, and what they mean for a job that is submitted.

use gregal_core::access::Role;
use serde_json::{Value, json};

use crate::world::{Answer, Cloud, Tenant, running, training, with_dataset};

async fn set(cloud: &Cloud, tenant: &Tenant, quota: Value) -> Answer {
    cloud.call(&cloud.operator, "quota_write", &[&tenant.organisation(), "cpu.1"], quota).await
}

async fn share(cloud: &Cloud, tenant: &Tenant, project: &str, quota: Value) -> Answer {
    cloud.call(&tenant.owner, "project_quota_write", &[project, "cpu.1"], quota).await
}

async fn list(cloud: &Cloud, tenant: &Tenant) -> Vec<Value> {
    let listed = cloud.call(&tenant.owner, "quotas_list", &[&tenant.organisation()], Value::Null).await.good();
    listed["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_quota_is_set_listed_with_its_use_and_taken_away() {
    let (cloud, mut site, tenant, dataset) = with_dataset().await;
    let made = set(&cloud, &tenant, json!({ "guarantee": 1, "borrow_max": 8, "lend_max": 0 })).await.good();
    assert_eq!((&made["limit"], &made["used"], &made["project"]), (&json!(9), &json!(0), &Value::Null));
    share(&cloud, &tenant, &tenant.project(), json!({ "guarantee": 1 })).await.good();
    for name in ["one", "two"] {
        cloud.job(&tenant, &dataset, name).await;
    }
    cloud.control.step().await.unwrap();
    let job = site.sync(&cloud).await;
    assert!(job.intent.is_some());
    let running_now = site.intent().attempts[0].job;
    site.says(&cloud, running_now, 1, running(&cloud)).await;
    let listed = list(&cloud, &tenant).await;
    let seen: Vec<_> = listed.iter().map(|one| (one["project"].is_null(), &one["used"], &one["borrowed"])).collect();
    assert_eq!(seen, [(true, &json!(2), &json!(1)), (false, &json!(2), &json!(1))], "the organisation's stands first");
    assert_eq!((&listed[1]["limit"], &listed[1]["lend_max"]), (&Value::Null, &Value::Null), "it borrows freely");
    let mine = cloud.call(&tenant.owner, "project_quotas_list", &[&tenant.project()], Value::Null).await.good();
    assert_eq!(mine["items"], json!([listed[1]]));

    let changed = set(&cloud, &tenant, json!({ "guarantee": 3 })).await.good();
    assert_eq!(
        (&changed["guarantee"], &changed["borrow_max"]),
        (&json!(3), &Value::Null),
        "what is left out is not kept"
    );
    for _ in 0..2 {
        let left =
            cloud.call(&tenant.owner, "project_quota_remove", &[&tenant.project(), "cpu.1"], Value::Null).await.good();
        assert_eq!((&left["guarantee"], &left["limit"]), (&json!(0), &Value::Null), "twice is the same act");
    }
    cloud.call(&cloud.operator, "quota_remove", &[&tenant.organisation(), "cpu.1"], Value::Null).await.good();
    assert_eq!(list(&cloud, &tenant).await, [] as [Value; 0]);

    // One entry an act that changed something, with what it says and who decided.
    let path = format!("/api/v1/organisations/{}/audit?limit=500", tenant.organisation);
    let log = cloud.get(&tenant.owner, &path).await.good();
    let bodies = log["items"].as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap());
    let entries: Vec<Value> = bodies.map(|body| serde_json::from_str(body).unwrap()).collect();
    let of = |action: &str| entries.iter().filter(|entry| entry["action"] == action).collect::<Vec<_>>();
    let written = of("quota:write");
    assert_eq!((written.len(), of("quota:share").len()), (3, 2));
    assert_eq!(written[0]["facts"], json!({ "sku": "cpu.1", "guarantee": 1, "borrow_max": 8, "lend_max": 0 }));
    assert_eq!((&written[0]["policy"], &written[2]["facts"]["removed"]), (&json!("role.operator"), &json!(true)));
}

#[tokio::test]
async fn projects_share_what_their_organisation_has_and_no_more() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wanted = json!({ "name": "second" });
    let second = cloud.call(&tenant.owner, "project_create", &[&tenant.organisation()], wanted).await.good();
    let second = second["id"].as_str().unwrap();
    let first = tenant.project();
    let refused = share(&cloud, &tenant, &first, json!({ "guarantee": 1 })).await;
    assert_eq!(refused.problem(), "conflict");
    assert!(refused.text.contains("would be 1 together, and 0 are guaranteed"), "{}", refused.text);

    set(&cloud, &tenant, json!({ "guarantee": 5 })).await.good();
    share(&cloud, &tenant, &first, json!({ "guarantee": 3 })).await.good();
    let refused = share(&cloud, &tenant, second, json!({ "guarantee": 3 })).await;
    assert_eq!(refused.problem(), "conflict");
    assert!(refused.text.contains("would be 6 together, and 5 are guaranteed"), "{}", refused.text);
    share(&cloud, &tenant, second, json!({ "guarantee": 2 })).await.good();
    share(&cloud, &tenant, &first, json!({ "guarantee": 3, "borrow_max": 0 })).await.good();
    let refused = share(&cloud, &tenant, &first, json!({ "guarantee": 4 })).await;
    assert_eq!(refused.problem(), "conflict", "its own part is not counted against itself, and no more is there");

    // What is shared cannot be taken away below the projects' feet.
    let refused = set(&cloud, &tenant, json!({ "guarantee": 4 })).await;
    assert_eq!(refused.problem(), "conflict");
    assert!(refused.text.contains("would be 5 together, and 4 are guaranteed"), "{}", refused.text);
    let gone = cloud.call(&cloud.operator, "quota_remove", &[&tenant.organisation(), "cpu.1"], Value::Null).await;
    assert_eq!(gone.problem(), "conflict");
    // Another SKU is another matter.
    let other = cloud.call(&tenant.owner, "project_quota_write", &[&first, "cpu.2"], json!({ "guarantee": 1 })).await;
    assert_eq!(other.problem(), "conflict");
    let guarantees: Vec<Value> = list(&cloud, &tenant).await.iter().map(|one| one["guarantee"].clone()).collect();
    assert_eq!(guarantees, [5, 3, 2], "what was refused changed nothing");
}

#[tokio::test]
async fn a_key_bound_to_a_project_reads_its_quota_and_does_not_share() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    set(&cloud, &tenant, json!({ "guarantee": 5 })).await.good();
    let bound = cloud.key(Some(tenant.organisation), Some(tenant.project), Role::Admin).await;
    let project = tenant.project();
    cloud.call(&bound, "project_quotas_list", &[&project], Value::Null).await.good();
    let told = cloud.call(&bound, "project_quota_write", &[&project, "cpu.1"], json!({ "guarantee": 1 })).await;
    assert_eq!(told.status, 404, "the organisation stands above its project: {}", told.text);
    assert_eq!(cloud.call(&bound, "quotas_list", &[&tenant.organisation()], Value::Null).await.status, 404);
    let stranger = cloud.tenant("Other", 1_000).await;
    let told =
        cloud.call(&stranger.owner, "project_quota_write", &[&project, "cpu.1"], json!({ "guarantee": 0 })).await;
    assert_eq!(told.status, 404);
    assert!(!told.text.contains(&tenant.organisation()), "whose project it is stays unsaid: {}", told.text);
}

#[tokio::test]
async fn a_job_its_quota_can_never_allow_is_refused_with_numbers_and_nothing_held() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    let submit =
        async || cloud.call(&tenant.owner, "job_create", &[&tenant.project()], training(&dataset, "one")).await;
    set(&cloud, &tenant, json!({ "guarantee": 1, "borrow_max": 0 })).await.good();
    submit().await.good();
    submit().await.good();
    share(&cloud, &tenant, &tenant.project(), json!({ "guarantee": 0, "borrow_max": 0 })).await.good();
    let held = cloud.balances(tenant.organisation).await.held;
    let refused = submit().await;
    assert_eq!(refused.problem(), "never_fits");
    let words = "it takes 1 of `cpu.1`, and its project may use 0 at most (0 guaranteed, 0 borrowed)";
    assert!(refused.text.contains(words), "{}", refused.text);
    assert_eq!(cloud.balances(tenant.organisation).await.held, held);
    share(&cloud, &tenant, &tenant.project(), json!({ "guarantee": 0, "borrow_max": 1 })).await.good();
    submit().await.good();
}

#[tokio::test]
async fn what_makes_no_quota_is_refused_by_field() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    for quota in [json!({}), json!({ "guarantee": -1 }), json!({ "guarantee": 1, "lend_max": 10_000_001 })] {
        assert_eq!(set(&cloud, &tenant, quota).await.problem(), "invalid_request");
    }
    for (method, body) in [("quota_write", json!({ "guarantee": 1 })), ("quota_remove", Value::Null)] {
        let told = cloud.call(&cloud.operator, method, &[&tenant.organisation(), "cpu.3"], body).await;
        assert_eq!(told.problem(), "invalid_request");
        assert!(told.text.contains("`cpu.1`"), "it names what there is: {}", told.text);
    }
    for share in [json!({ "weight": 0, "priority_max": 4 }), json!({ "weight": 1, "priority_max": 10 })] {
        let told = cloud.call(&cloud.operator, "share_write", &[&tenant.organisation()], share).await;
        assert_eq!(told.problem(), "invalid_request");
    }
}

#[tokio::test]
async fn nobody_gets_ahead_of_others_by_asking_only_by_what_the_operator_granted() {
    let (cloud, _site, tenant, dataset) = with_dataset().await;
    let submit = async |priority: Value| {
        let mut wanted = training(&dataset, "one");
        wanted["priority"] = priority;
        cloud.call(&tenant.owner, "job_create", &[&tenant.project()], wanted).await
    };
    let grant = async |most: u8| {
        let share = json!({ "weight": 2, "priority_max": most });
        cloud.call(&cloud.operator, "share_write", &[&tenant.organisation()], share).await.good()
    };
    assert_eq!(submit(Value::Null).await.good()["priority"], 4);
    assert_eq!(submit(json!(0)).await.good()["priority"], 0);
    let refused = submit(json!(5)).await;
    assert_eq!(refused.problem(), "forbidden");
    assert!(refused.text.contains("at most 4"), "{}", refused.text);
    let granted = grant(7).await;
    assert_eq!((&granted["weight"], &granted["priority_max"]), (&json!(2), &json!(7)));
    assert_eq!(submit(json!(7)).await.good()["priority"], 7);
    assert_eq!(submit(Value::Null).await.good()["priority"], 4, "more is only for what asks for it");
    grant(2).await;
    assert_eq!(submit(Value::Null).await.good()["priority"], 2);
    for (wrong, code) in [(json!(10), "invalid_request"), (json!(-1), "invalid_request"), (json!(3), "forbidden")] {
        assert_eq!(submit(wrong).await.problem(), code);
    }
}
