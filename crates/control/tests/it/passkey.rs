//! Passkeys, with an authenticator in software that answers what the test says: only a true answer to this question is taken, and
//! every lie is known to be told.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    service_account::entries,
    sign_in::{Browser, world},
    world::{Answer, Cloud, Tenant},
};

const ORIGIN: &str = "http://localhost:7480";
const NAME: &str = "localhost";

/// A passkey that the authenticator holds.
#[derive(Clone)]
struct Held {
    id: Vec<u8>,
    handle: Vec<u8>,
    signer: SigningKey,
    counter: u32,
}

/// How an answer is made; by default as a true one is.
#[derive(Clone)]
struct Way {
    origin: &'static str,
    name: &'static str,
    verified: bool,
    kind: &'static str,
}

const TRUE: Way = Way { origin: ORIGIN, name: NAME, verified: true, kind: "" };

fn client_data(kind: &str, options: &Value, way: &Way) -> Vec<u8> {
    let kind = if way.kind.is_empty() { kind } else { way.kind };
    json!({ "type": kind, "challenge": options["challenge"], "origin": way.origin, "crossOrigin": false })
        .to_string()
        .into_bytes()
}

/// Authenticator data (`WebAuthn`, 6.1): whose name, who was there, and how often it signed.
fn data(way: &Way, more: u8, counter: u32) -> Vec<u8> {
    let (present, verified) = (0x01, 0x04);
    let flags = present | if way.verified { verified } else { 0 } | more;
    let mut data = Sha256::digest(way.name.as_bytes()).to_vec();
    data.push(flags);
    data.extend_from_slice(&counter.to_be_bytes());
    data
}

impl Held {
    /// Makes a passkey and the answer that tells of it (CBOR by hand: a map of three, no attestation).
    fn make(seed: u8, options: &Value, way: &Way) -> (Self, String) {
        let signer = SigningKey::from_slice(&[seed; 32]).unwrap();
        let handle = BASE64.decode(options["user"]["id"].as_str().unwrap()).unwrap();
        let held = Self { id: vec![seed; 16], handle, signer, counter: 1 };
        let point = held.signer.verifying_key().to_encoded_point(false);
        let mut said = data(way, 0x40, held.counter);
        said.extend_from_slice(&[0; 16]);
        said.extend_from_slice(&[0, 16]);
        said.extend_from_slice(&held.id);
        // COSE: an ES256 key on P-256.
        said.extend_from_slice(&[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        said.extend_from_slice(point.x().unwrap());
        said.extend_from_slice(&[0x22, 0x58, 0x20]);
        said.extend_from_slice(point.y().unwrap());
        let mut object = vec![0xa3, 0x63];
        object.extend_from_slice(b"fmt");
        object.push(0x64);
        object.extend_from_slice(b"none");
        object.push(0x67);
        object.extend_from_slice(b"attStmt");
        object.extend_from_slice(&[0xa0, 0x68]);
        object.extend_from_slice(b"authData");
        object.extend_from_slice(&[0x58, u8::try_from(said.len()).unwrap()]);
        object.extend_from_slice(&said);
        let response = json!({
            "attestationObject": BASE64.encode(object),
            "clientDataJSON": BASE64.encode(client_data("webauthn.create", options, way)),
        });
        let answer = held.wrapped(&response);
        (held, answer)
    }

    fn wrapped(&self, response: &Value) -> String {
        let id = BASE64.encode(&self.id);
        json!({ "id": id, "rawId": id, "type": "public-key", "response": response, "extensions": {} }).to_string()
    }

    /// Signs, one further on.
    fn sign(&mut self, options: &Value, way: &Way) -> String {
        self.counter += 1;
        self.signed(options, way)
    }

    fn signed(&self, options: &Value, way: &Way) -> String {
        let said = data(way, 0, self.counter);
        let client = client_data("webauthn.get", options, way);
        let signed: Vec<u8> = [said.as_slice(), &Sha256::digest(&client)].concat();
        let signature: Signature = self.signer.sign(&signed);
        self.wrapped(&json!({
            "authenticatorData": BASE64.encode(said), "clientDataJSON": BASE64.encode(client),
            "signature": BASE64.encode(signature.to_der()), "userHandle": BASE64.encode(&self.handle),
        }))
    }
}

/// What the page's script is told.
fn options_of(page: &Answer) -> Value {
    assert_eq!(page.status, 200, "{}", page.text);
    let text = page.text.split("data-options=\"").nth(1).expect("a question").split('"').next().unwrap();
    serde_json::from_str(&text.replace("&#34;", "\"").replace("&quot;", "\"").replace("&#38;", "&")).unwrap()
}

async fn invited(cloud: &Cloud, tenant: &Tenant, email: &str, passkey: bool) -> String {
    let wanted = json!({ "email": email, "role": "developer", "passkey": passkey });
    let made = cloud.call(&tenant.owner, "invitation_create", &[&tenant.organisation()], wanted).await.good();
    made["text"].as_str().unwrap().to_owned()
}

/// Somebody who took up an invitation with a first passkey.
async fn joined<'a>(cloud: &'a Cloud, tenant: &Tenant, email: &str, seed: u8) -> (Browser<'a>, Held) {
    let text = invited(cloud, tenant, email, true).await;
    let mut browser = Browser::at(cloud, ORIGIN);
    let page = browser.post("/console/passkeys/join", &[("text", &text), ("name", "key ring")]).await;
    let (held, answer) = Held::make(seed, &options_of(&page), &TRUE);
    let joined = browser.post("/console/passkeys/joined", &[("answer", &answer)]).await;
    assert_eq!(joined.status, 200, "{}", joined.text);
    (browser, held)
}

async fn asked(browser: &mut Browser<'_>) -> Value {
    options_of(&browser.post("/console/passkeys/sign-in", &[]).await)
}

async fn signed(browser: &mut Browser<'_>, answer: &str) -> Answer {
    browser.post("/console/passkeys/signed", &[("answer", answer)]).await
}

#[tokio::test]
async fn whoever_is_invited_to_joins_with_a_passkey_and_comes_back_with_it() {
    let (_, cloud, tenant) = world().await;
    let (mut ada, mut held) = joined(&cloud, &tenant, "ada@example.eu", 1).await;
    let page = ada.get("/console").await;
    assert!(page.status == 200 && page.text.contains("ada@example.eu"), "{}", page.text);
    let mut later = Browser::at(&cloud, ORIGIN);
    let options = asked(&mut later).await;
    assert_eq!((&options["rpId"], &options["userVerification"]), (&json!(NAME), &json!("required")));
    assert_eq!(options["allowCredentials"], json!([]), "nobody is named");
    let answer = held.sign(&options, &TRUE);
    assert_eq!(signed(&mut later, &answer).await.status, 200);
    assert_eq!(later.get("/console").await.status, 200);

    // Another one, made by whoever is signed in; the first may go then, and the last may not.
    let csrf = later.csrf("/console/passkeys").await;
    let page = later.post("/console/passkeys", &[("csrf", &csrf), ("name", "phone <b>")]).await;
    let options = options_of(&page);
    assert_eq!(options["excludeCredentials"][0]["id"], BASE64.encode(&held.id));
    let (mut phone, answer) = Held::make(2, &options, &TRUE);
    let added = later.post("/console/passkeys/added", &[("csrf", &csrf), ("answer", &answer)]).await;
    assert_eq!(added.status, 303, "{}", added.text);
    let list = later.get("/console/passkeys").await.text;
    assert!(list.contains("key ring") && list.contains("phone &#60;b&#62;"), "{list}");
    let person = cloud.store.members_of(tenant.organisation).await.unwrap()[0].person;
    let [first, second] = cloud.store.passkeys_of(person).await.unwrap().try_into().unwrap();
    let remove = |id: gregal_core::id::PasskeyId| format!("/console/passkeys/{id}/remove");
    let fields = [("csrf", csrf.as_str()), ("really", "yes")];
    assert_eq!(later.post(&remove(first.id), &fields).await.status, 303);
    let refused = later.post(&remove(second.id), &fields).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let mut third = Browser::at(&cloud, ORIGIN);
    let options = asked(&mut third).await;
    assert_eq!(signed(&mut third, &held.sign(&options, &TRUE)).await.status, 401, "it was removed");
    let options = asked(&mut third).await;
    assert_eq!(signed(&mut third, &phone.sign(&options, &TRUE)).await.status, 200);

    let log = entries(&cloud, &tenant).await;
    let told = |action: &str| log.iter().filter(|entry| entry["action"] == action).count();
    assert_eq!((told("passkey:add"), told("passkey:remove")), (2, 1));
    let all = cloud.get(&cloud.operator, "/api/v1/audit?limit=500").await.text;
    for clear in ["ada@example.eu", "key ring", "phone <b>"] {
        assert!(!all.contains(clear) && !format!("{log:?}").contains(clear), "{clear} is in a log");
    }
}

/// Tells one lie to a fresh question; answers what was said to it.
async fn lied(cloud: &Cloud, lie: impl FnOnce(&Value) -> String) -> u16 {
    let mut browser = Browser::at(cloud, ORIGIN);
    let options = asked(&mut browser).await;
    let answer = signed(&mut browser, &lie(&options)).await;
    assert!(!browser.cookies.contains_key("gregal_console"), "{}", answer.text);
    // Denials of one actor are bounded; a minute makes room.
    cloud.world.pass_seconds(61);
    answer.status
}

#[tokio::test]
async fn no_lie_about_a_passkey_is_taken_and_each_is_told_of() {
    let (_, cloud, tenant) = world().await;
    let (_, mut held) = joined(&cloud, &tenant, "ada@example.eu", 1).await;
    let (_, other) = joined(&cloud, &tenant, "bob@example.eu", 2).await;
    let mut log = Vec::new();
    let mut refused = async |why: &'static str, lie: &mut dyn FnMut(&Value) -> String| {
        assert_eq!(lied(&cloud, |options| lie(options)).await, 401, "{why}");
        log.push(why);
    };
    let evil = Way { origin: "http://localhost:7481", ..TRUE };
    refused("it was made at another origin", &mut |options| held.sign(options, &evil)).await;
    let evil = Way { origin: "https://evil.example", ..TRUE };
    refused("it was made at another origin", &mut |options| held.sign(options, &evil)).await;
    let elsewhere = Way { name: "evil.example", ..TRUE };
    refused("it was made for another name", &mut |options| held.sign(options, &elsewhere)).await;
    let nobody = Way { verified: false, ..TRUE };
    refused("nobody was verified", &mut |options| held.sign(options, &nobody)).await;
    let made = Way { kind: "webauthn.create", ..TRUE };
    refused("the answer does not hold", &mut |options| held.sign(options, &made)).await;
    refused("the challenge is another", &mut |options| {
        let mut before = options.clone();
        before["challenge"] = json!(BASE64.encode([7; 32]));
        held.sign(&before, &TRUE)
    })
    .await;
    refused("the signature does not hold", &mut |options| {
        Held { signer: SigningKey::from_slice(&[9; 32]).unwrap(), ..held.clone() }.sign(options, &TRUE)
    })
    .await;
    refused("there is no such passkey", &mut |options| Held { id: vec![9; 16], ..held.clone() }.sign(options, &TRUE))
        .await;
    // Bob's passkey that says it is Ada, and the other way round.
    refused("the passkey is somebody else's", &mut |options| {
        Held { handle: held.handle.clone(), ..other.clone() }.sign(options, &TRUE)
    })
    .await;
    refused("the answer is no authenticator's", &mut |_| "{}".into()).await;
    // A true answer is taken once: the copy of a copy finds its counter further on.
    let mut ada = Browser::at(&cloud, ORIGIN);
    let options = asked(&mut ada).await;
    let copy = held.clone();
    let answer = held.sign(&options, &TRUE);
    assert_eq!(signed(&mut ada, &answer).await.status, 200);
    assert_eq!(signed(&mut ada, &answer).await.status, 400, "this question was answered");
    refused("its counter went back: there may be a copy", &mut |options| copy.clone().sign(options, &TRUE)).await;
    let said = cloud.get(&cloud.operator, "/api/v1/audit?limit=500").await.text;
    for why in log {
        assert!(said.contains(why), "{why} is not in the log: {said}");
    }
    // Another browser cannot answer this one's question.
    let options = asked(&mut ada).await;
    let mut eve = Browser::at(&cloud, ORIGIN);
    assert_eq!(signed(&mut eve, &held.sign(&options, &TRUE)).await.status, 400);
    // And a question is over after five minutes.
    let options = asked(&mut ada).await;
    cloud.world.pass_seconds(300);
    assert_eq!(signed(&mut ada, &held.sign(&options, &TRUE)).await.status, 400);
    let options = asked(&mut ada).await;
    assert_eq!(signed(&mut ada, &held.sign(&options, &TRUE)).await.status, 200);
}

#[tokio::test]
async fn no_lie_about_a_new_passkey_takes_up_an_invitation() {
    let (_, cloud, tenant) = world().await;
    let text = invited(&cloud, &tenant, "ada@example.eu", true).await;
    for (what, way) in [
        ("another origin", Way { origin: "https://evil.example", ..TRUE }),
        ("another name", Way { name: "evil.example", ..TRUE }),
        ("nobody verified", Way { verified: false, ..TRUE }),
        ("a sign-in", Way { kind: "webauthn.get", ..TRUE }),
    ] {
        let mut browser = Browser::at(&cloud, ORIGIN);
        let page = browser.post("/console/passkeys/join", &[("text", &text), ("name", "mine")]).await;
        let (_, answer) = Held::make(1, &options_of(&page), &way);
        let told = browser.post("/console/passkeys/joined", &[("answer", &answer)]).await;
        assert_eq!(told.status, 401, "{what}: {}", told.text);
    }
    assert_eq!(cloud.store.members_of(tenant.organisation).await.unwrap(), []);
    // Somebody's passkey is nobody else's.
    joined(&cloud, &tenant, "bob@example.eu", 7).await;
    let mut browser = Browser::at(&cloud, ORIGIN);
    let page = browser.post("/console/passkeys/join", &[("text", &text), ("name", "mine")]).await;
    let (_, answer) = Held::make(7, &options_of(&page), &TRUE);
    assert_eq!(browser.post("/console/passkeys/joined", &[("answer", &answer)]).await.status, 409);
    // The text still works, once.
    let page = browser.post("/console/passkeys/join", &[("text", &text), ("name", "mine")]).await;
    let (_, answer) = Held::make(1, &options_of(&page), &TRUE);
    assert_eq!(browser.post("/console/passkeys/joined", &[("answer", &answer)]).await.status, 200);
    let again = browser.post("/console/passkeys/join", &[("text", &text), ("name", "mine")]).await;
    assert_eq!(again.status, 404);
}

#[tokio::test]
async fn a_passkey_opens_no_invitation_that_does_not_say_so_and_nothing_of_a_providers_domain() {
    let (_, cloud, tenant) = world().await;
    let plain = invited(&cloud, &tenant, "eve@example.eu", false).await;
    let mut eve = Browser::at(&cloud, ORIGIN);
    let told = eve.post("/console/passkeys/join", &[("text", &plain), ("name", "mine")]).await;
    assert_eq!(told.status, 404, "{}", told.text);
    // Nobody verified her address: an invitation for it that asks for more is not hers, whoever gave her the text.
    let (mut eve, mut held) = joined(&cloud, &tenant, "eve@example.eu", 1).await;
    let other = cloud.tenant("Other", 0).await;
    let text = invited(&cloud, &other, "eve@example.eu", false).await;
    let csrf = eve.csrf("/console/welcome").await;
    assert_eq!(eve.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await.status, 404);
    let text = invited(&cloud, &other, "eve@example.eu", true).await;
    assert_eq!(eve.post("/console/welcome/join", &[("csrf", &csrf), ("text", &text)]).await.status, 303);

    // Her domain becomes somebody's, with a provider: from then on only that one vouches.
    let pending = invited(&cloud, &tenant, "ann@example.eu", true).await;
    let domain = json!({ "issuer": "http://127.0.0.1:9", "client_id": "gregal" });
    let place = [tenant.organisation(), "example.eu".to_owned()];
    let place = [place[0].as_str(), place[1].as_str()];
    cloud.call(&cloud.operator, "domain_write", &place, domain).await.good();
    assert_eq!(eve.get("/console").await.headers["location"], "/console/sign-in");
    assert_eq!(lied(&cloud, |options| held.sign(options, &TRUE)).await, 401);
    let mut ann = Browser::at(&cloud, ORIGIN);
    assert_eq!(ann.post("/console/passkeys/join", &[("text", &pending), ("name", "mine")]).await.status, 404);
    cloud.call(&cloud.operator, "domain_remove", &place, Value::Null).await.good();
    let options = asked(&mut eve).await;
    assert_eq!(signed(&mut eve, &held.sign(&options, &TRUE)).await.status, 200);
}

#[tokio::test]
async fn by_another_name_of_the_machine_a_page_leads_to_where_passkeys_work() {
    let (_, cloud, _) = world().await;
    let mut browser = Browser::new(&cloud);
    let page = browser.post("/console/passkeys/sign-in", &[]).await;
    assert!(page.text.contains("http://localhost:7480/console/sign-in"), "{}", page.text);
    let mut foreign = Browser::at(&cloud, "https://evil.example");
    foreign.host = Some("127.0.0.1:7480");
    assert_eq!(foreign.post("/console/passkeys/sign-in", &[]).await.status, 403);
}
