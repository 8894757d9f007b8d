//! Service accounts: never wider than whoever makes them, and their keys end with them. When keys were used last.

use gregal_api::protocol::KeyUsed;
use gregal_core::{
    access::Role::{Admin, Developer},
    id::KeyId,
    world::World as _,
};
use serde_json::{Value, json};

use crate::world::{Answer, Cloud, Tenant, path_of};

pub(crate) async fn made(cloud: &Cloud, maker: &str, tenant: &Tenant, wanted: Value) -> String {
    let made = cloud.call(maker, "service_account_create", &[&tenant.organisation()], wanted).await.good();
    made["id"].as_str().unwrap().to_owned()
}

async fn key_of(cloud: &Cloud, maker: &str, account: &str, wanted: Value) -> Answer {
    cloud.call(maker, "service_account_key_create", &[account], wanted).await
}

fn secret(answer: &Answer) -> String {
    answer.good()["secret"].as_str().unwrap().to_owned()
}

pub(crate) async fn works(cloud: &Cloud, key: &str) -> bool {
    cloud.get(key, "/api/v1/whoami").await.status == 200
}

/// What the organisation's audit log says.
pub(crate) async fn entries(cloud: &Cloud, tenant: &Tenant) -> Vec<Value> {
    let path = format!("{}?limit=500", path_of("audit_list", &[&tenant.organisation()]));
    let page = cloud.get(&tenant.owner, &path).await.good();
    let bodies = page["items"].as_array().unwrap().iter();
    bodies.map(|entry| serde_json::from_str(entry["body"].as_str().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn keys_act_under_the_account_and_end_with_it_at_once() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wanted = json!({ "name": "ci", "role": "developer", "project": tenant.project() });
    let account = made(&cloud, &tenant.owner, &tenant, wanted).await;
    assert!(account.starts_with("sac_"), "{account}");
    let one = secret(&key_of(&cloud, &tenant.owner, &account, json!({ "name": "one" })).await);
    let other = secret(&key_of(&cloud, &tenant.owner, &account, json!({ "name": "other" })).await);
    let who = cloud.get(&one, "/api/v1/whoami").await.good();
    assert_eq!(
        (&who["key"]["service_account"], &who["key"]["role"], &who["key"]["project"]),
        (&json!(account), &json!("developer"), &json!(tenant.project()))
    );
    // What one of its keys makes is the account's too.
    let child = cloud.call(&one, "key_create", &[&tenant.project()], json!({ "name": "c", "role": "inference" })).await;
    let child = child.good()["secret"].as_str().unwrap().to_owned();
    let log = entries(&cloud, &tenant).await;
    let mine: Vec<&Value> = log.iter().filter(|entry| entry["actor"] == json!(account)).collect();
    assert_eq!(mine.len(), 1, "the log names the account: {log:?}");
    assert_eq!(mine[0]["facts"]["key"], who["key"]["id"]);

    let disable = json!({ "enabled": false });
    let disabled = cloud.call(&tenant.owner, "service_account_write", &[&account], disable).await.good();
    assert!(disabled["disabled_at"].is_string());
    for (name, key) in [("one", &one), ("other", &other), ("child", &child)] {
        assert!(!works(&cloud, key).await, "{name}");
    }
    assert_eq!(key_of(&cloud, &tenant.owner, &account, json!({ "name": "late" })).await.problem(), "conflict");
    cloud.call(&tenant.owner, "service_account_write", &[&account], json!({ "enabled": true })).await.good();
    assert!(!works(&cloud, &one).await, "what has ended stays ended");
    let again = secret(&key_of(&cloud, &tenant.owner, &account, json!({ "name": "again" })).await);
    assert!(works(&cloud, &again).await);
    cloud.call(&tenant.owner, "service_account_remove", &[&account], Value::Null).await.good();
    assert!(!works(&cloud, &again).await);
    let gone = cloud.get(&tenant.owner, &path_of("service_account_read", &[&account])).await;
    assert_eq!(gone.problem(), "not_found");
}

#[tokio::test]
async fn nobody_makes_or_opens_one_wider_than_himself() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let (of, here) = (tenant.organisation, Some(tenant.project));
    let admin = cloud.key(Some(of), None, Admin).await;
    let bound = cloud.key(Some(of), here, Admin).await;
    let create = async |key: &str, wanted: Value| {
        let answer = cloud.call(key, "service_account_create", &[&tenant.organisation()], wanted).await;
        (answer.status, answer.json()["rule"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |rule: &str| (403, rule.to_owned());
    for role in ["owner", "admin", "operator", "visitor"] {
        let told = create(&admin, json!({ "name": "x", "role": role })).await;
        assert_eq!(told, refused("member.no_more_than_held"), "{role}");
    }
    assert_eq!(create(&bound, json!({ "name": "x", "role": "developer" })).await.0, 404, "not beyond its project");
    let within = json!({ "name": "x", "role": "developer", "project": tenant.project() });
    assert_eq!(create(&bound, within).await.0, 201);

    // A key with an end, and one of an account, open nothing that would outlast them.
    let ends = json!({ "name": "short", "role": "admin", "expires_in_s": 60 });
    let ends = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], ends).await.good();
    let ends = ends["secret"].as_str().unwrap();
    let mine = json!({ "name": "x", "role": "developer", "project": tenant.project() });
    assert_eq!(create(ends, mine.clone()).await, refused("key.no_longer_than_held"));
    let account = made(&cloud, &tenant.owner, &tenant, json!({ "name": "admin", "role": "admin" })).await;
    let acts = secret(&key_of(&cloud, &tenant.owner, &account, json!({ "name": "k" })).await);
    assert_eq!(create(&acts, mine).await, refused("key.no_longer_than_held"));
    let trust = json!({ "trusts": [{ "issuer": "https://ci.example.eu", "audience": "a", "claims": { "sub": "x" } }] });
    let told = cloud.call(&acts, "service_account_write", &[&account], trust).await;
    assert_eq!(told.status, 403, "{}", told.text);

    // An account's scope holds for its keys, whoever makes them.
    let narrow = json!({ "name": "n", "role": "developer", "scope": { "actions": ["project:read", "job:read"] } });
    let narrow = made(&cloud, &tenant.owner, &tenant, narrow).await;
    let wide = json!({ "name": "k", "scope": { "actions": ["project:read", "job:create"] } });
    let wide = key_of(&cloud, &tenant.owner, &narrow, wide).await;
    assert_eq!((wide.status, wide.json()["rule"].as_str()), (403, Some("key.scope.actions")));
    let key = key_of(&cloud, &tenant.owner, &narrow, json!({ "name": "k" })).await.good();
    assert_eq!(key["key"]["scope"]["actions"], json!(["project:read", "job:read"]));
}

#[tokio::test]
async fn an_organisations_own_policy_can_name_an_account_for_all_of_its_keys() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let account = made(&cloud, &tenant.owner, &tenant, json!({ "name": "ci", "role": "developer" })).await;
    let other = made(&cloud, &tenant.owner, &tenant, json!({ "name": "other", "role": "developer" })).await;
    let key = secret(&key_of(&cloud, &tenant.owner, &account, json!({ "name": "k" })).await);
    let free = secret(&key_of(&cloud, &tenant.owner, &other, json!({ "name": "k" })).await);
    let text = format!("forbid (principal == Holder::\"{account}\", action == Action::\"dataset:read\", resource);");
    let written =
        cloud.call(&tenant.owner, "policy_write", &[&tenant.organisation(), "no-data"], json!({ "text": text })).await;
    assert_eq!(written.status, 200, "{}", written.text);
    let list = path_of("datasets_list", &[&tenant.project()]);
    assert_eq!(cloud.get(&key, &list).await.json()["rule"], "organisation:no-data");
    assert_eq!(cloud.get(&free, &list).await.status, 200);
    let fresh = secret(&key_of(&cloud, &tenant.owner, &account, json!({ "name": "fresh" })).await);
    assert_eq!(cloud.get(&fresh, &list).await.status, 403, "a later key too");
}

#[tokio::test]
async fn the_last_use_of_a_key_is_known_within_a_minute_or_so_and_leaves_no_entry() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wanted = json!({ "name": "used", "role": "developer" });
    let used = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted.clone()).await.good();
    cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
    let list = path_of("keys_list", &[&tenant.project()]);
    let shown = async || {
        let page = cloud.get(&tenant.owner, &list).await.good();
        page["items"].as_array().unwrap().iter().map(|key| key["last_used_at"].clone()).collect::<Vec<_>>()
    };
    assert!(works(&cloud, used["secret"].as_str().unwrap()).await);
    assert_eq!(shown().await, [Value::Null, Value::Null], "nothing is written on the way");
    let before = entries(&cloud, &tenant).await.len();
    cloud.control.step().await.unwrap();
    assert_eq!(shown().await, [json!("2026-11-22T09:30:00.000Z"), Value::Null], "to the minute");
    // Again within the minute: known later.
    cloud.world.pass_seconds(30);
    assert!(works(&cloud, used["secret"].as_str().unwrap()).await);
    cloud.control.step().await.unwrap();
    cloud.world.pass_seconds(31);
    cloud.control.step().await.unwrap();
    assert_eq!(shown().await[0], json!("2026-11-22T09:30:00.000Z"), "half past is in the same minute");
    assert!(works(&cloud, used["secret"].as_str().unwrap()).await);
    cloud.world.pass_seconds(61);
    cloud.control.step().await.unwrap();
    assert_eq!(shown().await[0], json!("2026-11-22T09:31:00.000Z"));
    assert_eq!(entries(&cloud, &tenant).await.len(), before, "an observation is no act");
}

#[tokio::test]
async fn a_site_tells_of_keys_that_were_used_there_and_makes_none_up() {
    let cloud = Cloud::open().await;
    let mut lyon = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wanted = json!({ "name": "used", "role": "inference" });
    let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
    let key: KeyId = made["key"]["id"].as_str().unwrap().parse().unwrap();
    let nobodys = KeyId::from_u128(7);
    cloud.world.pass_seconds(3600);
    // A clock that is ahead does not make it used in the future.
    let ahead = cloud.world.now().plus_seconds(600);
    lyon.report.keys_used = [key, nobodys].map(|key| KeyUsed { key, at: ahead }).to_vec();
    lyon.sync(&cloud).await;
    cloud.control.step().await.unwrap();
    let list = path_of("keys_list", &[&tenant.project()]);
    let shown = cloud.get(&tenant.owner, &list).await.good();
    assert_eq!(shown["items"][0]["last_used_at"], json!("2026-11-22T10:30:00.000Z"));
    assert_eq!(cloud.store.key_uses(&[nobodys]).await.unwrap(), [].into());
}

#[tokio::test]
async fn what_an_account_offered_and_whatever_it_could_make_ends_with_it() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wide = json!({ "name": "ops", "role": "admin" });
    let account = made(&cloud, &tenant.owner, &tenant, wide).await;
    let other = made(&cloud, &tenant.owner, &tenant, json!({ "name": "other", "role": "inference" })).await;
    let made_key = key_of(&cloud, &tenant.owner, &account, json!({ "name": "k" })).await.good();
    let acts = made_key["secret"].as_str().unwrap();
    let told = key_of(&cloud, acts, &other, json!({ "name": "mine for ever" })).await;
    assert_eq!((told.status, told.json()["rule"].as_str()), (403, Some("key.no_longer_than_held")), "{}", told.text);

    // A rule that names a key of an account would never meet anything.
    let text = format!(
        "forbid (principal == Holder::\"{}\", action == Action::\"dataset:read\", resource);",
        made_key["key"]["id"].as_str().unwrap()
    );
    let written =
        cloud.call(&tenant.owner, "policy_write", &[&tenant.organisation(), "no-data"], json!({ "text": text })).await;
    assert_eq!((written.status, written.problem().as_str()), (422, "policy_refused"), "{}", written.text);

    let offer = json!({ "email": "eve@example.eu", "role": "viewer" });
    cloud.call(acts, "invitation_create", &[&tenant.organisation()], offer).await.good();
    assert_eq!(cloud.store.invitations_kept_all().await.unwrap().len(), 1);
    let disable = json!({ "enabled": false });
    cloud.call(&tenant.owner, "service_account_write", &[&account], disable).await.good();
    assert!(cloud.store.invitations_kept_all().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_key_offered_hangs_on_its_successor() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let offer = json!({ "email": "eve@example.eu", "role": "viewer" });
    cloud.call(&tenant.owner, "invitation_create", &[&tenant.organisation()], offer).await.good();
    let me = cloud.get(&tenant.owner, "/api/v1/whoami").await.good();
    let id = me["key"]["id"].as_str().unwrap();
    let rotated = cloud.call(&tenant.owner, "key_rotate", &[id], json!({ "overlap_s": 0 })).await.good();
    assert_eq!(cloud.store.invitations_kept_all().await.unwrap().len(), 1, "a rotation takes nothing back");
    let (next, id) = (rotated["secret"].as_str().unwrap(), rotated["key"]["id"].as_str().unwrap());
    cloud.call(next, "key_revoke", &[id], Value::Null).await.good();
    assert!(cloud.store.invitations_kept_all().await.unwrap().is_empty());
}

#[tokio::test]
async fn whoever_may_not_say_what_becomes_of_an_account_makes_and_rotates_no_keys_of_it() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wanted = json!({ "name": "ask", "role": "inference", "project": tenant.project() });
    let account = made(&cloud, &tenant.owner, &tenant, wanted).await;
    let developer = cloud.key(Some(tenant.organisation), Some(tenant.project), Developer).await;
    // A key of one's own of that role is no matter.
    let own = json!({ "name": "own", "role": "inference" });
    cloud.call(&developer, "key_create", &[&tenant.project()], own).await.good();
    let told = key_of(&cloud, &developer, &account, json!({ "name": "mine" })).await;
    assert_eq!(told.problem(), "forbidden");
    let given = key_of(&cloud, &tenant.owner, &account, json!({ "name": "its" })).await.good();
    let id = given["key"]["id"].as_str().unwrap();
    assert_eq!(cloud.call(&developer, "key_rotate", &[id], json!({})).await.problem(), "forbidden");
    cloud.call(&tenant.owner, "key_rotate", &[id], json!({})).await.good();
}

#[tokio::test]
async fn an_account_has_so_many_keys_however_they_are_made() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wanted = json!({ "name": "ci", "role": "developer", "project": tenant.project() });
    let account = made(&cloud, &tenant.owner, &tenant, wanted).await;
    let given = key_of(&cloud, &tenant.owner, &account, json!({ "name": "0" })).await.good();
    for name in 1..100 {
        key_of(&cloud, &tenant.owner, &account, json!({ "name": name.to_string() })).await.good();
    }
    assert_eq!(key_of(&cloud, &tenant.owner, &account, json!({ "name": "more" })).await.problem(), "conflict");
    let id = given["key"]["id"].as_str().unwrap();
    assert_eq!(cloud.call(&tenant.owner, "key_rotate", &[id], json!({})).await.problem(), "conflict");
    let child = json!({ "name": "child", "role": "inference" });
    let told = cloud.call(given["secret"].as_str().unwrap(), "key_create", &[&tenant.project()], child).await;
    assert_eq!(told.problem(), "conflict");
}
