//! Another system's token for a key of a service account: only a true token of a trusted issuer, for us, now, that says what it
//! must, and once. Every lie is known to be told, and the log says why it was not believed.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ed25519_dalek::{Signer as _, SigningKey};
use gregal_control::{IdentityOptions, ProviderOptions};
use gregal_core::world::World as _;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use crate::{
    service_account::{entries, made, works},
    sign_in::{hmac, key, public},
    world::{Answer, Cloud, Tenant},
};

const AUDIENCE: &str = "https://cloud.example.eu";

/// What an issuer publishes, and how often it was asked.
#[derive(Default)]
struct Published {
    keys: Vec<Value>,
    asked: u32,
    /// Whether it answers nothing more.
    broken: bool,
    /// Told when it was asked; the answer waits for a permit where there is one.
    held: Option<(Arc<Notify>, Arc<Semaphore>)>,
}

/// A CI's issuer: it names no endpoint for people, as those of CIs do not.
struct Issuer {
    url: String,
    published: Arc<Mutex<Published>>,
}

impl Issuer {
    async fn start(keys: Vec<Value>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let published = Arc::new(Mutex::new(Published { keys, ..Published::default() }));
        let said = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(said)))
            .route("/keys", get(keys_published))
            .with_state(published.clone());
        // Kind: a part of the test's world; it ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, published }
    }

    fn asked(&self) -> u32 {
        self.published.lock().unwrap().asked
    }

    fn publish(&self, keys: Vec<Value>) {
        self.published.lock().unwrap().keys = keys;
    }
}

async fn keys_published(State(published): State<Arc<Mutex<Published>>>) -> Result<Json<Value>, StatusCode> {
    let held = {
        let mut published = published.lock().unwrap();
        published.asked += 1;
        published.held.clone()
    };
    if let Some((asked, may_answer)) = held {
        asked.notify_one();
        let _permit = may_answer.acquire().await.unwrap();
    }
    let published = published.lock().unwrap();
    if published.broken { Err(StatusCode::BAD_GATEWAY) } else { Ok(Json(json!({ "keys": published.keys }))) }
}

fn jwk(key: &SigningKey, kid: &str) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "x": public(key), "kid": kid, "use": "sig", "alg": "EdDSA" })
}

fn said(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

fn signed_as(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let said = said(header, claims);
    let signature = BASE64.encode(key.sign(said.as_bytes()).to_bytes());
    format!("{said}.{signature}")
}

fn signed(signer: &SigningKey, claims: &Value) -> String {
    signed_as(signer, &json!({ "alg": "EdDSA", "kid": "k", "typ": "JWT" }), claims)
}

struct World {
    cloud: Cloud,
    tenant: Tenant,
    issuer: Issuer,
    account: String,
    /// How many tokens were made: no two runs of a CI say the same.
    runs: AtomicU32,
}

impl World {
    async fn open() -> Self {
        let issuer = Issuer::start(vec![jwk(&key(1), "k")]).await;
        let provider = ProviderOptions {
            name: "People".into(),
            issuer: issuer.url.clone(),
            client_id: "gregal".into(),
            client_secret: None,
        };
        let options = IdentityOptions { providers: vec![provider], private_providers: true };
        let cloud = Cloud::open_with(options).await;
        let tenant = cloud.tenant("Acme", 1_000).await;
        let wanted = json!({ "name": "ci", "role": "developer", "project": tenant.project() });
        let account = made(&cloud, &tenant.owner, &tenant, wanted).await;
        let world = Self { cloud, tenant, issuer, account, runs: AtomicU32::new(0) };
        world.trust(AUDIENCE, &json!({ "repository": "acme/*", "ref": "refs/heads/main" })).await.good();
        world
    }

    async fn trust(&self, audience: &str, claims: &Value) -> Answer {
        let trust = json!({ "issuer": self.issuer.url, "audience": audience, "claims": claims });
        let wanted = json!({ "trusts": [trust] });
        self.cloud.call(&self.tenant.owner, "service_account_write", &[&self.account], wanted).await
    }

    /// What a true token says now.
    fn claims(&self) -> Value {
        let now = self.cloud.world.now().as_millis() / 1000;
        json!({
            "run": self.runs.fetch_add(1, Ordering::Relaxed), "iss": self.issuer.url, "aud": AUDIENCE, "sub": "repo:acme/app", "repository": "acme/app",
            "ref": "refs/heads/main", "iat": now, "nbf": now, "exp": now + 300,
        })
    }

    async fn exchange_with(&self, token: &str, more: &[(&str, &str)]) -> Answer {
        let mut fields = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", token),
            ("service_account", &self.account),
        ];
        for (name, value) in more {
            fields.retain(|(known, _)| known != name);
            fields.push((name, value));
        }
        let escaped = |text: &str| text.replace('%', "%25").replace('+', "%2B").replace('&', "%26").replace(' ', "+");
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let request = Request::post("/api/v1/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body.join("&")));
        self.cloud.send(request.unwrap()).await
    }

    async fn exchange(&self, token: &str) -> Answer {
        self.exchange_with(token, &[]).await
    }

    /// The claims with one of them changed; null takes it out.
    fn but(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        claims
    }

    /// Expects a token to be worth nothing, and the log to say why.
    async fn refused(&self, token: &str, why: &str) {
        let answer = self.exchange(token).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("invalid_grant")), "{why}");
        let log = entries(&self.cloud, &self.tenant).await;
        let last = log.iter().rfind(|entry| entry["action"] == "workload:exchange").expect(why);
        assert_eq!((&last["result"], last["reason"].as_str()), (&json!("denied"), Some(why)), "{last}");
        assert_eq!(last["object"], json!(self.account));
        // Denials of one actor are bounded; a minute makes room.
        self.cloud.world.pass_seconds(61);
    }
}

#[tokio::test]
async fn a_true_token_gives_a_short_key_of_the_account_and_no_more() {
    let world = World::open().await;
    let given = world.exchange(&signed(&key(1), &world.claims())).await.good();
    assert_eq!(given["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!((&given["token_type"], &given["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert!(given.get("refresh_token").is_none());
    let secret = given["access_token"].as_str().unwrap();
    let who = world.cloud.get(secret, "/api/v1/whoami").await.good();
    assert_eq!((&who["key"]["service_account"], &who["key"]["role"]), (&json!(world.account), &json!("developer")));
    let log = entries(&world.cloud, &world.tenant).await;
    let entry = log.iter().rfind(|entry| entry["action"] == "workload:exchange").unwrap();
    assert_eq!((&entry["actor"], &entry["object"]), (&json!(world.account), &who["key"]["id"]));
    // Nothing that it makes outlives it, and it is not renewed.
    let wanted = json!({ "name": "long", "role": "inference", "expires_in_s": 3600 });
    let told = world.cloud.call(secret, "key_create", &[&world.tenant.project()], wanted).await;
    assert_eq!(told.json()["rule"], "key.no_longer_than_held");
    let told = world.cloud.call(secret, "key_rotate", &[who["key"]["id"].as_str().unwrap()], json!({})).await;
    assert!(told.status >= 400, "{}", told.text);
    // Narrowed on request, and never widened.
    let token = signed(&key(1), &world.claims());
    let narrow = world.exchange_with(&token, &[("scope", "job:read project:read")]).await.good();
    let narrow = world.cloud.get(narrow["access_token"].as_str().unwrap(), "/api/v1/whoami").await.good();
    assert_eq!(narrow["actions"], json!(["project:read", "job:read"]));
    let wide = world.exchange_with(&token, &[("scope", "job:read nonsense")]).await;
    assert_eq!(wide.json()["error"], "invalid_scope");
    world.cloud.world.pass_seconds(901);
    assert!(!works(&world.cloud, secret).await);
    assert_eq!(world.issuer.asked(), 1, "its keys are kept for a while");
}

#[tokio::test]
async fn a_token_that_lies_is_worth_nothing_and_the_log_says_why() {
    let world = World::open().await;
    let now = |world: &World| world.cloud.world.now().as_millis() / 1000;
    world.refused(&signed(&key(2), &world.claims()), "the signature does not hold").await;
    world
        .refused(&signed(&key(1), &world.but("iss", json!("https://other.example.eu"))), "its issuer is not trusted")
        .await;
    world
        .refused(&signed(&key(1), &world.but("aud", json!("https://other.example.eu"))), "it is for somebody else")
        .await;
    let two = json!([AUDIENCE, "https://other.example.eu"]);
    world.refused(&signed(&key(1), &world.but("aud", two)), "it is not for one alone").await;
    world.refused(&signed(&key(1), &world.but("exp", json!(now(&world)))), "it has expired").await;
    world.refused(&signed(&key(1), &world.but("iat", json!(now(&world) - 3601))), "it is older than an hour").await;
    world.refused(&signed(&key(1), &world.but("iat", Value::Null)), "it does not say when it was made").await;
    world.refused(&signed(&key(1), &world.but("nbf", json!(now(&world) + 60))), "it does not hold yet").await;
    for (name, value) in [
        ("repository", json!("acme/app/x")),
        ("repository", json!("evil/app")),
        ("repository", Value::Null),
        ("repository", json!(["acme/app"])),
        ("ref", json!("refs/heads/main2")),
    ] {
        world.refused(&signed(&key(1), &world.but(name, value)), "a claim is not what it must be").await;
    }
    // Algorithms: none, and what everybody knows taken for a secret.
    let none = format!("{}.", said(&json!({ "alg": "none" }), &world.claims()));
    world.refused(&none, "it is not signed with a public key").await;
    let claimed = said(&json!({ "alg": "HS256", "kid": "k" }), &world.claims());
    let shared = BASE64.encode(hmac(&key(1).verifying_key().to_bytes(), claimed.as_bytes()));
    world.refused(&format!("{claimed}.{shared}"), "it is not signed with a public key").await;
    world
        .refused(
            &signed_as(&key(1), &json!({ "alg": "RS256", "kid": "k" }), &world.claims()),
            "the signature does not hold",
        )
        .await;
    world.refused("nonsense", "it is no signed token").await;
    // And the true one still works, so that the lies above were refused for being lies.
    world.exchange(&signed(&key(1), &world.claims())).await.good();
    let log: Vec<String> = entries(&world.cloud, &world.tenant).await.iter().map(Value::to_string).collect();
    assert!(!log.join("").contains(&BASE64.encode("{\"alg\"")), "no token in the log");
}

#[tokio::test]
async fn a_published_secret_signs_nothing() {
    let world = World::open().await;
    // An issuer that publishes a shared secret, by mistake or on purpose.
    let secret = BASE64.encode([7; 32]);
    world.issuer.publish(vec![json!({ "kty": "oct", "k": secret, "kid": "k", "alg": "HS256" })]);
    let claimed = said(&json!({ "alg": "HS256", "kid": "k" }), &world.claims());
    let token = format!("{claimed}.{}", BASE64.encode(hmac(&[7; 32], claimed.as_bytes())));
    world.refused(&token, "it is not signed with a public key").await;
}

#[tokio::test]
async fn what_one_audience_asks_for_opens_no_other() {
    let world = World::open().await;
    let trust = |audience: &str, repository: &str| json!({ "issuer": world.issuer.url, "audience": audience, "claims": { "repository": repository } });
    let wanted = json!({ "trusts": [trust(AUDIENCE, "acme/app"), trust("https://lab.example", "acme/lab")] });
    world.cloud.call(&world.tenant.owner, "service_account_write", &[&world.account], wanted).await.good();
    world.exchange(&signed(&key(1), &world.claims())).await.good();
    let lab = signed(&key(1), &world.but("repository", json!("acme/lab")));
    world.refused(&lab, "a claim is not what it must be").await;
}

#[tokio::test]
async fn a_token_is_used_once() {
    let world = World::open().await;
    let token = signed(&key(1), &world.but("jti", json!("run-7")));
    let given = world.exchange(&token).await.good();
    world.refused(&token, "it was used before").await;
    assert!(works(&world.cloud, given["access_token"].as_str().unwrap()).await);
    let other = signed(&key(1), &world.but("jti", json!("run-8")));
    world.exchange(&other).await.good();
    // An id is used once, whatever else its token says; and a token without one is once as well.
    world.refused(&signed(&key(1), &world.but("jti", json!("run-8"))), "it was used before").await;
    let nameless = signed(&key(1), &world.claims());
    world.exchange(&nameless).await.good();
    world.refused(&nameless, "it was used before").await;
}

#[tokio::test]
async fn tokens_of_unknown_keys_take_nothing_from_those_of_known_ones() {
    let world = World::open().await;
    let unknown = |world: &World| signed_as(&key(2), &json!({ "alg": "EdDSA", "kid": "other" }), &world.claims());
    world.exchange(&signed(&key(1), &world.claims())).await.good();
    // The issuer answers nothing more: what it said is believed for its time all the same.
    world.issuer.published.lock().unwrap().broken = true;
    world.cloud.world.pass_seconds(11);
    world.refused(&unknown(&world), "the signature does not hold").await;
    assert_eq!(world.issuer.asked(), 2);
    world.exchange(&signed(&key(1), &world.claims())).await.good();
    // While it is slow, nobody else waits for its answer.
    let (asked, may_answer) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    world.issuer.published.lock().unwrap().held = Some((asked.clone(), may_answer.clone()));
    world.cloud.world.pass_seconds(11);
    let (slow, quick) = (unknown(&world), signed(&key(1), &world.claims()));
    let quick = async {
        asked.notified().await;
        let answer = world.exchange(&quick).await;
        may_answer.add_permits(1);
        answer
    };
    let (slow, quick) = tokio::join!(world.exchange(&slow), quick);
    assert_eq!(slow.status, 400, "{}", slow.text);
    quick.good();
    // Five minutes after they came, its keys are believed no more.
    world.issuer.published.lock().unwrap().held = None;
    world.cloud.world.pass_seconds(300);
    world.refused(&signed(&key(1), &world.claims()), "its issuer's keys cannot be read").await;
}

#[tokio::test]
async fn a_rotated_key_is_known_soon_and_a_key_taken_back_is_refused_within_minutes() {
    let world = World::open().await;
    world.exchange(&signed(&key(1), &world.claims())).await.good();
    world.issuer.publish(vec![jwk(&key(2), "k2")]);
    let of = |world: &World| signed_as(&key(2), &json!({ "alg": "EdDSA", "kid": "k2" }), &world.claims());
    // Whoever sends tokens of unknown keys does not make us ask each time.
    world.cloud.world.pass_seconds(5);
    assert_eq!(world.exchange(&of(&world)).await.status, 400);
    assert_eq!(world.issuer.asked(), 1);
    world.cloud.world.pass_seconds(6);
    world.exchange(&of(&world)).await.good();
    assert_eq!(world.issuer.asked(), 2);
    assert_eq!(world.exchange(&signed(&key(1), &world.claims())).await.status, 400, "the old one is gone");
    // The same name, another key: believed for five minutes at most.
    world.issuer.publish(vec![jwk(&key(3), "k2")]);
    world.cloud.world.pass_seconds(301);
    assert_eq!(world.exchange(&of(&world)).await.status, 400);
}

#[tokio::test]
async fn a_persons_token_is_no_workloads_and_a_disabled_account_takes_none() {
    let world = World::open().await;
    // What this issuer calls the cloud when people sign in cannot even be trusted.
    let told = world.trust("gregal", &json!({ "repository": "acme/app" })).await;
    assert_eq!((told.status, told.problem().as_str()), (400, "invalid_request"), "{}", told.text);
    world.refused(&signed(&key(1), &world.but("aud", json!("gregal"))), "it is for somebody else").await;
    // A provider that an organisation brings later, of the same issuer and name, is for people from then on.
    let domain = json!({ "issuer": world.issuer.url, "client_id": AUDIENCE });
    let parameters = [&world.tenant.organisation(), "acme.example"];
    let parameters = parameters.map(|text: &str| text);
    world.cloud.call(&world.cloud.operator, "domain_write", &parameters, domain).await.good();
    world.refused(&signed(&key(1), &world.claims()), "it vouches for a person").await;
    world.cloud.call(&world.cloud.operator, "domain_remove", &parameters, Value::Null).await.good();
    let given = world.exchange(&signed(&key(1), &world.claims())).await.good();
    let disable = json!({ "enabled": false });
    world.cloud.call(&world.tenant.owner, "service_account_write", &[&world.account], disable).await.good();
    assert!(!works(&world.cloud, given["access_token"].as_str().unwrap()).await);
    world.refused(&signed(&key(1), &world.claims()), "the service account is disabled").await;
}

#[tokio::test]
async fn a_trust_that_anybody_could_meet_is_not_taken() {
    let world = World::open().await;
    for claims in [json!({}), json!({ "sub": "**" }), json!({ "repository": "*/*" }), json!({ "aud": "x" })] {
        let told = world.trust(AUDIENCE, &claims).await;
        assert_eq!(told.status, 400, "{claims}: {}", told.text);
    }
    let unknown = [("service_account", "sac_00000000000000000000000001")];
    let told = world.exchange_with(&signed(&key(1), &world.claims()), &unknown).await;
    assert_eq!(told.json()["error"], "invalid_grant", "the same words as for what is there");
    let kind = [("subject_token_type", "urn:ietf:params:oauth:token-type:saml2")];
    assert_eq!(world.exchange_with("x", &kind).await.json()["error"], "invalid_request");
}
