//! Signing in with a provider, against a scripted one that signs what the test says: only a true word for this sign-in is
//! taken, and every lie is known to be told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Form, Json, Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ed25519_dalek::{Signer as _, SigningKey};
use gregal_control::{IdentityOptions, ProviderOptions};
use gregal_core::{access::Role, world::World as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::world::{Answer, Cloud, Tenant};

const ORIGIN: &str = "http://127.0.0.1:7480";

/// What the provider says and does next.
struct Script {
    issuer: String,
    /// What signs, and what is published as its key.
    signs: SigningKey,
    published: SigningKey,
    /// The challenge that the code's verifier has to meet.
    challenge: String,
    header: Value,
    claims: Value,
    /// Signs with this as a shared secret instead.
    shared: bool,
    redeemed: u32,
    /// How often it was asked what it is.
    asked: u32,
}

type Shared = Arc<Mutex<Script>>;

pub(crate) struct Provider {
    script: Shared,
    issuer: String,
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(key: &SigningKey) -> String {
    BASE64.encode(key.verifying_key().to_bytes())
}

impl Provider {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script {
            issuer: issuer.clone(),
            signs: key(1),
            published: key(1),
            challenge: String::new(),
            header: json!({ "alg": "EdDSA", "kid": "k" }),
            claims: json!({}),
            shared: false,
            redeemed: 0,
            asked: 0,
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(script.clone());
        // Kind: a part of the test's world; it ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { script, issuer }
    }

    /// Its address.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    fn options(&self) -> IdentityOptions {
        let provider = ProviderOptions {
            name: "Example".into(),
            issuer: self.issuer.clone(),
            client_id: "gregal".into(),
            client_secret: None,
        };
        IdentityOptions { providers: vec![provider], private_providers: true }
    }
}

async fn configuration(State(script): State<Shared>) -> Json<Value> {
    let issuer = {
        let mut script = script.lock().unwrap();
        script.asked += 1;
        script.issuer.clone()
    };
    Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA", "none", "HS256"],
    }))
}

async fn jwks(State(script): State<Shared>) -> Json<Value> {
    let x = public(&script.lock().unwrap().published);
    Json(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k", "use": "sig", "alg": "EdDSA" }] }))
}

async fn token(
    State(script): State<Shared>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Result<Json<Value>, StatusCode> {
    let mut script = script.lock().unwrap();
    let met = BASE64.encode(Sha256::digest(form["code_verifier"].as_bytes())) == script.challenge;
    let redirects = form["redirect_uri"] == format!("{ORIGIN}/console/sign-in/callback");
    if !met || !redirects || form["client_id"] != "gregal" || form["code"] != "the-code" {
        return Err(StatusCode::BAD_REQUEST);
    }
    script.redeemed += 1;
    let parts = [&script.header, &script.claims].map(|part| BASE64.encode(part.to_string()));
    let said = parts.join(".");
    let signature = match (script.header["alg"].as_str().unwrap(), script.shared) {
        ("none", _) => String::new(),
        // The classic confusion: what everybody knows, taken for a secret.
        (_, true) => BASE64.encode(hmac(&script.published.verifying_key().to_bytes(), said.as_bytes())),
        _ => BASE64.encode(script.signs.sign(said.as_bytes()).to_bytes()),
    };
    let id_token = format!("{said}.{signature}");
    Ok(Json(json!({ "access_token": "opaque-access", "token_type": "Bearer", "id_token": id_token })))
}

/// HMAC-SHA-256 (RFC 2104) for keys up to a block.
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |with: u8| {
        let mut block = [with; 64];
        for (place, byte) in block.iter_mut().zip(key) {
            *place ^= byte;
        }
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// A browser with its cookies.
pub(crate) struct Browser<'a> {
    cloud: &'a Cloud,
    pub(crate) cookies: BTreeMap<String, String>,
    /// Where its forms come from.
    origin: &'static str,
    /// The host that is asked, if not that of the origin.
    pub(crate) host: Option<&'static str>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(cloud: &'a Cloud) -> Self {
        Self::at(cloud, ORIGIN)
    }

    /// A browser that looks at the console by this name.
    pub(crate) fn at(cloud: &'a Cloud, origin: &'static str) -> Self {
        Self { cloud, cookies: BTreeMap::new(), origin, host: None }
    }

    fn host(&self) -> &'static str {
        self.host.unwrap_or_else(|| self.origin.split_once("://").unwrap().1)
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.headers.get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.into(), value.into());
        }
    }

    fn cookie(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = Request::builder().uri(path).header("cookie", self.cookie()).header("accept", "text/html");
        let answer = self.cloud.send(request.body(Body::empty()).unwrap()).await;
        self.keep(&answer);
        answer
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let encode = |text: &str| {
            let mut encoded = String::new();
            for byte in text.bytes() {
                std::fmt::Write::write_fmt(&mut encoded, format_args!("%{byte:02x}")).unwrap();
            }
            encoded
        };
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = Request::builder()
            .method("POST")
            .uri(path)
            .header("cookie", self.cookie())
            .header("origin", self.origin)
            .header("host", self.host())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body.join("&")));
        let answer = self.cloud.send(request.unwrap()).await;
        self.keep(&answer);
        answer
    }

    /// The token that this page's forms carry.
    pub(crate) async fn csrf(&mut self, page: &str) -> String {
        let html = self.get(page).await.text;
        html.split("name=\"csrf\" value=\"").nth(1).expect("a form").split('"').next().unwrap().to_owned()
    }

    /// Begins with the operator's provider; answers what the browser is sent there with.
    async fn begin(&mut self) -> BTreeMap<String, String> {
        self.begin_to("").await
    }

    async fn begin_to(&mut self, next: &str) -> BTreeMap<String, String> {
        let onward = self.post("/console/sign-in/begin", &[("provider", "Example"), ("next", next)]).await;
        assert_eq!(onward.status, 200, "{}", onward.text);
        asked_of(&onward.text)
    }

    /// Signs in as somebody; answers what the callback answers.
    pub(crate) async fn sign_in(&mut self, provider: &Provider, subject: &str, email: &str) -> Answer {
        self.sign_in_to(provider, subject, email, "").await
    }

    /// As [`Browser::sign_in`], by the address alone: with the provider of its domain.
    pub(crate) async fn sign_in_at(&mut self, provider: &Provider, subject: &str, email: &str) -> Answer {
        let onward = self.post("/console/sign-in/begin", &[("email", email)]).await;
        let asked = asked_of(&onward.text);
        provider.tells(self.cloud, &asked, subject, email);
        self.get(&format!("/console/sign-in/callback?code=the-code&state={}", asked["state"])).await
    }

    /// As [`Browser::sign_in`], from a page that wants to be come back to.
    pub(crate) async fn sign_in_to(&mut self, provider: &Provider, subject: &str, email: &str, next: &str) -> Answer {
        let asked = self.begin_to(next).await;
        provider.tells(self.cloud, &asked, subject, email);
        self.get(&format!("/console/sign-in/callback?code=the-code&state={}", asked["state"])).await
    }
}

/// The parameters of the address that a page leads on to.
fn asked_of(html: &str) -> BTreeMap<String, String> {
    let url = html.split("id=\"onward\" href=\"").nth(1).expect("a way on").split('"').next().unwrap();
    let url = url.replace("&amp;", "&").replace("&#38;", "&");
    let query = url.split_once('?').unwrap().1;
    query.split('&').map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
}

impl Provider {
    /// What a true provider would say of somebody.
    fn tells(&self, cloud: &Cloud, asked: &BTreeMap<String, String>, subject: &str, email: &str) {
        let mut script = self.script.lock().unwrap();
        let now = cloud.world.now().as_millis() / 1000;
        script.challenge.clone_from(&asked["code_challenge"]);
        script.claims = json!({
            "iss": self.issuer, "aud": "gregal", "sub": subject, "nonce": asked["nonce"], "iat": now, "exp": now + 300,
            "email": email, "email_verified": true, "name": "Ada Lovelace",
        });
    }
}

pub(crate) async fn world() -> (Provider, Cloud, Tenant) {
    let provider = Provider::start().await;
    let cloud = Cloud::open_with(provider.options()).await;
    let tenant = cloud.tenant("Acme", 1_000).await;
    (provider, cloud, tenant)
}

async fn invited(cloud: &Cloud, tenant: &Tenant, email: &str, role: &str) -> String {
    let wanted = json!({ "email": email, "role": role });
    let made = cloud.call(&tenant.owner, "invitation_create", &[&tenant.organisation()], wanted).await.good();
    made["text"].as_str().unwrap().to_owned()
}

/// Somebody who signed in and took up an invitation, as provider's subject 7.
pub(crate) async fn joined<'a>(
    provider: &Provider,
    cloud: &'a Cloud,
    tenant: &Tenant,
    email: &str,
    role: &str,
) -> Browser<'a> {
    let text = invited(cloud, tenant, email, role).await;
    let mut browser = Browser::new(cloud);
    browser.sign_in(provider, "7", email).await;
    let csrf = browser.csrf("/console/welcome").await;
    let joined = browser.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await;
    assert_eq!(joined.status, 303, "{}", joined.text);
    browser
}

#[tokio::test]
async fn whoever_is_invited_signs_in_joins_works_and_leaves() {
    let (provider, cloud, tenant) = world().await;
    let text = invited(&cloud, &tenant, "ada@example.eu", "developer").await;
    let mut browser = Browser::new(&cloud);
    assert!(browser.get("/console/sign-in").await.text.contains("Sign in with Example"));
    let signed = browser.sign_in(&provider, "7", "Ada@Example.eu").await;
    assert_eq!(signed.status, 200, "{}", signed.text);
    let session = browser.cookies["gregal_console"].clone();
    let nowhere = browser.get("/console").await;
    assert_eq!((nowhere.status, &nowhere.headers["location"]), (303, &"/console/welcome".parse().unwrap()));

    let csrf = browser.csrf("/console/welcome").await;
    let joined = browser.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await;
    assert_eq!((joined.status, &joined.headers["location"]), (303, &"/console".parse().unwrap()), "{}", joined.text);
    assert_ne!(browser.cookies["gregal_console"], session, "another right, another session");
    let page = browser.get("/console").await;
    assert!(
        page.status == 200 && page.text.contains("ada@example.eu") && page.text.contains("developer"),
        "{}",
        page.text
    );

    // Used once: neither she nor anybody else gets in by it again.
    let csrf = browser.csrf("/console/welcome").await;
    let again = browser.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await;
    assert_eq!(again.status, 404);
    // From now on one sign-in leads straight in.
    let mut later = Browser::new(&cloud);
    assert_eq!(later.sign_in(&provider, "7", "ada@example.eu").await.status, 200);
    assert_eq!(later.get("/console").await.status, 200);

    let members = cloud.call(&tenant.owner, "members_list", &[&tenant.organisation()], Value::Null).await.good();
    assert_eq!(members["items"][0]["email"], "ada@example.eu");
    let person = members["items"][0]["person"].as_str().unwrap();
    cloud.call(&tenant.owner, "member_remove", &[&tenant.organisation(), person], Value::Null).await.good();
    for browser in [&mut browser, &mut later] {
        assert_eq!(browser.get("/console").await.headers["location"], "/console/sign-in", "no session is left");
    }
}

#[tokio::test]
async fn an_invitation_is_for_the_address_it_names() {
    let (provider, cloud, tenant) = world().await;
    let text = invited(&cloud, &tenant, "ada@example.eu", "owner").await;
    let mut eve = Browser::new(&cloud);
    eve.sign_in(&provider, "66", "eve@example.eu").await;
    let csrf = eve.csrf("/console/welcome").await;
    assert_eq!(eve.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await.status, 404);
    assert_eq!(eve.post("/console/welcome/join", &[("csrf", "x"), ("text", &text)]).await.status, 403);
    let other = tenant.organisation();
    let entered = eve.post("/console/welcome/enter", &[("csrf", &csrf), ("organisation", &other)]).await;
    assert_eq!(entered.status, 404, "an organisation she is not in does not exist for her");
    assert_eq!(cloud.store.members_of(tenant.organisation).await.unwrap(), []);
    cloud.world.pass_seconds(7 * 24 * 3600);
    let mut ada = Browser::new(&cloud);
    ada.sign_in(&provider, "7", "ada@example.eu").await;
    let csrf = ada.csrf("/console/welcome").await;
    assert_eq!(ada.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await.status, 404, "expired");
}

/// A lie, and what it changes.
type Lie = (&'static str, fn(&mut Script));

const LIES: &[Lie] = &[
    ("not signed", |script| script.header = json!({ "alg": "none" })),
    ("signed with what everybody knows", |script| {
        script.header = json!({ "alg": "HS256", "kid": "k" });
        script.shared = true;
    }),
    ("signed by another key", |script| script.signs = key(2)),
    ("by a key that was rotated out", |script| script.published = key(3)),
    ("of another issuer", |script| script.claims["iss"] = json!("https://evil.example")),
    ("for another audience", |script| script.claims["aud"] = json!("other")),
    ("for others too", |script| script.claims["aud"] = json!(["gregal", "other"])),
    ("of another sign-in", |script| script.claims["nonce"] = json!("0".repeat(64))),
    ("without a nonce", |script| drop(script.claims.as_object_mut().unwrap().remove("nonce"))),
    ("expired", |script| script.claims["exp"] = script.claims["iat"].clone()),
    ("an address that was not verified", |script| script.claims["email_verified"] = json!(false)),
    ("an address nobody vouches for", |script| drop(script.claims.as_object_mut().unwrap().remove("email_verified"))),
    ("no address", |script| drop(script.claims.as_object_mut().unwrap().remove("email"))),
    ("an address that is none", |script| script.claims["email"] = json!("ada")),
];

#[tokio::test]
async fn no_lie_of_a_provider_is_taken_and_each_is_told_of() {
    let (provider, cloud, tenant) = world().await;
    let text = invited(&cloud, &tenant, "ada@example.eu", "developer").await;
    for (what, lie) in LIES {
        let mut browser = Browser::new(&cloud);
        let asked = browser.begin().await;
        provider.tells(&cloud, &asked, "7", "ada@example.eu");
        let before = {
            let mut script = provider.script.lock().unwrap();
            lie(&mut script);
            script.redeemed
        };
        let answer = browser.get(&format!("/console/sign-in/callback?code=the-code&state={}", asked["state"])).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        assert!(!browser.cookies.contains_key("gregal_console"), "{what}");
        let mut script = provider.script.lock().unwrap();
        assert_eq!(script.redeemed, before + 1, "{what}: the lie was told");
        (script.signs, script.published, script.shared) = (key(1), key(1), false);
        script.header = json!({ "alg": "EdDSA", "kid": "k" });
    }
    let log = cloud.get(&cloud.operator, "/api/v1/audit?limit=500").await.text;
    for why in ["the token is for somebody else", "the nonce is another", "the token has expired", "is not verified"] {
        assert!(log.contains(why), "{why} is not in the log");
    }
    assert!(!log.contains("ada@example.eu") && !log.contains("the-code") && !log.contains("opaque-access"));
    // The same sign-in without a lie is taken, also when the provider's keys changed while it was under way.
    let mut browser = Browser::new(&cloud);
    let asked = browser.begin().await;
    provider.tells(&cloud, &asked, "7", "ada@example.eu");
    {
        let mut script = provider.script.lock().unwrap();
        (script.signs, script.published) = (key(9), key(9));
    }
    let answer = browser.get(&format!("/console/sign-in/callback?code=the-code&state={}", asked["state"])).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let csrf = browser.csrf("/console/welcome").await;
    assert_eq!(browser.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await.status, 303);
}

#[tokio::test]
async fn a_sign_in_ends_where_it_began_once_and_in_time() {
    let (provider, cloud, _) = world().await;
    let back = |state: &str| format!("/console/sign-in/callback?code=the-code&state={state}");
    // Another's state: somebody is lured into finishing a sign-in that he did not begin.
    let (mut mine, mut theirs) = (Browser::new(&cloud), Browser::new(&cloud));
    let (_, asked) = (mine.begin().await, theirs.begin().await);
    provider.tells(&cloud, &asked, "7", "ada@example.eu");
    assert_eq!(mine.get(&back(&asked["state"])).await.status, 401);
    assert_eq!(Browser::new(&cloud).get(&back(&asked["state"])).await.status, 400, "no cookie");
    assert_eq!(theirs.get(&back(&asked["state"])).await.status, 200);
    // The cookie of the sign-in is gone; with it kept, the sign-in still is.
    let mut browser = Browser::new(&cloud);
    let asked = browser.begin().await;
    provider.tells(&cloud, &asked, "7", "ada@example.eu");
    let kept = browser.cookies["gregal_sign_in"].clone();
    assert_eq!(browser.get(&back(&asked["state"])).await.status, 200);
    browser.cookies.insert("gregal_sign_in".into(), kept);
    assert_eq!(browser.get(&back(&asked["state"])).await.status, 400, "used once");
    // Another provider's answer (RFC 9207), no code, and a verifier that does not meet the challenge.
    for (twist, query) in [("iss", "&iss=https://evil.example"), ("code", "&code=other")] {
        let mut browser = Browser::new(&cloud);
        let asked = browser.begin().await;
        provider.tells(&cloud, &asked, "7", "ada@example.eu");
        let code = if twist == "code" { "" } else { "&code=the-code" };
        let path = format!("/console/sign-in/callback?state={}{code}{query}", asked["state"]);
        assert_eq!(browser.get(&path).await.status, 401, "{twist}");
    }
    let mut browser = Browser::new(&cloud);
    let asked = browser.begin().await;
    provider.tells(&cloud, &asked, "7", "ada@example.eu");
    provider.script.lock().unwrap().challenge = "another".into();
    assert_eq!(browser.get(&back(&asked["state"])).await.status, 401);
    let mut browser = Browser::new(&cloud);
    let asked = browser.begin().await;
    provider.tells(&cloud, &asked, "7", "ada@example.eu");
    cloud.world.pass_seconds(601);
    assert_ne!(browser.get(&back(&asked["state"])).await.status, 200, "too late");
}

#[tokio::test]
async fn a_domain_that_has_its_own_provider_takes_nobody_elses_word() {
    let (provider, cloud, tenant) = world().await;
    let own = Provider::start().await;
    let wanted = json!({ "issuer": own.issuer, "client_id": "gregal" });
    let parameters = [&*tenant.organisation(), "acme.example"];
    cloud.call(&cloud.operator, "domain_write", &parameters, wanted).await.good();
    let text = invited(&cloud, &tenant, "ada@acme.example", "owner").await;
    let mut eve = Browser::new(&cloud);
    assert_eq!(eve.sign_in(&provider, "7", "ada@acme.example").await.status, 401, "the operator's may not say so");

    for (email, due) in [("ada@acme.example", 200), ("bob@example.eu", 401)] {
        let mut browser = Browser::new(&cloud);
        let onward = browser.post("/console/sign-in/begin", &[("email", "ada@acme.example")]).await;
        let asked = asked_of(&onward.text);
        own.tells(&cloud, &asked, "7", email);
        let path = format!("/console/sign-in/callback?code=the-code&state={}", asked["state"]);
        assert_eq!(browser.get(&path).await.status, due, "its own provider says it is {email}");
        if due == 200 {
            let csrf = browser.csrf("/console/welcome").await;
            let joined = browser.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await;
            assert_eq!(joined.status, 303);
        }
    }
}

#[tokio::test]
async fn a_session_ends_idle_and_with_its_sign_out_and_shows_members_their_place() {
    let (provider, cloud, tenant) = world().await;
    let text = invited(&cloud, &tenant, "ada@example.eu", "admin").await;
    let mut ada = Browser::new(&cloud);
    ada.sign_in(&provider, "7", "ada@example.eu").await;
    let csrf = ada.csrf("/console/welcome").await;
    ada.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await;
    let page = ada.get("/console/members").await.text;
    assert!(page.contains("ada@example.eu") && page.contains("Ada Lovelace"), "{page}");
    let csrf = ada.csrf("/console/members").await;
    let fields = [("csrf", csrf.as_str()), ("once", "1"), ("email", "bob@example.eu"), ("role", "viewer")];
    let made = ada.post("/console/members", &fields).await;
    assert!(made.text.contains("gi_") && made.text.contains("no mail is sent"), "{}", made.text);
    assert!(ada.get("/console/members").await.text.contains("bob@example.eu"));

    let person = cloud.store.members_of(tenant.organisation).await.unwrap()[0].person;
    let csrf = ada.csrf("/console/members").await;
    assert_eq!(ada.post("/console/sign-out", &[("csrf", &csrf)]).await.status, 303);
    let keys = cloud.store.keys_of_person(person).await.unwrap();
    assert!(keys.iter().all(|key| !key.works_at(cloud.world.now())), "{keys:?}");
    assert!(keys.iter().all(|key| key.role == Role::Admin));

    ada.sign_in(&provider, "7", "ada@example.eu").await;
    cloud.world.pass_seconds(29 * 60);
    assert_eq!(ada.get("/console").await.status, 200);
    cloud.world.pass_seconds(30 * 60);
    assert_eq!(ada.get("/console").await.headers["location"], "/console/sign-in");
}

#[tokio::test]
async fn an_invitation_ends_with_the_right_of_whoever_made_it_and_keeps_no_address_when_it_is_over() {
    let (provider, cloud, tenant) = world().await;
    let organisation = tenant.organisation();
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "admin").await;
    let csrf = ada.csrf("/console/members").await;
    let fields = [("csrf", csrf.as_str()), ("once", "1"), ("email", "bob@example.eu"), ("role", "viewer")];
    let page = ada.post("/console/members", &fields).await.text;
    let by_person = page[page.find("gi_").unwrap()..].chars().take("gi_".len() + 64).collect::<String>();
    let by_owner = invited(&cloud, &tenant, "bob@example.eu", "viewer").await;

    let person = cloud.store.members_of(tenant.organisation).await.unwrap()[0].person.to_string();
    let lowered = json!({ "role": "viewer" });
    cloud.call(&tenant.owner, "member_write", &[&organisation, &person], lowered).await.good();
    let mut bob = Browser::new(&cloud);
    bob.sign_in(&provider, "8", "bob@example.eu").await;
    let csrf = bob.csrf("/console/welcome").await;
    let refused = bob.post("/console/welcome/join", &[("csrf", &csrf), ("text", &by_person)]).await;
    assert_eq!(refused.status, 404, "she may invite nobody any more");
    let joined = bob.post("/console/welcome/join", &[("csrf", &csrf), ("text", &by_owner)]).await;
    assert_eq!(joined.status, 303, "what others offered stands: {}", joined.text);

    invited(&cloud, &tenant, "eve@example.eu", "viewer").await;
    cloud.world.pass_seconds(7 * 24 * 3600 + 1);
    assert_eq!(cloud.store.invitations_kept_all().await.unwrap().len(), 1);
    cloud.control.expire_pass().await.unwrap();
    assert!(cloud.store.invitations_kept_all().await.unwrap().is_empty(), "nobody came, and no address is left");

    invited(&cloud, &tenant, "eve@example.eu", "viewer").await;
    let me = cloud.get(&tenant.owner, "/api/v1/whoami").await.good();
    cloud.call(&tenant.owner, "key_revoke", &[me["key"]["id"].as_str().unwrap()], Value::Null).await.good();
    assert!(cloud.store.invitations_kept_all().await.unwrap().is_empty(), "a key that is revoked invites nobody");
}

#[tokio::test]
async fn who_has_no_organisation_can_sign_out_all_the_same() {
    let (provider, cloud, _) = world().await;
    let mut eve = Browser::new(&cloud);
    eve.sign_in(&provider, "66", "eve@example.eu").await;
    let csrf = eve.csrf("/console/welcome").await;
    assert_eq!(eve.post("/console/welcome/sign-out", &[("csrf", "x")]).await.status, 403);
    let session = eve.cookies["gregal_console"].clone();
    assert_eq!(eve.post("/console/welcome/sign-out", &[("csrf", &csrf)]).await.headers["location"], "/console/sign-in");
    eve.cookies.insert("gregal_console".into(), session);
    assert_eq!(
        eve.get("/console/welcome").await.headers["location"],
        "/console/sign-in",
        "the old cookie is worth nothing"
    );
}

#[tokio::test]
async fn a_provider_is_asked_what_it_is_once_in_minutes_however_many_begin() {
    let (provider, cloud, _) = world().await;
    for _ in 0..5 {
        Browser::new(&cloud).begin().await;
    }
    assert_eq!(provider.script.lock().unwrap().asked, 1);
    // A code that is worth nothing does not make us ask either.
    let mut eve = Browser::new(&cloud);
    let asked = eve.begin().await;
    let back = format!("/console/sign-in/callback?code=another&state={}", asked["state"]);
    assert_eq!(eve.get(&back).await.status, 401);
    assert_eq!(provider.script.lock().unwrap().asked, 1);
    cloud.world.pass_seconds(301);
    eve.begin().await;
    assert_eq!(provider.script.lock().unwrap().asked, 2);
}

#[tokio::test]
async fn whoever_is_erased_is_signed_in_nowhere() {
    let (provider, cloud, tenant) = world().await;
    let mut ada = joined(&provider, &cloud, &tenant, "ada@example.eu", "developer").await;
    let other = cloud.tenant("Other", 0).await;
    let text = invited(&cloud, &other, "ada@example.eu", "viewer").await;
    let csrf = ada.csrf("/console/welcome").await;
    ada.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await;
    let offered = invited(&cloud, &cloud.tenant("Third", 0).await, "ada@example.eu", "owner").await;
    // A second browser of hers, in which she chose no organisation: nothing but her provider's word.
    let mut second = Browser::new(&cloud);
    second.sign_in(&provider, "7", "ada@example.eu").await;
    let csrf = second.csrf("/console/welcome").await;
    let person = cloud.store.members_of(tenant.organisation).await.unwrap()[0].person.to_string();
    cloud.call(&cloud.operator, "person_erase", &[&person], Value::Null).await.good();
    for browser in [&mut ada, &mut second] {
        assert_eq!(browser.get("/console/welcome").await.headers["location"], "/console/sign-in");
    }
    let join = second.post("/console/welcome/join", &[("csrf", &csrf), ("text", &offered)]).await;
    assert_eq!(join.headers["location"], "/console/sign-in");
}
