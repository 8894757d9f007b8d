//! Keys narrowed to actions, models, projects, sites and networks; keys that give their place to others.

use std::net::SocketAddr;

use axum::{body::Body, extract::ConnectInfo, http::Request};
use gregal_control::AccessOptions;
use gregal_core::{id::KeyId, scope::Scope, world::World as _};
use serde_json::{Value, json};

use crate::{
    endpoint,
    world::{Answer, Cloud, Tenant, path_of, training},
};

/// Makes a key; a good answer's secret.
async fn made(cloud: &Cloud, maker: &str, tenant: &Tenant, wanted: Value) -> String {
    let made = cloud.call(maker, "key_create", &[&tenant.project()], wanted).await.good();
    made["secret"].as_str().unwrap().to_owned()
}

/// The refusal and the rule it names.
fn rule(answer: &Answer) -> (u16, String) {
    answer.problem();
    (answer.status, answer.json()["rule"].as_str().unwrap_or_default().to_owned())
}

fn refused(part: &str) -> (u16, String) {
    (403, format!("key.scope.{part}"))
}

/// What the organisation's audit log says.
async fn entries(cloud: &Cloud, tenant: &Tenant) -> Vec<Value> {
    let page = cloud.get(&tenant.owner, &path_of("audit_list", &[&tenant.organisation()])).await.good();
    let bodies = page["items"].as_array().unwrap().iter();
    bodies.map(|entry| serde_json::from_str(entry["body"].as_str().unwrap()).unwrap()).collect()
}

/// Asks `whoami` as from this address, through these proxies.
async fn asked_from(cloud: &Cloud, key: &str, direct: Option<&str>, forwarded: &[&str]) -> Answer {
    let mut request = Request::get("/api/v1/whoami").header("authorization", format!("Bearer {key}"));
    for line in forwarded {
        request = request.header("x-forwarded-for", *line);
    }
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(direct) = direct {
        let address: SocketAddr = format!("{direct}:4711").parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(address));
    }
    cloud.send(request).await
}

#[tokio::test]
async fn a_key_does_only_what_its_scope_leaves_in_and_the_refusal_names_the_part() {
    let cloud = Cloud::open().await;
    let mut lyon = cloud.site("lyon", "FR").await;
    cloud.site("paris", "FR").await;
    let tenant = cloud.tenant("Acme", 10_000).await;
    let project = tenant.project();
    let (owner, here) = (&tenant.owner, &[project.as_str()][..]);
    let model = endpoint::model(&cloud, &tenant, &mut lyon).await;
    let chat = endpoint::serving(&cloud, &tenant, &mut lyon, &model).await.to_string();
    let dataset = cloud.dataset(&tenant, &mut lyon, "more.jsonl").await;
    let job = cloud.job(&tenant, &dataset, "first").await.to_string();
    let narrowed = async |scope: Value| {
        made(&cloud, owner, &tenant, json!({ "name": "n", "role": "developer", "scope": scope })).await
    };

    let reader = narrowed(json!({ "actions": ["job:read", "project:read"] })).await;
    assert_eq!(cloud.call(&reader, "job_read", &[&job], Value::Null).await.status, 200);
    assert_eq!(rule(&cloud.call(&reader, "job_cancel", &[&job], json!({})).await), refused("actions"));
    assert_eq!(rule(&cloud.call(&reader, "job_create", here, training(&dataset, "no")).await), refused("actions"));
    let me = cloud.call(&reader, "whoami", &[], Value::Null).await.good();
    assert_eq!(me["actions"], json!(["project:read", "job:read"]));
    assert_eq!(me["key"]["scope"], json!({ "actions": ["project:read", "job:read"] }));
    // What is somebody else's stays unseen, whatever a scope says.
    let stranger = cloud.tenant("Other", 0).await.owner;
    let wide = json!({ "name": "n", "role": "developer", "scope": { "actions": ["job:read"] } });
    let theirs = cloud.call(&stranger, "key_create", here, wide).await;
    assert_eq!(theirs.status, 404);

    let at_paris = narrowed(json!({ "sites": ["paris"] })).await;
    assert_eq!(cloud.call(&at_paris, "project_read", here, Value::Null).await.status, 200);
    for (route, parameters, body) in [
        ("dataset_read", [dataset.as_str()], Value::Null),
        ("datasets_list", [project.as_str()], Value::Null),
        ("endpoint_read", [chat.as_str()], Value::Null),
        ("dataset_create", [project.as_str()], json!({ "name": "a", "site": "lyon" })),
        // Nobody named a site: it could be any.
        ("dataset_create", [project.as_str()], json!({ "name": "a" })),
        ("grant_create", [project.as_str()], json!({ "purpose": "dataset_read", "object": dataset })),
    ] {
        let told = cloud.call(&at_paris, route, &parameters, body).await;
        assert_eq!(rule(&told), refused("sites"), "{route}");
    }
    let wanted = json!({ "name": "a", "site": "paris" });
    cloud.call(&at_paris, "dataset_create", here, wanted).await.good();

    let chats = narrowed(json!({ "models": ["chat"] })).await;
    cloud.call(&chats, "endpoint_read", &[&chat], Value::Null).await.good();
    cloud.call(&chats, "grant_create", here, json!({ "purpose": "infer", "object": chat })).await.good();
    let others = narrowed(json!({ "models": ["other"] })).await;
    assert_eq!(rule(&cloud.call(&others, "endpoint_read", &[&chat], Value::Null).await), refused("models"));
    let wanted = json!({ "purpose": "infer", "object": chat });
    assert_eq!(rule(&cloud.call(&others, "grant_create", here, wanted).await), refused("models"));
    assert_eq!(rule(&cloud.call(&chats, "dataset_read", &[&dataset], Value::Null).await), refused("models"));

    let wanted = json!({ "name": "second" });
    let second = cloud.call(owner, "project_create", &[&tenant.organisation()], wanted).await.good();
    let second = second["id"].as_str().unwrap();
    // A key of the whole organisation, narrowed to one of its projects, reaches what a key bound to it does.
    let scope = Scope { projects: Some([tenant.project].into()), ..Scope::default() };
    let both = cloud.key_of(tenant.organisation, gregal_core::access::Role::Owner, scope).await;
    cloud.call(&both, "project_read", here, Value::Null).await.good();
    assert_eq!(rule(&cloud.call(&both, "project_read", &[second], Value::Null).await), (404, String::new()));
    assert_eq!(cloud.call(&both, "organisation_read", &[&tenant.organisation()], Value::Null).await.status, 404);

    let denied = entries(&cloud, &tenant).await;
    let by = |part: &str| {
        let rule = format!("key.scope.{part}");
        denied.iter().any(|entry| entry["policy"] == json!(rule) && entry["result"] == "denied")
    };
    assert!(by("actions") && by("sites") && by("models"), "{denied:?}");
    // What it reaches not at all is written as if it were not there.
    let unfound = format!("there is no project `{second}`");
    assert!(
        denied.iter().any(|entry| entry["reason"] == json!(unfound) && entry["policy"] == Value::Null),
        "{denied:?}"
    );
}

#[tokio::test]
async fn a_key_makes_no_key_that_is_wider_or_longer_than_itself() {
    let cloud = Cloud::open().await;
    cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 0).await;
    let here = tenant.project();
    let scope = json!({
        "actions": ["key:create", "key:rotate", "key:revoke", "endpoint:infer"], "models": ["chat", "code"],
        "sites": ["lyon"], "projects": [here],
    });
    let wanted = json!({ "name": "maker", "role": "developer", "scope": scope, "expires_in_s": 3600 });
    let maker = made(&cloud, &tenant.owner, &tenant, wanted).await;
    let make = async |scope: Value, expires_in_s: Option<u32>| {
        let wanted = json!({ "name": "k", "role": "inference", "scope": scope, "expires_in_s": expires_in_s });
        cloud.call(&maker, "key_create", &[&here], wanted).await
    };
    // What is left open is narrowed as the maker is, its end too.
    let plain = make(json!({}), None).await.good();
    assert_eq!(plain["key"]["scope"]["models"], json!(["chat", "code"]));
    assert_eq!(plain["key"]["scope"]["sites"].as_array().unwrap().len(), 1);
    assert!(plain["key"]["expires_at"].as_str().unwrap().starts_with("2026-11-22T10:30:00"), "{plain}");
    let less = make(json!({ "models": ["chat"], "networks": ["10.0.0.0/8"] }), Some(60)).await.good();
    assert_eq!(less["key"]["scope"]["models"], json!(["chat"]));
    for (part, scope) in [
        ("models", json!({ "models": ["chat", "secret"] })),
        ("actions", json!({ "actions": ["endpoint:infer", "job:create"] })),
        ("projects", json!({ "projects": ["prj_00000000000000000000000009"] })),
    ] {
        assert_eq!(rule(&make(scope, None).await), refused(part));
    }
    assert_eq!(rule(&make(json!({}), Some(3601)).await), (403, "key.no_longer_than_held".into()));
    // Nor does it take away, or give new life to, what is wider.
    let wanted = json!({ "name": "wide", "role": "inference" });
    let wide = cloud.call(&tenant.owner, "key_create", &[&here], wanted).await.good();
    let id = wide["key"]["id"].as_str().unwrap();
    assert_eq!(rule(&cloud.call(&maker, "key_revoke", &[id], Value::Null).await), refused("actions"));
    assert_eq!(rule(&cloud.call(&maker, "key_rotate", &[id], json!({})).await), refused("actions"));
    let own = less["key"]["id"].as_str().unwrap();
    cloud.call(&maker, "key_revoke", &[own], Value::Null).await.good();
    for wrong in [
        json!({ "actions": [] }),
        json!({ "actions": ["job:fly"] }),
        json!({ "networks": ["10.0.0.1/8"] }),
        json!({ "networks": ["everywhere"] }),
        json!({ "models": [""] }),
        json!({ "surprise": [] }),
        json!({ "models": (0..33).map(|n| n.to_string()).collect::<Vec<_>>() }),
    ] {
        assert_eq!(make(wrong.clone(), None).await.problem(), "invalid_request", "{wrong}");
    }
}

#[tokio::test]
async fn a_key_for_networks_works_from_them_and_only_a_trusted_proxy_may_say_where_one_is() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let networks = json!({ "networks": ["10.0.0.0/8", "2001:db8::/32"] });
    let wanted = json!({ "name": "office", "role": "viewer", "scope": networks });
    let office = made(&cloud, &tenant.owner, &tenant, wanted).await;
    let from = async |direct, forwarded: &[&str]| asked_from(&cloud, &office, direct, forwarded).await;
    assert_eq!(from(Some("10.1.2.3"), &[]).await.status, 200);
    assert_eq!(from(Some("[2001:db8::7]"), &[]).await.status, 200);
    assert_eq!(rule(&from(Some("192.0.2.1"), &[]).await), refused("networks"));
    assert_eq!(rule(&from(Some("192.0.2.1"), &["10.1.2.3"]).await), refused("networks"), "nobody trusts the header");
    assert_eq!(rule(&from(None, &["10.1.2.3"]).await), refused("networks"), "no address is no network");
    assert_eq!(asked_from(&cloud, &tenant.owner, None, &[]).await.status, 200, "other keys work from anywhere");
    let audit = entries(&cloud, &tenant).await;
    let refusals = audit.iter().filter(|entry| entry["policy"] == "key.scope.networks").count();
    assert_eq!(refusals, 1, "said once a while, however often: {audit:?}");

    let trusted = AccessOptions { trusted_proxies: vec!["192.0.2.0/24".parse().unwrap()], ..AccessOptions::default() };
    let cloud = cloud.restarted_with(trusted).await;
    let from = async |direct, forwarded: &[&str]| asked_from(&cloud, &office, direct, forwarded).await;
    assert_eq!(from(Some("192.0.2.1"), &["203.0.113.9, 10.1.2.3"]).await.status, 200);
    assert_eq!(from(Some("192.0.2.1"), &["10.1.2.3", "192.0.2.2"]).await.status, 200, "through two of them");
    assert_eq!(rule(&from(Some("192.0.2.1"), &["10.1.2.3, 203.0.113.9"]).await), refused("networks"));
    assert_eq!(rule(&from(Some("192.0.2.1"), &[]).await), refused("networks"));
    assert_eq!(rule(&from(Some("198.51.100.1"), &["10.1.2.3"]).await), refused("networks"));
}

#[tokio::test]
async fn the_console_asks_from_where_the_browser_is() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let wanted = json!({ "name": "office", "role": "viewer", "scope": { "networks": ["10.0.0.0/8"] } });
    let office = made(&cloud, &tenant.owner, &tenant, wanted).await;
    let sign_in = async |direct: &str| {
        let request = Request::post("/console/sign-in")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", "http://127.0.0.1:7480");
        let mut request = request.body(Body::from(format!("key={office}"))).unwrap();
        let address: SocketAddr = format!("{direct}:4711").parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(address));
        cloud.send(request).await.status
    };
    assert_eq!(sign_in("10.1.2.3").await, 303);
    assert_eq!(sign_in("192.0.2.1").await, 403);
}

#[tokio::test]
async fn a_rotated_key_works_until_the_overlap_ends_and_its_successor_after_that() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 10_000).await;
    let model = endpoint::model(&cloud, &tenant, &mut site).await;
    endpoint::serving(&cloud, &tenant, &mut site, &model).await;
    let here = tenant.project();
    let scope = json!({ "models": ["chat"] });
    let wanted = json!({ "name": "ci", "role": "inference", "scope": scope });
    let old = cloud.call(&tenant.owner, "key_create", &[&here], wanted).await.good();
    let (old_id, old) = (old["key"]["id"].as_str().unwrap(), old["secret"].as_str().unwrap());
    let wanted = json!({ "overlap_s": 600 });
    let new = cloud.call(&tenant.owner, "key_rotate", &[old_id], wanted).await.good();
    let (new_id, new_secret) = (new["key"]["id"].as_str().unwrap(), new["secret"].as_str().unwrap());
    assert_eq!(new["key"]["replaces"], json!(old_id));
    assert_eq!(new["key"]["scope"], json!({ "models": ["chat"] }), "no wider than before");
    assert_eq!((&new["key"]["role"], &new["key"]["name"]), (&json!("inference"), &json!("ci")));
    let works = async |secret: &str| cloud.call(secret, "whoami", &[], Value::Null).await.status;
    assert_eq!((works(old).await, works(new_secret).await), (200, 200));

    // At sites too: both are told, and when the old one ends.
    site.sync(&cloud).await;
    let told = |id: &str| {
        let id: KeyId = id.parse().unwrap();
        site.intent().keys.iter().find(|key| key.key == id).unwrap().clone()
    };
    let ends = told(old_id).expires_at.unwrap().millis_since(cloud.world.now());
    assert!((599_000..=600_000).contains(&ends), "{ends}");
    assert_eq!(told(new_id).expires_at, None);
    assert_eq!(told(new_id).scope.models, Some(["chat".to_owned()].into()));

    let again = cloud.call(&tenant.owner, "key_rotate", &[old_id], json!({})).await;
    assert_eq!(again.problem(), "conflict");
    assert!(again.text.contains(new_id), "{}", again.text);
    cloud.world.pass_seconds(599);
    assert_eq!((works(old).await, works(new_secret).await), (200, 200));
    cloud.world.pass_seconds(1);
    assert_eq!((works(old).await, works(new_secret).await), (401, 200));
    site.sync(&cloud).await;
    assert!(site.intent().keys.iter().all(|key| key.key.to_string() != old_id));

    // A leaked key ends at once.
    let last = cloud.call(&tenant.owner, "key_rotate", &[new_id], json!({ "overlap_s": 0 })).await.good();
    assert_eq!((works(new_secret).await, works(last["secret"].as_str().unwrap()).await), (401, 200));
    let audit = entries(&cloud, &tenant).await;
    let rotations: Vec<&Value> = audit.iter().filter(|entry| entry["action"] == "key:rotate").collect();
    assert_eq!(rotations.len(), 2);
    assert!(rotations.iter().any(|entry| entry["facts"]["replaced_by"] == json!(new_id)), "{rotations:?}");
    for secret in [old, new_secret] {
        assert!(!format!("{audit:?}").contains(secret));
    }
}

#[tokio::test]
async fn a_revoked_key_wakes_its_sites_at_once_and_its_grants_end_there_too() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let tenant = cloud.tenant("Acme", 10_000).await;
    let model = endpoint::model(&cloud, &tenant, &mut site).await;
    endpoint::serving(&cloud, &tenant, &mut site, &model).await;
    let wanted = json!({ "name": "leaked", "role": "developer" });
    let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
    let id: KeyId = made["key"]["id"].as_str().unwrap().parse().unwrap();
    let secret = made["secret"].as_str().unwrap();
    site.sync(&cloud).await;
    assert!(site.intent().keys.iter().any(|key| key.key == id));
    // The site waits for news longer than any test; only the revocation wakes it.
    site.report.wait_ms = 25_000;
    let (revoked, ()) = tokio::join!(
        async {
            // The key's own request is on its way when it is revoked: nothing of it may revive the key.
            let own = cloud.call(secret, "project_read", &[&tenant.project()], Value::Null).await;
            assert_eq!(own.status, 200);
            cloud.call(&tenant.owner, "key_revoke", &[&id.to_string()], Value::Null).await
        },
        async {
            site.sync(&cloud).await;
        },
    );
    assert_eq!(revoked.status, 200);
    assert!(site.intent().keys.iter().all(|key| key.key != id), "the next word the site hears is without it");
    assert_eq!(site.intent().keys_revoked, [id]);
    for _ in 0..3 {
        assert_eq!(cloud.call(secret, "whoami", &[], Value::Null).await.status, 401);
    }
    site.report.wait_ms = 0;
    site.sync(&cloud).await;
    assert!(site.intent().keys.iter().all(|key| key.key != id));
    // Once no grant of it can be in time, sites are told of it no more.
    cloud.world.pass_seconds(961);
    site.sync(&cloud).await;
    assert!(site.intent().keys_revoked.is_empty());
}

#[tokio::test]
async fn rotating_gives_nobody_a_role_or_a_life_he_could_not_hand_out() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let here = tenant.project();
    let wanted = json!({ "name": "d", "role": "developer", "expires_in_s": 3600 });
    let developer = cloud.call(&tenant.owner, "key_create", &[&here], wanted).await.good();
    let (id, secret) = (developer["key"]["id"].as_str().unwrap(), developer["secret"].as_str().unwrap());
    let own = cloud.call(secret, "key_rotate", &[id], json!({})).await;
    assert_eq!(own.problem(), "forbidden", "a developer hands out `inference`, not his own role");
    let wanted = json!({ "name": "i", "role": "inference" });
    let endless = cloud.call(&tenant.owner, "key_create", &[&here], wanted).await.good();
    let endless = endless["key"]["id"].as_str().unwrap();
    // The successor that a short key makes ends with that short key.
    let new = cloud.call(secret, "key_rotate", &[endless], json!({})).await.good();
    assert_eq!(new["key"]["expires_at"], developer["key"]["expires_at"]);
    // One of a longer life does too: nobody gets a year for an hour.
    let wanted = json!({ "name": "i", "role": "inference", "expires_in_s": 86_400 });
    let day = cloud.call(&tenant.owner, "key_create", &[&here], wanted).await.good();
    let new = cloud.call(secret, "key_rotate", &[day["key"]["id"].as_str().unwrap()], json!({})).await.good();
    assert_eq!(new["key"]["expires_at"], developer["key"]["expires_at"]);
    // The one of a short key ends when that would have, unless whoever may make such a key says otherwise.
    let next = cloud.call(&tenant.owner, "key_rotate", &[id], json!({})).await.good();
    assert_eq!(next["key"]["expires_at"], developer["key"]["expires_at"]);
    let id = next["key"]["id"].as_str().unwrap();
    let longer = cloud.call(&tenant.owner, "key_rotate", &[id], json!({ "expires_in_s": 86_400 })).await.good();
    assert!(longer["key"]["expires_at"].as_str().unwrap().starts_with("2026-11-23T09:30:00"), "{longer}");
    let too_long = cloud.call(&tenant.owner, "key_rotate", &[id], json!({ "overlap_s": 2_592_001 })).await;
    assert_eq!(too_long.problem(), "invalid_request");
}

#[tokio::test]
async fn a_narrowed_or_ending_key_gives_no_membership_that_is_more_than_itself() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let here = tenant.organisation();
    let invite = async |key: &str, project: Option<String>| {
        let wanted = json!({ "email": "eve@example.eu", "role": "owner", "project": project });
        cloud.call(key, "invitation_create", &[&here], wanted).await
    };
    let role = gregal_core::access::Role::Owner;
    let actions = Scope { actions: Some([gregal_core::access::Action::InvitationCreate].into()), ..Scope::default() };
    let narrowed = cloud.key_of(tenant.organisation, role, actions).await;
    assert_eq!(rule(&invite(&narrowed, None).await), (403, "key.scope.actions".into()));
    let projects = Scope { projects: Some([tenant.project].into()), ..Scope::default() };
    let of_project = cloud.key_of(tenant.organisation, role, projects).await;
    assert_eq!(invite(&of_project, None).await.status, 404, "the organisation is out of its reach");
    let short = cloud.key_of(tenant.organisation, role, Scope::default()).await;
    let digest = gregal_core::key::digest_of(&short);
    let key = cloud.store.key_by_digest(&digest).await.unwrap().unwrap();
    let (ends, version) = (Some(key.created_at.plus_seconds(60)), key.version + 1);
    let tx = cloud.store.begin().await.unwrap();
    tx.key_update(&gregal_core::key::Key { expires_at: ends, version, ..key }).await.unwrap();
    tx.commit(&[crate::world::entry(cloud.world.now(), "test:key")]).await.unwrap();
    assert_eq!(rule(&invite(&short, None).await), (403, "key.no_longer_than_held".into()));
    invite(&tenant.owner, None).await.good();
}

#[tokio::test]
async fn a_key_that_a_policy_names_is_not_rotated_out_of_it() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let wanted = json!({ "name": "i", "role": "inference" });
    let made = cloud.call(&tenant.owner, "key_create", &[&tenant.project()], wanted).await.good();
    let id = made["key"]["id"].as_str().unwrap();
    let text = format!(r#"forbid (principal == Holder::"{id}", action == Action::"endpoint:infer", resource);"#);
    let parameters = [tenant.organisation(), "not-this-one".to_owned()];
    let parameters = [parameters[0].as_str(), parameters[1].as_str()];
    cloud.call(&tenant.owner, "policy_write", &parameters, json!({ "text": text })).await.good();
    assert_eq!(cloud.call(&tenant.owner, "key_rotate", &[id], json!({})).await.problem(), "conflict");
}

#[tokio::test]
async fn an_operators_key_is_not_narrowed_by_what_would_narrow_nothing() {
    let cloud = Cloud::open().await;
    cloud.site("lyon", "FR").await;
    let made = async |scope: Value| {
        let wanted = json!({ "name": "o", "role": "site_operator", "scope": scope });
        cloud.call(&cloud.operator, "operator_key_create", &[], wanted).await
    };
    for scope in [json!({ "sites": ["lyon"] }), json!({ "models": ["chat"] })] {
        let told = made(scope.clone()).await;
        assert_eq!((told.status, told.problem().as_str()), (400, "invalid_request"), "{scope}");
    }
    assert_eq!(made(json!({ "actions": ["catalogue:read"], "networks": ["192.0.2.0/24"] })).await.status, 201);
}
