//! People in organisations: what they may do to each other, and that nothing in the log says who they are.

use gregal_core::access::Role::{Admin, Developer, Owner, Viewer};
use gregal_store::Page;
use serde_json::{Value, json};

use crate::world::{Cloud, Tenant};

/// The whole log as text.
async fn log(cloud: &Cloud) -> String {
    let key = cloud.operator.clone();
    let (mut all, mut path) = (String::new(), "/api/v1/audit?limit=500".to_owned());
    loop {
        let page = cloud.get(&key, &path).await.good();
        all.push_str(&page["entries"].to_string());
        all.push_str(&page["items"].to_string());
        let Some(next) = page["next"].as_str() else { return all };
        path = format!("/api/v1/audit?limit=500&after={next}");
    }
}

async fn write(cloud: &Cloud, key: &str, tenant: &Tenant, person: &str, role: &str) -> u16 {
    let wanted = json!({ "role": role });
    cloud.call(key, "member_write", &[&tenant.organisation(), person], wanted).await.status
}

#[tokio::test]
async fn nobody_changes_takes_out_or_invites_above_what_he_may_grant() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let of = tenant.organisation;
    let (owner, owners_key) = cloud.member(of, None, Owner, "owner@example.eu").await;
    let (_, admins_key) = cloud.member(of, None, Admin, "admin@example.eu").await;
    let (dev, devs_key) = cloud.member(of, None, Developer, "dev@example.eu").await;
    let (owner, dev) = (owner.to_string(), dev.to_string());

    // An admin makes a developer a viewer, and neither himself nor others more than that.
    assert_eq!(write(&cloud, &admins_key, &tenant, &dev, "viewer").await, 200);
    assert_eq!(write(&cloud, &owners_key, &tenant, &dev, "developer").await, 200);
    for role in ["admin", "owner", "billing", "auditor"] {
        assert_eq!(write(&cloud, &admins_key, &tenant, &dev, role).await, 403, "{role}");
    }
    assert_eq!(write(&cloud, &admins_key, &tenant, &owner, "viewer").await, 403, "whom he could not have made");
    let taken = cloud.call(&admins_key, "member_remove", &[&tenant.organisation(), &owner], Value::Null).await;
    assert_eq!(taken.status, 403);
    for (key, role, due) in [
        (&admins_key, "admin", 403),
        (&admins_key, "developer", 201),
        (&devs_key, "viewer", 401),
        (&owners_key, "owner", 201),
        (&owners_key, "operator", 403),
    ] {
        let wanted = json!({ "email": "new@example.eu", "role": role });
        let answer = cloud.call(key, "invitation_create", &[&tenant.organisation()], wanted).await;
        assert_eq!(answer.status, due, "{role}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_last_owner_stays() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let of = tenant.organisation;
    let (first, firsts_key) = cloud.member(of, None, Owner, "first@example.eu").await;
    let first = first.to_string();
    let leave = async |key: &str| cloud.call(key, "membership_leave", &[], json!({})).await.status;
    assert_eq!(leave(&firsts_key).await, 409);
    assert_eq!(write(&cloud, &firsts_key, &tenant, &first, "admin").await, 409);
    assert_eq!(cloud.call(&firsts_key, "person_forget", &[], json!({})).await.status, 409);
    let removed = cloud.call(&tenant.owner, "member_remove", &[&tenant.organisation(), &first], Value::Null).await;
    assert_eq!(removed.status, 409, "not by a program's key either");

    let (_, seconds_key) = cloud.member(of, None, Owner, "second@example.eu").await;
    assert_eq!(leave(&firsts_key).await, 200);
    assert_eq!(leave(&seconds_key).await, 409);
}

#[tokio::test]
async fn a_change_of_role_and_an_end_end_the_sessions_at_once() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let (dev, devs_key) = cloud.member(tenant.organisation, None, Developer, "dev@example.eu").await;
    let (eve, eves_key) = cloud.member(tenant.organisation, None, Viewer, "eve@example.eu").await;
    assert_eq!(cloud.get(&devs_key, "/api/v1/whoami").await.status, 200);
    assert_eq!(write(&cloud, &tenant.owner, &tenant, &dev.to_string(), "viewer").await, 200);
    assert_eq!(cloud.get(&devs_key, "/api/v1/whoami").await.status, 401);
    assert_eq!(cloud.get(&eves_key, "/api/v1/whoami").await.status, 200, "somebody else's stays");
    let eve = [&*tenant.organisation(), &*eve.to_string()];
    assert_eq!(cloud.call(&tenant.owner, "member_remove", &eve, Value::Null).await.status, 200);
    assert_eq!(cloud.get(&eves_key, "/api/v1/whoami").await.status, 401);
    assert_eq!(cloud.call(&tenant.owner, "member_remove", &eve, Value::Null).await.problem(), "not_found");
}

#[tokio::test]
async fn the_log_names_people_by_a_salted_name_that_means_nobody_once_they_are_erased() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let (ada, adas_key) = cloud.member(tenant.organisation, None, Admin, "ada@example.eu").await;
    let wanted = json!({ "email": "bob@example.eu", "role": "viewer" });
    let made = cloud.call(&adas_key, "invitation_create", &[&tenant.organisation()], wanted).await.good();
    let text = made["text"].as_str().unwrap().to_owned();
    let me = cloud.get(&adas_key, "/api/v1/person").await.good();
    let log_name = me["log_name"].as_str().unwrap().to_owned();
    assert!(log(&cloud).await.contains(&log_name), "what she did stands under her name there");

    let refused = cloud.call(&tenant.owner, "person_erase", &[&ada.to_string()], Value::Null).await;
    assert_eq!(refused.status, 403);
    let erased = cloud.call(&cloud.operator, "person_erase", &[&ada.to_string()], Value::Null).await.good();
    assert_eq!((&erased["email"], &erased["log_name"]), (&json!(""), &Value::Null));
    assert_eq!(cloud.get(&adas_key, "/api/v1/whoami").await.status, 401);
    let kept = cloud.store.person_get(ada).await.unwrap().unwrap();
    assert!(kept.salt.is_empty() && kept.subject.is_none() && kept.email.is_empty() && kept.name.is_none());
    assert!(cloud.store.keys_of_person(ada).await.unwrap().is_empty(), "no row ties her id to what she did");
    assert!(cloud.store.memberships_of(ada).await.unwrap().is_empty());
    let members = cloud.call(&tenant.owner, "members_list", &[&tenant.organisation()], Value::Null).await.good();
    assert_eq!(members["items"], json!([]));

    let log = log(&cloud).await;
    for trace in ["ada@example.eu", "bob@example.eu", "Ada Lovelace", ada.to_string().as_str(), text.as_str()] {
        assert!(!log.contains(trace), "{trace} stands in the log");
    }
    assert!(log.contains(&log_name), "what was done stays done");
}

#[tokio::test]
async fn an_invitation_is_shown_once_and_keeps_no_address_when_it_is_over() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let wanted = json!({ "email": "Bob@Example.eu", "role": "viewer", "expires_in_s": 60 });
    let of = [&*tenant.organisation()];
    let once = Some("once");
    let made = cloud.call_once(&tenant.owner, "invitation_create", &of, wanted.clone(), once).await.good();
    assert_eq!(made["invitation"]["email"], "bob@example.eu");
    assert!(made["text"].as_str().unwrap().starts_with("gi_"));
    let again = cloud.call_once(&tenant.owner, "invitation_create", &of, wanted, once).await;
    assert!(!again.text.contains("gi_") && !again.text.contains("bob"), "{}", again.text);
    assert_eq!(again.good()["invitation"]["id"], made["invitation"]["id"]);
    let listed = cloud.call(&tenant.owner, "invitations_list", &of, Value::Null).await;
    assert!(listed.text.contains("bob@example.eu") && !listed.text.contains("gi_"), "{}", listed.text);

    // Making the next one forgets to whom expired ones were.
    cloud.world.pass_seconds(61);
    let wanted = json!({ "email": "eve@example.eu", "role": "viewer" });
    let second = cloud.call(&tenant.owner, "invitation_create", &of, wanted).await.good();
    let listed = cloud.call(&tenant.owner, "invitations_list", &of, Value::Null).await;
    assert!(!listed.text.contains("bob@example.eu"), "{}", listed.text);
    let id = second["invitation"]["id"].as_str().unwrap();
    let back = cloud.call(&tenant.owner, "invitation_revoke", &[id], Value::Null).await.good();
    assert_eq!(back["email"], "");
    let kept = cloud.store.invitations_list(tenant.organisation, &Page::default()).await.unwrap();
    assert!(kept.items.iter().all(|invitation| invitation.email.is_empty()));
    for wrong in [
        json!({ "email": "no address", "role": "viewer" }),
        json!({ "email": "a@b.eu", "role": "viewer", "expires_in_s": 0 }),
    ] {
        assert_eq!(cloud.call(&tenant.owner, "invitation_create", &of, wrong).await.problem(), "invalid_request");
    }
}

#[tokio::test]
async fn a_project_of_another_organisation_is_none_to_be_bound_to() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let other = cloud.tenant("Other", 1_000).await;
    let wanted = json!({ "email": "a@example.eu", "role": "viewer", "project": other.project() });
    let answer = cloud.call(&tenant.owner, "invitation_create", &[&tenant.organisation()], wanted).await;
    assert_eq!(answer.problem(), "not_found");
}

#[tokio::test]
async fn a_domain_is_one_organisations_and_its_provider_is_no_address_of_ours() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    let other = cloud.tenant("Other", 1_000).await;
    let write = async |of: &str, name: &str, issuer: &str| {
        let wanted = json!({ "issuer": issuer, "client_id": "gregal" });
        cloud.call(&cloud.operator, "domain_write", &[of, name], wanted).await.status
    };
    let (ours, theirs) = (tenant.organisation(), other.organisation());
    assert_eq!(write(&ours, "Acme.example", "https://id.acme.example").await, 200);
    assert_eq!(write(&theirs, "acme.example", "https://id.other.example").await, 409);
    assert_eq!(write(&ours, "acme.example", "https://id2.acme.example").await, 200);
    for issuer in ["http://id.acme.example", "https://127.0.0.1", "https://169.254.169.254", "https://[::1]", "x"] {
        assert_eq!(write(&ours, "acme2.example", issuer).await, 400, "{issuer}");
    }
    let listed = cloud.call(&tenant.owner, "domains_list", &[&ours], Value::Null).await.good();
    assert_eq!(listed["items"][0]["issuer"], "https://id2.acme.example");
    let gone = cloud.call(&cloud.operator, "domain_remove", &[&ours, "acme.example"], Value::Null).await;
    assert_eq!(gone.status, 200);
    assert_eq!(write(&theirs, "acme.example", "https://id.other.example").await, 200);
}
