//! What somebody with bad intent sends, and what comes of it: nothing. Each test fails when its defence is taken away.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, header},
};
use gregal_api::routes::{Access, ROUTES, Route, route};
use gregal_core::attempts::WRONG_MAX;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    authorisation::World,
    world::{Answer, Cloud, path_of},
};

impl World {
    /// Sends a body to a route as whoever may use it.
    async fn sends(&self, route: &Route, body: Value) -> Answer {
        let parameters = self.parameters(route);
        let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
        let as_owner = self.cloud.call(&self.tenant.owner, route.id, &parameters, body.clone()).await;
        if ![403, 404].contains(&as_owner.status) {
            return as_owner;
        }
        self.cloud.call(&self.cloud.operator, route.id, &parameters, body).await
    }
}

/// Routes of keys that take a body.
fn with_bodies() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.request.is_some() && matches!(route.access, Access::Key(_)))
}

/// Routes that make what has a title for people, not a label.
const TITLED: [&str; 6] = [
    "key_create",
    "organisation_create",
    "operator_key_create",
    "scim_credential_create",
    "service_account_create",
    "service_account_key_create",
];

#[tokio::test]
async fn a_body_sets_what_the_contract_says_and_nothing_beside_it() {
    let world = World::open().await;
    let smuggled = [
        ("id", json!("job_00000000000000000000000000")),
        ("organisation", json!("org_00000000000000000000000000")),
        ("role_", json!("owner")),
        ("state", json!("finished")),
        ("hold", json!(null)),
        ("billed", json!({ "ms": 0 })),
        ("version", json!(7)),
        ("created_at", json!("2020-01-01T00:00:00Z")),
        ("__proto__", json!({ "admin": true })),
    ];
    let mut let_in = Vec::new();
    for route in with_bodies() {
        for (field, value) in &smuggled {
            let mut body = world.body(route);
            body.as_object_mut().unwrap().insert((*field).into(), value.clone());
            let answer = world.sends(route, body).await;
            if answer.status != 400 || answer.problem() != "invalid_request" {
                let_in.push(format!("{} took `{field}`: {}", route.id, answer.status));
            }
        }
    }
    assert!(let_in.is_empty(), "{}", let_in.join("\n"));
}

#[tokio::test]
async fn a_field_said_twice_is_refused_and_no_reader_takes_another_one_than_the_next() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let body = r#"{"name":"k","role":"viewer","role":"owner"}"#;
    let request = Request::builder().method("POST").uri(path_of("key_create", &[&tenant.project()]));
    let request = request.header("authorization", format!("Bearer {}", tenant.owner));
    let answer = cloud.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid_request"));
}

#[tokio::test]
async fn a_cursor_of_somebody_elses_list_opens_nothing_of_it() {
    let world = World::open().await;
    let stranger = world.cloud.tenant("Other", 0).await;
    let theirs: Vec<String> = ROUTES.iter().flat_map(|route| world.parameters_of(route)).collect();
    assert!(theirs.iter().any(|id| id.starts_with("job_")) && theirs.iter().any(|id| id.starts_with("ds_")));
    for route in ROUTES.iter().filter(|route| route.id.ends_with("_list") && matches!(route.access, Access::Key(_))) {
        let own = [stranger.organisation(), stranger.project()];
        let path = route.path.replace("{organisation}", &own[0]).replace("{project}", &own[1]);
        if path.contains('{') {
            continue;
        }
        for id in &theirs {
            // What has a name for an id has no prefix.
            let prefix = id.split_once('_').map_or("a", |(prefix, _)| prefix);
            for cursor in [id.clone(), format!("{prefix}_{}", "0".repeat(26)), "0".into()] {
                let answer = world.cloud.get(&stranger.owner, &format!("{path}?after={cursor}")).await;
                let own = |id: &&String| !own.contains(id);
                let leaked =
                    theirs.iter().filter(own).find(|id| answer.text.replace(&cursor, "").contains(id.as_str()));
                assert_eq!(leaked, None, "{} after {cursor}: {}", route.id, answer.text);
            }
        }
    }
}

impl World {
    /// The tenant's ids that a route names: what a stranger must not read of.
    fn parameters_of(&self, route: &Route) -> Vec<String> {
        let public = ["{site}", "{sku}", "{policy}", "{level}", "{*place}"];
        let is_theirs = !public.iter().any(|name| route.path.contains(name));
        if is_theirs { self.parameters(route) } else { Vec::new() }
    }
}

#[tokio::test]
async fn two_credentials_are_none_and_a_header_changes_neither_method_nor_path() {
    let cloud = Cloud::open().await;
    let (tenant, other) = (cloud.tenant("Acme", 0).await, cloud.tenant("Other", 0).await);
    let request = |headers: &[(&str, &str)]| {
        let mut request = Request::builder().uri(path_of("project_read", &[&tenant.project()]));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    };
    let (mine, theirs) = (format!("Bearer {}", tenant.owner), format!("Bearer {}", other.owner));
    for both in [
        [("authorization", mine.as_str()), ("authorization", theirs.as_str())],
        [("authorization", theirs.as_str()), ("authorization", mine.as_str())],
    ] {
        assert_eq!(cloud.send(request(&both)).await.status, 401);
    }
    for ignored in
        ["x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url", "x-forwarded-user"]
    {
        let answer = cloud.send(request(&[("authorization", &mine), (ignored, "/api/v1/audit")])).await;
        assert_eq!((answer.status, &answer.good()["id"]), (200, &json!(tenant.project())), "{ignored}");
    }
    // What a cookie proves to the console, it proves to nobody else.
    let cookie = format!("gregal_console={}", tenant.owner);
    assert_eq!(cloud.send(request(&[("cookie", &cookie)])).await.status, 401);
}

/// Sends bytes as they are; gives all that comes back until the server closes.
async fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_that_two_readers_would_cut_differently_is_carried_out_by_none() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = cloud.control.router();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let path = path_of("project_create", &[&tenant.organisation()]);
    let body = r#"{"name":"smuggled"}"#;
    let head = |more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n{more}\r\n",
            tenant.owner
        )
    };
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let length = body.len();
    for (why, bytes) in [
        ("two lengths", format!("{}{body}", head(&format!("content-length: {length}\r\ncontent-length: 4\r\n")))),
        ("a signed length", format!("{}{body}", head(&format!("content-length: +{length}\r\n")))),
        ("a coding that is none", format!("{}{chunked}", head("transfer-encoding: xchunked\r\n"))),
        ("chunked not last", format!("{}{chunked}", head("transfer-encoding: chunked, identity\r\n"))),
        ("a blank before the colon", format!("{}{body}", head(&format!("content-length : {length}\r\n")))),
        ("a folded line", format!("{}{body}", head(&format!("content-length:\r\n {length}\r\n")))),
        ("a null byte", format!("{}{body}", head(&format!("x: a\0b\r\ncontent-length: {length}\r\n")))),
    ] {
        let answer = raw(address, bytes.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or("closed");
        assert_eq!(status, "400", "{why}: {answer}");
    }
    let projects = cloud.call(&tenant.owner, "projects_list", &[&tenant.organisation()], Value::Null).await.good();
    assert!(!projects.to_string().contains("smuggled"), "{projects}");
    // The same, said plainly, is carried out: the refusals above were for how it was cut.
    let plain = format!("{}{body}", head(&format!("content-length: {length}\r\n")));
    assert!(raw(address, plain.as_bytes()).await.starts_with("HTTP/1.1 201"), "a plain one");
    server.abort();
}

#[tokio::test]
async fn no_name_leads_out_of_where_it_stands_or_speaks_to_a_terminal() {
    let world = World::open().await;
    let names = [
        "../../etc/passwd",
        "..",
        "a/../b",
        "a\\b",
        "a\nb",
        "a\u{1b}[31m",
        "\u{9b}31m",
        "a\u{202e}b",
        "a\u{2066}b",
        "a\0b",
        "",
    ];
    let routes: Vec<&Route> = with_bodies().filter(|route| world.body(route).get("name").is_some()).collect();
    assert!(routes.len() > 6, "{}", routes.len());
    for route in routes {
        for name in names {
            let mut body = world.body(route);
            body["name"] = json!(name);
            let answer = world.sends(route, body).await;
            let is_title = ["../../etc/passwd", "..", "a/../b", "a\\b"].contains(&name) && answer.status == 201;
            // A title for people may say anything that is text; it is never a path, and comes back as it was.
            assert!(is_title || answer.status == 400, "{} named {name:?}: {}", route.id, answer.text);
            if is_title {
                let made = answer.good();
                let kept = [&made["name"], &made["key"]["name"], &made["organisation"]["name"]];
                assert!(kept.contains(&&json!(name)), "{} named {name:?}: {made}", route.id);
                assert!(TITLED.contains(&route.id), "{} takes {name:?}", route.id);
            }
        }
    }
    for path in [
        "/api/v1/projects/../organisations",
        "/api/v1/jobs/..%2f..%2faudit",
        "/api/v1/jobs/%00",
        "/api/v1//audit",
        "/api/v1/jobs/%2e%2e",
    ] {
        let answer = world.cloud.get(&world.tenant.owner, path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn what_was_named_is_never_run_as_a_template_or_a_format() {
    let cloud = Cloud::open().await;
    for name in ["{{7*7}}", "{% raw %}", "${jndi:ldap://x}", "%s%n%x", "<script>", "=1+1"] {
        let tenant = cloud.tenant(name, 0).await;
        let read = cloud.call(&tenant.owner, "organisation_read", &[&tenant.organisation()], Value::Null).await.good();
        assert_eq!(read["name"], json!(name));
    }
}

#[tokio::test]
async fn a_repeated_request_is_answered_only_to_who_may_still_ask_it() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let made =
        cloud.call(&tenant.owner, "key_create", &[&tenant.project()], json!({ "name": "a", "role": "admin" })).await;
    let (key, id) = (made.good()["secret"].as_str().unwrap().to_owned(), made.good()["key"]["id"].clone());
    let wanted = json!({ "name": "b", "role": "viewer" });
    let once =
        async |key: &str, path: &str| cloud.call_once(key, "key_create", &[path], wanted.clone(), Some("once")).await;
    once(&key, &tenant.project()).await.good();
    // The same key and the same text, about another tenant's project: no answer of before, and no word of it.
    let other = cloud.tenant("Other", 0).await;
    assert_eq!(once(&key, &other.project()).await.problem(), "not_found");
    cloud.call(&tenant.owner, "key_revoke", &[id.as_str().unwrap()], Value::Null).await.good();
    assert_eq!(once(&key, &tenant.project()).await.problem(), "unauthenticated");
}

#[tokio::test]
async fn answers_carry_no_word_of_what_they_run_on() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    for id in ["whoami", "prices_list", "openapi_read"] {
        let answer = cloud.call(&tenant.owner, id, &[], Value::Null).await;
        for name in [header::SERVER.as_str(), "x-powered-by", "via"] {
            assert!(answer.headers.get(name).is_none(), "{id} says {name}");
        }
        assert_eq!(answer.headers["cache-control"], "no-store", "{id}");
    }
    assert!(route("whoami").is_some());
}

impl Cloud {
    /// Asks who a key is, from an address.
    async fn asked_from(&self, address: &str, key: &str) -> Answer {
        let mut request =
            Request::builder().uri(path_of("whoami", &[])).header("authorization", format!("Bearer {key}"));
        // Only a proxy that the cloud's operator named may say so.
        request = request.header("x-forwarded-for", "198.51.100.9");
        let mut request = request.body(Body::empty()).unwrap();
        let peer: SocketAddr = format!("{address}:4711").parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        self.send(request).await
    }
}

#[tokio::test]
async fn whoever_guesses_keys_is_told_to_wait_and_nobody_beside_him_is() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let guess = async |address: &str, number: u32| cloud.asked_from(address, &format!("gk_{number:064x}")).await;
    for (here, beside) in [("192.0.2.7", "192.0.2.8"), ("[2001:db8:0:1::7]", "[2001:db8:0:2::7]")] {
        for number in 0..WRONG_MAX {
            assert_eq!(guess(here, number).await.problem(), "unauthenticated", "{here}");
        }
        let told = guess(here, WRONG_MAX).await;
        assert_eq!((told.status, told.problem().as_str()), (429, "overloaded"), "{here}");
        assert_eq!(told.headers["retry-after"], "60");
        assert_eq!(cloud.asked_from(here, &tenant.owner).await.status, 200, "a right key from there is let in");
        assert_eq!(guess(beside, 0).await.status, 401, "{beside}");
    }
    assert_eq!(guess("[2001:db8:0:1::8]", 0).await.status, 429, "one subscriber is one place");
    cloud.world.pass_seconds(60);
    assert_eq!(guess("192.0.2.7", 0).await.status, 401);
}
