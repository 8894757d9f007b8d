//! Operators' roles, their keys, and the looks support may be given at what a tenant owns.

use gregal_control::AccessOptions;
use gregal_core::{access::Role, site::SiteOperator};
use serde_json::{Value, json};

use crate::world::{Answer, Cloud, FakeSite, Tenant, path_of};

/// A cloud whose operator answers to this law.
async fn cloud_under(law: &str) -> Cloud {
    let jurisdiction = law.parse().unwrap();
    let operator = SiteOperator { name: "Hoster".into(), jurisdiction, parent_jurisdiction: jurisdiction };
    let access = AccessOptions { operator: Some(operator), ..AccessOptions::default() };
    Cloud::open().await.restarted_with(access).await
}

struct World {
    cloud: Cloud,
    site: FakeSite,
    tenant: Tenant,
    support: String,
    second: String,
    dataset: String,
}

impl World {
    async fn open() -> Self {
        let cloud = cloud_under("FR").await;
        let mut site = cloud.site("lyon", "FR").await;
        let tenant = cloud.tenant("Acme", 10_000).await;
        let dataset = cloud.dataset(&tenant, &mut site, "secret-plan.jsonl").await;
        let support = operator_key(&cloud, "support").await.1;
        let second = operator_key(&cloud, "support").await.1;
        Self { cloud, site, tenant, support, second, dataset }
    }

    async fn asks(&self, more: Value) -> Answer {
        let mut wanted = json!({ "reason": "ticket 4711: a job that never starts", "seconds": 3600 });
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.cloud.call(&self.support, "access_request", &[&self.tenant.organisation()], wanted).await
    }

    async fn step(&self, key: &str, route: &str, access: &str) -> Answer {
        let body = if route == "access_end" { Value::Null } else { json!({}) };
        self.cloud.call(key, route, &[access], body).await
    }

    /// An access that is active.
    async fn given(&self) -> String {
        let access = id(&self.asks(json!({})).await.good());
        self.step(&self.second, "access_approve", &access).await.good();
        assert_eq!(self.step(&self.tenant.owner, "access_consent", &access).await.good()["state"], "active");
        access
    }

    async fn reads(&self, key: &str) -> u16 {
        self.cloud.call(key, "dataset_read", &[&self.dataset], Value::Null).await.status
    }

    /// What the organisation's own log says was done of an action.
    async fn log(&self, action: &str) -> Vec<Value> {
        let path = path_of("audit_list", &[&self.tenant.organisation()]);
        let page = self.cloud.get(&self.tenant.owner, &format!("{path}?limit=500")).await.good();
        let bodies = page["items"].as_array().unwrap().iter();
        let entries = bodies.map(|entry| serde_json::from_str::<Value>(entry["body"].as_str().unwrap()).unwrap());
        entries.filter(|entry| entry["action"] == action && entry["result"] == "done").collect()
    }
}

fn id(view: &Value) -> String {
    view["id"].as_str().unwrap().to_owned()
}

async fn operator_key(cloud: &Cloud, role: &str) -> (String, String) {
    let wanted = json!({ "name": role, "role": role });
    let made = cloud.call(&cloud.operator, "operator_key_create", &[], wanted).await.good();
    (id(&made["key"]), made["secret"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn support_looks_only_after_a_second_operator_and_the_tenant_agreed_and_each_look_stands_in_its_log() {
    let world = World::open().await;
    assert_eq!(world.reads(&world.support).await, 404, "no standing access");
    let asked = world.asks(json!({})).await.good();
    let access = id(&asked);
    assert_eq!((&asked["state"], &asked["needs_consent"]), (&json!("waits_for_operator"), &json!(true)));
    assert_eq!(world.reads(&world.support).await, 404);
    let own = world.step(&world.support, "access_approve", &access).await;
    assert_eq!((own.status, own.json()["rule"].as_str()), (403, Some("support.second_person")));
    let approved = world.step(&world.second, "access_approve", &access).await.good();
    assert_eq!(approved["state"], "waits_for_tenant");
    assert_eq!(world.reads(&world.support).await, 404);
    // An operator does not agree for the tenant, nor a stranger, nor one of the tenant who may not.
    assert_eq!(world.step(&world.second, "access_consent", &access).await.status, 404);
    let stranger = world.cloud.tenant("Other", 0).await.owner;
    assert_eq!(world.step(&stranger, "access_consent", &access).await.status, 404);
    assert_eq!(world.step(&stranger, "access_end", &access).await.status, 404);
    let developer = world.cloud.key(Some(world.tenant.organisation), None, Role::Developer).await;
    assert_eq!(world.step(&developer, "access_consent", &access).await.status, 403);
    let agreed = world.step(&world.tenant.owner, "access_consent", &access).await.good();
    assert_eq!(agreed["state"], "active");

    assert_eq!(world.reads(&world.support).await, 200);
    assert_eq!(world.reads(&world.second).await, 404, "who approved does not look");
    let (project, here) = (world.tenant.project(), world.tenant.organisation());
    for (route, parameters) in [("datasets_list", [&project]), ("jobs_list", [&project]), ("projects_list", [&here])] {
        world.cloud.call(&world.support, route, &[parameters[0]], Value::Null).await.good();
    }
    // Facts only: nothing is made, no content is opened, no key is listed, no money is seen, and no other tenant is.
    for (route, parameter, body) in [
        ("grant_create", &project, json!({ "purpose": "dataset_read", "object": world.dataset })),
        ("keys_list", &project, Value::Null),
        ("key_create", &project, json!({ "name": "k", "role": "inference" })),
        ("dataset_delete", &world.dataset, Value::Null),
        ("invoice_draft", &here, Value::Null),
        ("audit_list", &here, Value::Null),
        ("access_setting_write", &here, json!({ "setting": "notify" })),
    ] {
        let told = world.cloud.call(&world.support, route, &[parameter], body).await;
        assert_eq!(told.status, 404, "{route}: {}", told.text);
    }
    let other = world.cloud.tenant("Third", 0).await;
    let theirs = world.cloud.call(&world.support, "jobs_list", &[&other.project()], Value::Null).await;
    assert_eq!(theirs.status, 404);

    let uses = world.log("access:use").await;
    assert_eq!(uses.len(), 4, "{uses:?}");
    assert!(uses.iter().all(|entry| entry["reason"] == "ticket 4711: a job that never starts"
        && entry["facts"]["access"] == json!(access)
        && entry["request"].is_string()));
    assert_eq!((&uses[0]["object"], &uses[0]["facts"]["action"]), (&json!(world.dataset), &json!("dataset:read")));
    for action in ["access:request", "access:approve", "access:consent"] {
        assert_eq!(world.log(action).await.len(), 1, "{action}");
    }
    let listed = world.cloud.call(&world.tenant.owner, "accesses_list", &[&here], Value::Null).await.good();
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["state"]), (&json!(access), &json!("active")));

    // The tenant ends it, at any time, at once.
    let ended = world.step(&world.tenant.owner, "access_end", &access).await.good();
    assert_eq!(ended["state"], "over");
    assert_eq!(world.reads(&world.support).await, 404);
    assert_eq!(world.log("access:end").await.len(), 1);
    for (key, route) in [(&world.second, "access_approve"), (&world.tenant.owner, "access_consent")] {
        assert_eq!(world.step(key, route, &access).await.problem(), "conflict");
    }
}

#[tokio::test]
async fn a_look_ends_by_itself_and_says_so_and_a_wish_nobody_approved_lapses() {
    let mut world = World::open().await;
    let access = world.given().await;
    world.cloud.world.pass_seconds(3_590);
    assert_eq!(world.reads(&world.support).await, 200);
    world.cloud.world.pass_seconds(10);
    assert_eq!(world.reads(&world.support).await, 404);
    world.cloud.control.expire_pass().await.unwrap();
    world.cloud.control.expire_pass().await.unwrap();
    let lapsed = world.log("access:lapse").await;
    assert_eq!(lapsed.iter().map(|entry| entry["object"].clone()).collect::<Vec<_>>(), [json!(access)]);
    let waiting = id(&world.asks(json!({})).await.good());
    world.cloud.world.pass_seconds(86_400);
    assert_eq!(world.step(&world.second, "access_approve", &waiting).await.problem(), "conflict");
    world.site.sync(&world.cloud).await;
}

#[tokio::test]
async fn an_organisation_says_whether_support_may_look_and_its_word_holds_at_once() {
    let world = World::open().await;
    let here = world.tenant.organisation();
    let set = async |setting: &str| {
        let wanted = json!({ "setting": setting });
        world.cloud.call(&world.tenant.owner, "access_setting_write", &[&here], wanted).await.good()
    };
    set("notify").await;
    let access = id(&world.asks(json!({})).await.good());
    assert_eq!(world.step(&world.second, "access_approve", &access).await.good()["state"], "active");
    assert_eq!(world.reads(&world.support).await, 200);
    set("refused").await;
    assert_eq!(world.reads(&world.support).await, 404, "what is active is not let any more");
    let told = world.asks(json!({})).await;
    assert_eq!((told.status, told.json()["rule"].as_str()), (403, Some("support.refused")));
    let read = world.cloud.call(&world.tenant.owner, "access_setting_read", &[&here], Value::Null).await.good();
    assert_eq!(read["setting"], "refused");
}

#[tokio::test]
async fn a_look_for_one_project_reaches_no_other() {
    let world = World::open().await;
    let wanted = json!({ "name": "sibling" });
    let here = world.tenant.organisation();
    let sibling = world.cloud.call(&world.tenant.owner, "project_create", &[&here], wanted).await.good();
    let access = id(&world.asks(json!({ "project": id(&sibling) })).await.good());
    world.step(&world.second, "access_approve", &access).await.good();
    world.step(&world.tenant.owner, "access_consent", &access).await.good();
    let read =
        async |project: &str| world.cloud.call(&world.support, "jobs_list", &[project], Value::Null).await.status;
    assert_eq!((read(&id(&sibling)).await, read(&world.tenant.project()).await), (200, 404));
    assert_eq!(world.reads(&world.support).await, 404);
    let foreign = world.cloud.tenant("Other", 0).await.project();
    assert_eq!(world.asks(json!({ "project": foreign })).await.status, 404);
}

#[tokio::test]
async fn an_operator_under_another_law_may_not_look() {
    let cloud = cloud_under("US").await;
    let tenant = cloud.tenant("Acme", 0).await;
    let support = operator_key(&cloud, "support").await.1;
    let wanted = json!({ "reason": "we would like to see", "seconds": 60 });
    let told = cloud.call(&support, "access_request", &[&tenant.organisation()], wanted.clone()).await;
    assert_eq!(told.problem(), "residency_refused");
    assert_eq!(told.json()["rule"], "residency.site_jurisdiction");
    // Where nobody said under which law, it is none.
    let cloud = cloud.restarted_with(AccessOptions::default()).await;
    let told = cloud.call(&support, "access_request", &[&tenant.organisation()], wanted).await;
    assert_eq!(told.json()["rule"], "residency.unknown");
}

#[tokio::test]
async fn a_wish_without_a_reason_or_too_long_is_refused() {
    let world = World::open().await;
    for wrong in [json!({ "reason": "why not" }), json!({ "seconds": 0 }), json!({ "seconds": 14_401 })] {
        assert_eq!(world.asks(wrong).await.problem(), "invalid_request");
    }
    let here = world.tenant.organisation();
    let wanted = json!({ "reason": "a tenant asks about itself", "seconds": 60 });
    let own = world.cloud.call(&world.tenant.owner, "access_request", &[&here], wanted).await;
    assert_eq!(own.problem(), "forbidden");
}

#[tokio::test]
async fn the_founding_operator_gives_small_roles_and_the_last_way_in_stays() {
    let cloud = Cloud::open().await;
    let (support, secret) = operator_key(&cloud, "support").await;
    for (role, route, status) in [
        ("site_operator", "operator_keys_list", 403),
        ("site_operator", "organisations_list", 403),
        ("billing_operator", "organisations_list", 200),
        ("billing_operator", "audit_list_all", 403),
        ("support", "audit_list_all", 403),
        ("operator_auditor", "audit_list_all", 200),
        ("operator_auditor", "operator_keys_list", 200),
    ] {
        let key = operator_key(&cloud, role).await.1;
        assert_eq!(cloud.call(&key, route, &[], Value::Null).await.status, status, "{role} {route}");
    }
    let wanted = json!({ "name": "more", "role": "operator" });
    assert_eq!(cloud.call(&secret, "operator_key_create", &[], wanted.clone()).await.problem(), "forbidden");
    for role in ["owner", "visitor"] {
        let wrong = json!({ "name": "k", "role": role });
        let told = cloud.call(&cloud.operator, "operator_key_create", &[], wrong).await;
        assert_eq!(told.problem(), "invalid_request", "{role}");
    }
    cloud.call(&cloud.operator, "operator_key_revoke", &[&support], Value::Null).await.good();
    assert_eq!(cloud.call(&secret, "whoami", &[], Value::Null).await.status, 401);

    let me = cloud.call(&cloud.operator, "whoami", &[], Value::Null).await.good();
    let first = id(&me["key"]);
    let last = cloud.call(&cloud.operator, "operator_key_revoke", &[&first], Value::Null).await;
    assert_eq!(last.problem(), "conflict");
    let short = json!({ "name": "short", "role": "operator", "expires_in_s": 60 });
    cloud.call(&cloud.operator, "operator_key_create", &[], short).await.good();
    let last = cloud.call(&cloud.operator, "operator_key_revoke", &[&first], Value::Null).await;
    assert_eq!(last.problem(), "conflict", "one that ends is nobody's way back in");
    cloud.call(&cloud.operator, "operator_key_create", &[], wanted).await.good();
    cloud.call(&cloud.operator, "operator_key_revoke", &[&first], Value::Null).await.good();
    // A tenant's key is none of theirs.
    let tenant = cloud.key(None, None, Role::Operator).await;
    let owner = cloud.call(&tenant, "organisation_create", &[], json!({ "name": "Acme", "country": "FR" })).await;
    let owner = id(&owner.good()["owner_key"]["key"]);
    assert_eq!(cloud.call(&tenant, "operator_key_revoke", &[&owner], Value::Null).await.status, 404);
}

#[tokio::test]
async fn the_clouds_log_tells_operators_no_names_of_what_tenants_own() {
    let world = World::open().await;
    world.cloud.job(&world.tenant, &world.dataset, "secret-job").await;
    let wanted = json!({ "name": "secret-project" });
    let here = world.tenant.organisation();
    world.cloud.call(&world.tenant.owner, "project_create", &[&here], wanted).await.good();
    let wanted = json!({ "name": "secret-key", "role": "viewer" });
    world.cloud.call(&world.tenant.owner, "key_create", &[&world.tenant.project()], wanted).await.good();
    let log = world.cloud.get(&world.cloud.operator, &format!("{}?limit=500", path_of("audit_list_all", &[]))).await;
    assert!(log.text.contains("project:create") && log.text.contains("dataset:create"), "{}", log.text);
    assert!(!log.text.contains("secret-"), "{}", log.text);
}

#[tokio::test]
async fn an_organisation_that_wants_to_agree_is_asked_for_looks_it_was_only_told_of_before() {
    let world = World::open().await;
    let here = world.tenant.organisation();
    let set = async |setting: &str| {
        let wanted = json!({ "setting": setting });
        world.cloud.call(&world.tenant.owner, "access_setting_write", &[&here], wanted).await.good()
    };
    set("notify").await;
    let active = id(&world.asks(json!({})).await.good());
    world.step(&world.second, "access_approve", &active).await.good();
    let waiting = id(&world.asks(json!({})).await.good());
    assert_eq!(world.reads(&world.support).await, 200);
    set("consent").await;
    assert_eq!(world.reads(&world.support).await, 404, "nobody agreed to what is active");
    let approved = world.step(&world.second, "access_approve", &waiting).await.good();
    assert_ne!(approved["state"], "active", "{approved}");
    assert_eq!(world.reads(&world.support).await, 404);
    world.step(&world.tenant.owner, "access_consent", &waiting).await.good();
    assert_eq!(world.reads(&world.support).await, 200);
}

#[tokio::test]
async fn an_organisations_own_guardrail_about_places_holds_for_support() {
    let world = World::open().await;
    world.given().await;
    assert_eq!(world.reads(&world.support).await, 200);
    let text = r#"forbid (principal is Ceiling, action == Action::"place:support", resource is Ground)
when { resource.operator_jurisdiction == "FR" };"#;
    let parameters = [world.tenant.organisation(), "no-looks-from-here".to_owned()];
    let parameters = [parameters[0].as_str(), parameters[1].as_str()];
    world.cloud.call(&world.tenant.owner, "policy_write", &parameters, json!({ "text": text })).await.good();
    assert_eq!(world.reads(&world.support).await, 404);
    assert_eq!(world.asks(json!({})).await.problem(), "residency_refused");
}
