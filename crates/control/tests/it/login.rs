//! A command line that a person lets act for them: by device code and by loopback redirect, with a refresh credential that
//! works once.

use serde_json::{Value, json};

use crate::{
    sign_in::{Browser, Provider, joined, world},
    world::{Answer, Cloud},
};

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const STATE: &str = "0123456789abcdef0123456789abcdef";
/// A verifier and its challenge: RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT: &str = "http://127.0.0.1:49152/callback";

async fn token(cloud: &Cloud, fields: &[(&str, &str)]) -> Answer {
    let mut all = vec![("client_id", "gregal-cli")];
    all.extend(fields);
    Browser::new(cloud).post("/api/v1/token", &all).await
}

async fn refused(cloud: &Cloud, fields: &[(&str, &str)], error: &str) {
    let answer = token(cloud, fields).await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(error)), "{}", answer.text);
}

async fn device(cloud: &Cloud) -> Value {
    let fields = [("client_id", "gregal-cli"), ("client_name", "laptop <b>of</b> Ada")];
    Browser::new(cloud).post("/api/v1/device", &fields).await.good()
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field].as_str().unwrap()
}

async fn works(cloud: &Cloud, key: &str) -> bool {
    cloud.get(key, "/api/v1/whoami").await.status == 200
}

/// Signs a command line in by a device code.
async fn logged_in(cloud: &Cloud, browser: &mut Browser<'_>, organisation: &str) -> Value {
    let asked = device(cloud).await;
    let csrf = browser.csrf(&format!("/console/device?code={}", text(&asked, "user_code"))).await;
    let code = text(&asked, "user_code");
    let fields = [("csrf", csrf.as_str()), ("code", code), ("organisation", organisation), ("word", "allow")];
    let said = browser.post("/console/device", &fields).await;
    assert!(said.text.contains("Allowed."), "{}", said.text);
    token(cloud, &[("grant_type", DEVICE), ("device_code", text(&asked, "device_code"))]).await.good()
}

#[tokio::test]
async fn a_device_waits_for_a_persons_word_and_gets_what_they_may() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let asked = device(&cloud).await;
    let grant = [("grant_type", DEVICE), ("device_code", text(&asked, "device_code"))];
    refused(&cloud, &grant, "authorization_pending").await;
    refused(&cloud, &grant, "slow_down").await;
    refused(&cloud, &[("grant_type", DEVICE), ("device_code", "gd_other")], "expired_token").await;

    let complete = text(&asked, "verification_uri_complete").strip_prefix("http://127.0.0.1:7480").unwrap().to_owned();
    let page = ada.get(&complete).await.text;
    assert!(page.contains("laptop bofb Ada"), "a stranger's name is plain letters: {page}");
    assert!(page.contains(text(&asked, "user_code")), "{page}");
    // Not by a link, not without the session's token, not for an organisation she is not in.
    let (csrf, organisation) = (ada.csrf(&complete).await, tenant.organisation());
    let code = text(&asked, "user_code");
    let fields = |csrf, of| [("csrf", csrf), ("code", code), ("organisation", of), ("word", "allow")];
    assert_eq!(ada.post("/console/device", &fields("x", &organisation)).await.status, 403);
    let other = cloud.tenant("Other", 1_000).await.organisation();
    assert_eq!(ada.post("/console/device", &fields(&csrf, &other)).await.status, 400);
    cloud.world.pass_seconds(60);
    refused(&cloud, &grant, "authorization_pending").await;
    assert_eq!(ada.post("/console/device", &fields(&csrf, &organisation)).await.status, 200);

    let given = token(&cloud, &grant).await.good();
    assert_eq!((&given["token_type"], &given["expires_in"]), (&json!("Bearer"), &json!(900)));
    let me = cloud.get(text(&given, "access_token"), "/api/v1/whoami").await.good();
    assert_eq!((&me["key"]["role"], &me["key"]["organisation"]), (&json!("developer"), &json!(organisation)));
    refused(&cloud, &grant, "expired_token").await;
    cloud.world.pass_seconds(900);
    assert!(!works(&cloud, text(&given, "access_token")).await);

    let asked = device(&cloud).await;
    let csrf = ada.csrf("/console/welcome").await;
    let fields = [("csrf", csrf.as_str()), ("code", text(&asked, "user_code")), ("word", "refuse")];
    assert!(ada.post("/console/device", &fields).await.text.contains("Refused."));
    refused(&cloud, &[("grant_type", DEVICE), ("device_code", text(&asked, "device_code"))], "access_denied").await;
}

#[tokio::test]
async fn a_refresh_credential_works_once_and_its_replay_ends_the_whole_family() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let first = logged_in(&cloud, &mut ada, &tenant.organisation()).await;
    let another = logged_in(&cloud, &mut ada, &tenant.organisation()).await;
    let refresh = async |given: &Value| {
        token(&cloud, &[("grant_type", "refresh_token"), ("refresh_token", text(given, "refresh_token"))]).await
    };
    let second = refresh(&first).await.good();
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert!(works(&cloud, text(&second, "access_token")).await);
    assert!(!works(&cloud, text(&first, "access_token")).await, "the key of before ends");
    let third = refresh(&second).await.good();

    // Somebody has a copy of the first: whoever it is, nobody goes on by this family.
    assert_eq!(refresh(&first).await.json()["error"], "invalid_grant");
    assert!(!works(&cloud, text(&third, "access_token")).await);
    assert_eq!(refresh(&third).await.json()["error"], "invalid_grant");
    assert!(works(&cloud, text(&another, "access_token")).await, "another sign-in of hers is another family");
    let log = cloud.call(&tenant.owner, "audit_list", &[&tenant.organisation()], Value::Null).await.text;
    assert!(log.contains("session:replay") && !log.contains("gr_") && !log.contains("ada@example.eu"), "{log}");
    // A credential that was made up says nothing about any family.
    let made_up = format!("gr_{}", "0".repeat(128));
    refused(&cloud, &[("grant_type", "refresh_token"), ("refresh_token", &made_up)], "invalid_grant").await;
    assert!(works(&cloud, text(&another, "access_token")).await);

    // Signing out ends it; so does a change of role.
    let mut browser = Browser::new(&cloud);
    browser.post("/api/v1/token/revoke", &[("token", text(&another, "refresh_token"))]).await.good();
    assert!(!works(&cloud, text(&another, "access_token")).await);
    assert_eq!(refresh(&another).await.json()["error"], "invalid_grant");
    let last = logged_in(&cloud, &mut ada, &tenant.organisation()).await;
    let person = cloud.store.members_of(tenant.organisation).await.unwrap()[0].person.to_string();
    let wanted = json!({ "role": "viewer" });
    cloud.call(&tenant.owner, "member_write", &[&tenant.organisation(), &person], wanted).await.good();
    assert!(!works(&cloud, text(&last, "access_token")).await);
    assert_eq!(refresh(&last).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_command_line_is_allowed_by_whoever_signed_in_a_moment_ago() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let asked = device(&cloud).await;
    let (code, organisation) = (text(&asked, "user_code"), tenant.organisation());
    let at = format!("/console/device?code={code}");
    let csrf = ada.csrf(&at).await;
    let allow = format!(
        "/console/cli?client_id=gregal-cli&redirect_uri={REDIRECT}&state={STATE}&code_challenge={CHALLENGE}&code_challenge_method=S256"
    );
    let grant = [
        ("csrf", csrf.as_str()),
        ("organisation", organisation.as_str()),
        ("redirect_uri", REDIRECT),
        ("state", STATE),
        ("code_challenge", CHALLENGE),
    ];
    cloud.world.pass_seconds(599);
    assert_eq!(ada.get(&allow).await.status, 200);
    cloud.world.pass_seconds(1);
    assert_eq!(ada.get("/console").await.status, 200, "she is signed in");
    let word = [("csrf", csrf.as_str()), ("code", code), ("organisation", organisation.as_str()), ("word", "allow")];
    for told in [
        ada.get(&at).await,
        ada.get(&allow).await,
        ada.post("/console/device", &word).await,
        ada.post("/console/cli", &grant).await,
    ] {
        assert_eq!(told.status, 303, "{}", told.text);
        let to = told.headers["location"].to_str().unwrap().to_owned();
        assert!(to.starts_with("/console/sign-in?next=%2Fconsole%2F"), "{to}");
        assert_eq!(ada.get(&to).await.status, 200, "there she can sign in again");
    }
    let before = cloud.store.keys_of_person(cloud.store.members_of(tenant.organisation).await.unwrap()[0].person);
    let before = before.await.unwrap();
    ada.sign_in(&provider, "7", "ada@example.eu").await;
    assert_eq!(ada.get(&allow).await.status, 200);
    let id = before[0].id;
    assert!(cloud.store.key_get(id).await.unwrap().unwrap().revoked_at.is_some(), "the sign-in before ended");
}

#[tokio::test]
async fn a_refresh_credential_that_nobody_uses_for_a_week_is_worth_nothing() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let given = logged_in(&cloud, &mut ada, &tenant.organisation()).await;
    cloud.world.pass_seconds(7 * 24 * 3600);
    let fields = [("grant_type", "refresh_token"), ("refresh_token", text(&given, "refresh_token"))];
    refused(&cloud, &fields, "invalid_grant").await;
}

fn ask(redirect: &str, challenge: &str) -> String {
    let redirect = redirect.replace(':', "%3A").replace('/', "%2F");
    format!(
        "/console/cli?response_type=code&client_id=gregal-cli&redirect_uri={redirect}&state={STATE}\
         &code_challenge={challenge}&code_challenge_method=S256"
    )
}

/// Allows a command line at an address; answers the code it is sent.
async fn allowed(browser: &mut Browser<'_>, organisation: &str) -> String {
    let csrf = browser.csrf(&ask(REDIRECT, CHALLENGE)).await;
    let fields = [
        ("csrf", csrf.as_str()),
        ("organisation", organisation),
        ("redirect_uri", REDIRECT),
        ("state", STATE),
        ("code_challenge", CHALLENGE),
    ];
    let page = browser.post("/console/cli", &fields).await.text;
    let page = page.replace("&#38;", "&").replace("&amp;", "&");
    let sent = page.split(&format!("href=\"{REDIRECT}?code=")).nth(1).expect("a way back");
    let (code, rest) = sent.split_once('&').unwrap();
    assert!(rest.starts_with(&format!("state={STATE}\"")), "{rest}");
    code.to_owned()
}

#[tokio::test]
async fn a_loopback_code_is_redeemed_once_by_whoever_asked_for_it() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let redeem = async |code: &str, verifier: &str, redirect: &str| {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect),
        ];
        token(&cloud, &fields).await
    };
    let organisation = tenant.organisation();
    let code = allowed(&mut ada, &organisation).await;
    let given = redeem(&code, VERIFIER, REDIRECT).await.good();
    assert!(works(&cloud, text(&given, "access_token")).await);
    assert_eq!(redeem(&code, VERIFIER, REDIRECT).await.json()["error"], "invalid_grant", "once");
    let code = allowed(&mut ada, &organisation).await;
    assert_eq!(redeem(&code, "another", REDIRECT).await.json()["error"], "invalid_grant");
    let code = allowed(&mut ada, &organisation).await;
    assert_eq!(redeem(&code, VERIFIER, "http://127.0.0.1:1/callback").await.json()["error"], "invalid_grant");
    let code = allowed(&mut ada, &organisation).await;
    cloud.world.pass_seconds(61);
    assert_eq!(redeem(&code, VERIFIER, REDIRECT).await.json()["error"], "invalid_grant");
    // No address but this machine's own is ever led to.
    for wrong in
        ["https://evil.example/callback", "http://127.0.0.1:1@evil.example/callback", "http://localhost:1/callback"]
    {
        assert_eq!(ada.get(&ask(wrong, CHALLENGE)).await.status, 400, "{wrong}");
    }
    assert_eq!(ada.get(&ask(REDIRECT, "short")).await.status, 400);
}

#[tokio::test]
async fn whoever_is_not_signed_in_signs_in_first_and_comes_back_to_the_question() {
    let (provider, cloud, tenant) = world().await;
    drop(joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await);
    let mut browser = Browser::new(&cloud);
    let first = browser.get(&ask(REDIRECT, CHALLENGE)).await;
    assert_eq!(first.status, 303);
    let place = first.headers["location"].to_str().unwrap().to_owned();
    let page = browser.get(&place).await.text;
    let next = page.split("name=\"next\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let next = next.replace("&#38;", "&").replace("&amp;", "&");
    assert!(next.starts_with("/console/cli?"), "{next}");
    let onward = browser.sign_in_to(&provider, "7", "ada@example.eu", &next).await;
    let onward = onward.text.replace("&#38;", "&").replace("&amp;", "&");
    assert!(onward.contains(&format!("href=\"{next}\"")), "{onward}");
    assert!(browser.get(&next).await.text.contains("Let a command line act for you?"));
    for wrong in ["https://evil.example/", "//evil.example", "/console/cli", "/console\\@evil.example"] {
        let onward = Browser::new(&cloud).sign_in_to(&provider, "7", "ada@example.eu", wrong).await.text;
        assert!(!onward.contains("evil") && onward.contains("href=\"/console\""), "{onward}");
    }
    let _: &Provider = &provider;
}

/// Renews a command line's sign-in.
async fn renewed(cloud: &Cloud, given: &Value) -> Answer {
    token(cloud, &[("grant_type", "refresh_token"), ("refresh_token", text(given, "refresh_token"))]).await
}

#[tokio::test]
async fn a_sign_in_at_a_prompt_ends_when_its_key_is_revoked() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let given = logged_in(&cloud, &mut ada, &tenant.organisation()).await;
    let me = cloud.get(text(&given, "access_token"), "/api/v1/whoami").await.good();
    cloud.call(&tenant.owner, "key_revoke", &[text(&me["key"], "id")], Value::Null).await.good();
    assert_eq!(renewed(&cloud, &given).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn whose_domain_takes_another_provider_has_to_sign_in_there() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let given = logged_in(&cloud, &mut ada, &tenant.organisation()).await;
    // She has a place elsewhere too, at which she is signed in.
    let other = cloud.tenant("Other", 1_000).await;
    let elsewhere = json!({ "email": "ada@example.eu", "role": "viewer" });
    let made = cloud.call(&other.owner, "invitation_create", &[&other.organisation()], elsewhere).await.good();
    let csrf = ada.csrf("/console/welcome").await;
    let joined = ada.post("/console/welcome/join", &[("csrf", &csrf), ("text", text(&made, "text"))]).await;
    assert_eq!(joined.status, 303, "{}", joined.text);
    let beside = logged_in(&cloud, &mut ada, &other.organisation()).await;

    let wanted = json!({ "issuer": "https://id.acme.example", "client_id": "gregal" });
    let parameters = [&*tenant.organisation(), "example.eu"];
    cloud.call(&cloud.operator, "domain_write", &parameters, wanted).await.good();
    for given in [&given, &beside] {
        assert!(!works(&cloud, text(given, "access_token")).await, "what the old provider vouched for is over");
        assert_eq!(renewed(&cloud, given).await.json()["error"], "invalid_grant");
    }
    assert_eq!(ada.get("/console").await.headers["location"], "/console/sign-in");
    assert!(!ada.get("/console/welcome").await.text.contains("Acme"), "its word opens no organisation any more");
}

#[tokio::test]
async fn somebody_elsewhere_whose_provider_may_not_vouch_any_more_is_not_renewed() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let given = logged_in(&cloud, &mut ada, &tenant.organisation()).await;
    // The domain is another organisation's, whose member she is not.
    let other = cloud.tenant("Other", 1_000).await;
    let wanted = json!({ "issuer": "https://id.other.example", "client_id": "gregal" });
    cloud.call(&cloud.operator, "domain_write", &[&*other.organisation(), "example.eu"], wanted).await.good();
    assert_eq!(renewed(&cloud, &given).await.json()["error"], "invalid_grant");
    assert!(!works(&cloud, text(&given, "access_token")).await);
    assert_eq!(ada.get("/console").await.headers["location"], "/console/sign-in");
}
