//! Joiners and leavers by an organisation's directory (SCIM 2.0), through its door.

use gregal_core::access::Role::{Admin, Owner, Viewer};
use serde_json::{Value, json};

use crate::{
    sign_in::{Browser, world},
    world::{Answer, Cloud, Tenant},
};

/// Makes a credential that is bounded by this role's grants.
async fn credential(cloud: &Cloud, tenant: &Tenant, role: &str) -> String {
    let wanted = json!({ "name": "directory", "role": role });
    let made = cloud.call(&tenant.owner, "scim_credential_create", &[&tenant.organisation()], wanted).await.good();
    made["secret"].as_str().unwrap().to_owned()
}

async fn told(cloud: &Cloud, tenant: &Tenant, key: &str, user: Value) -> Answer {
    cloud.call(key, "scim_user_create", &[&tenant.organisation()], user).await
}

async fn patched(cloud: &Cloud, tenant: &Tenant, key: &str, id: &str, operations: Value) -> Answer {
    let body = json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations });
    cloud.call(key, "scim_user_patch", &[&tenant.organisation(), id], body).await
}

fn id_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.good()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_joiner_signs_in_without_an_invitation_and_a_leaver_is_out_at_once() {
    let (provider, cloud, tenant) = world().await;
    let of = tenant.organisation();
    let domain = json!({ "issuer": provider.issuer(), "client_id": "gregal" });
    cloud.call(&cloud.operator, "domain_write", &[&of, "acme.example"], domain).await.good();
    let directory = credential(&cloud, &tenant, "admin").await;
    let user = json!({
        "userName": "ada", "externalId": "7", "emails": [{ "value": "Ada@Acme.example", "primary": true }],
        "roles": [{ "value": "developer" }], "active": "True",
    });
    let id = id_of(&told(&cloud, &tenant, &directory, user).await);
    let members = async || cloud.call(&tenant.owner, "members_list", &[&of], Value::Null).await.good()["items"].clone();
    assert_eq!(members().await, json!([]), "told of is not yet a member");

    let mut stranger = Browser::new(&cloud);
    stranger.sign_in_at(&provider, "6", "eve@acme.example").await;
    assert_eq!(members().await, json!([]), "somebody else of that domain is nobody here");
    let mut ada = Browser::new(&cloud);
    ada.sign_in_at(&provider, "7", "ada@acme.example").await;
    assert_eq!(members().await[0]["role"], "developer");
    let session = ada.get("/console").await;
    assert_ne!(session.status, 401, "{}", session.text);
    let person = members().await[0]["person"].as_str().unwrap().parse().unwrap();
    let works = async || {
        let keys = cloud.store.keys_of_person(person).await.unwrap();
        keys.iter().any(|key| key.revoked_at.is_none())
    };
    assert!(works().await, "the sign-in made a session");

    let gone = json!([{ "op": "Replace", "path": "active", "value": "False" }]);
    assert_eq!(patched(&cloud, &tenant, &directory, &id, gone).await.good()["active"], false);
    assert_eq!(members().await, json!([]));
    assert!(!works().await, "no session outlives the membership");
    let mut again = Browser::new(&cloud);
    again.sign_in_at(&provider, "7", "ada@acme.example").await;
    assert_eq!(members().await, json!([]), "who is gone does not come back by signing in");
}

#[tokio::test]
async fn a_leaver_who_was_a_member_before_the_directory_came_ends_with_all_they_hold() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let directory = credential(&cloud, &tenant, "owner").await;
    let (_, session) = cloud.member(tenant.organisation, None, Admin, "bob@acme.example").await;
    let wanted = json!({ "email": "eve@example.eu", "role": "viewer" });
    let made = cloud.call(&session, "invitation_create", &[&tenant.organisation()], wanted).await.good();
    let id = id_of(&told(&cloud, &tenant, &directory, json!({ "userName": "bob@acme.example" })).await);
    assert_eq!(cloud.get(&session, "/api/v1/whoami").await.good()["key"]["role"], "admin", "told of is not lowered");
    let answer = cloud.call(&directory, "scim_user_delete", &[&tenant.organisation(), &id], Value::Null).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(cloud.get(&session, "/api/v1/whoami").await.status, 401);
    let kept = cloud.store.invitations_kept(tenant.organisation).await.unwrap();
    assert!(kept.is_empty(), "what they offered ended: {}", made["invitation"]["id"]);
    let again = cloud.call(&directory, "scim_user_read", &[&tenant.organisation(), &id], Value::Null).await;
    assert_eq!(again.status, 404);
}

#[tokio::test]
async fn the_last_owner_stays_whatever_the_directory_says() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let directory = credential(&cloud, &tenant, "owner").await;
    let (_, session) = cloud.member(tenant.organisation, None, Owner, "first@acme.example").await;
    let id = id_of(&told(&cloud, &tenant, &directory, json!({ "userName": "first@acme.example" })).await);
    let gone = json!([{ "op": "replace", "value": { "active": false } }]);
    let lower = json!([{ "op": "add", "path": "roles", "value": [{ "value": "viewer" }] }]);
    assert_eq!(patched(&cloud, &tenant, &directory, &id, gone.clone()).await.status, 409);
    assert_eq!(patched(&cloud, &tenant, &directory, &id, lower).await.status, 409);
    let answer = cloud.call(&directory, "scim_user_delete", &[&tenant.organisation(), &id], Value::Null).await;
    assert_eq!(answer.status, 409);
    assert_eq!(cloud.get(&session, "/api/v1/whoami").await.status, 200);
    cloud.member(tenant.organisation, None, Owner, "second@acme.example").await;
    assert_eq!(patched(&cloud, &tenant, &directory, &id, gone).await.status, 200);
    assert_eq!(cloud.get(&session, "/api/v1/whoami").await.status, 401);
}

#[tokio::test]
async fn no_directory_gives_or_ends_more_than_its_maker_could() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let of = tenant.organisation();
    let (_, admins) = cloud.member(tenant.organisation, None, Admin, "adam@acme.example").await;
    let wanted = json!({ "name": "d", "role": "owner" });
    assert_eq!(cloud.call(&admins, "scim_credential_create", &[&of], wanted).await.status, 403);
    let directory = credential(&cloud, &tenant, "admin").await;
    let user = |role: &str| json!({ "userName": format!("x-{role}"), "roles": [{ "value": role }] });
    for role in ["owner", "admin", "billing", "auditor", "data_protection_officer"] {
        assert_eq!(told(&cloud, &tenant, &directory, user(role)).await.status, 403, "{role}");
    }
    for role in ["operator", "support", "visitor", "emperor"] {
        assert_eq!(told(&cloud, &tenant, &directory, user(role)).await.status, 400, "{role}");
    }
    let id = id_of(&told(&cloud, &tenant, &directory, user("viewer")).await);
    let more = json!([{ "op": "replace", "path": "roles", "value": [{ "value": "owner" }] }]);
    assert_eq!(patched(&cloud, &tenant, &directory, &id, more).await.status, 403);

    // The owner is told of, but not in its hands.
    let (_, owners) = cloud.member(tenant.organisation, None, Owner, "olga@acme.example").await;
    cloud.member(tenant.organisation, None, Owner, "otto@acme.example").await;
    let id = id_of(&told(&cloud, &tenant, &directory, json!({ "userName": "olga@acme.example" })).await);
    let gone = json!([{ "op": "replace", "path": "active", "value": false }]);
    assert_eq!(patched(&cloud, &tenant, &directory, &id, gone).await.status, 403);
    assert_eq!(cloud.get(&owners, "/api/v1/whoami").await.status, 200);
}

#[tokio::test]
async fn the_credential_does_nothing_else_and_no_other_key_opens_the_door() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let other = cloud.tenant("Other", 0).await;
    let directory = credential(&cloud, &tenant, "owner").await;
    let of = tenant.organisation();
    for route in ["members_list", "projects_list", "invitations_list", "audit_list", "scim_credentials_list"] {
        assert_eq!(cloud.call(&directory, route, &[&of], Value::Null).await.status, 403, "{route}");
    }
    assert_eq!(cloud.call(&tenant.owner, "scim_users_list", &[&of], Value::Null).await.status, 401);
    let id = id_of(&told(&cloud, &tenant, &directory, json!({ "userName": "ada" })).await);
    let theirs = credential(&cloud, &other, "owner").await;
    for (key, parameters) in [(&theirs, [of.clone(), id.clone()]), (&theirs, [other.organisation(), id.clone()])] {
        let answer = cloud.call(key, "scim_user_read", &[&parameters[0], &parameters[1]], Value::Null).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/scim+json");
    }
    assert_eq!(told(&cloud, &tenant, &theirs, json!({ "userName": "eve" })).await.status, 404);

    let listed = cloud.call(&tenant.owner, "scim_credentials_list", &[&of], Value::Null).await;
    assert!(!listed.text.contains("gk_"), "{}", listed.text);
    let key = listed.good()["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(cloud.call(&tenant.owner, "key_revoke", &[&key], Value::Null).await.status, 200);
    assert_eq!(cloud.call(&directory, "scim_users_list", &[&of], Value::Null).await.status, 401);
}

#[tokio::test]
async fn lists_are_filtered_and_paged_and_names_are_taken_once() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let directory = credential(&cloud, &tenant, "admin").await;
    for number in 0..5 {
        let user = json!({ "userName": format!("u{number}@acme.example"), "externalId": number.to_string() });
        id_of(&told(&cloud, &tenant, &directory, user).await);
    }
    let taken = told(&cloud, &tenant, &directory, json!({ "userName": "U1@Acme.example" })).await;
    assert_eq!(taken.status, 409);
    assert!(taken.text.contains("\"scimType\":\"uniqueness\""), "{}", taken.text);
    let users = format!("/api/v1/organisations/{}/scim/v2/Users", tenant.organisation());
    let list = async |query: &str| cloud.get(&directory, &format!("{users}?{query}")).await;
    let found = list("filter=userName%20eq%20%22U3%40acme.example%22").await.good();
    assert_eq!((&found["totalResults"], &found["Resources"][0]["externalId"]), (&json!(1), &json!("3")));
    let page = list("startIndex=4&count=10").await.good();
    let shown = page["Resources"].as_array().unwrap().len();
    assert_eq!((&page["totalResults"], &page["startIndex"], shown), (&json!(5), &json!(4), 2));
    assert_eq!(list("count=0").await.good()["Resources"], json!([]));
    // In a query and in a body alike, here and for all types there are.
    let cut = list("startIndex=2&count=1&excludedAttributes=meta,externalId").await.good();
    assert_eq!(cut["Resources"][0]["externalId"], Value::Null);
    let asked = json!({ "startIndex": 2, "count": 1, "excludedAttributes": ["meta", "externalId"] });
    for route in ["scim_search", "scim_users_search"] {
        assert_eq!(
            cloud.call(&directory, route, &[&tenant.organisation()], asked.clone()).await.good(),
            cut,
            "{route}"
        );
    }
    let wrong = list("filter=userName%20co%20%22u%22").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text.contains("invalidFilter"), "{}", wrong.text);
}

#[tokio::test]
async fn no_log_says_whom_a_directory_told_of_and_an_erasure_forgets_them_here_too() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let directory = credential(&cloud, &tenant, "owner").await;
    let (person, _) = cloud.member(tenant.organisation, None, Viewer, "ada@acme.example").await;
    let user = json!({ "userName": "ada@acme.example", "displayName": "Ada Lovelace" });
    let id = id_of(&told(&cloud, &tenant, &directory, user).await);
    let log = cloud.call(&tenant.owner, "audit_list", &[&tenant.organisation()], Value::Null).await;
    assert!(log.text.contains(&id) && log.text.contains("scim:provision"), "{}", log.text);
    assert!(!log.text.to_lowercase().contains("ada"), "{}", log.text);
    cloud.call(&cloud.operator, "person_erase", &[&person.to_string()], Value::Null).await.good();
    assert!(cloud.store.scim_users_of(tenant.organisation).await.unwrap().is_empty());
}
