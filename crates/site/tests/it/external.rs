//! Endpoints that a server answers for which Gregal did not start: one named by the settings, over TCP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::StreamExt as _;
use gregal_core::meter::{Meter, UsageEvent};
use gregal_site::External;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    control::{ENDPOINT, OWNER},
    world::{Running, World, until},
};

/// A server that nobody here started: it says what it was asked, and by how many connections.
#[derive(Default)]
struct Server {
    ill: AtomicBool,
    cut: AtomicUsize,
    made: AtomicUsize,
    connections: std::sync::Mutex<std::collections::BTreeSet<SocketAddr>>,
}

async fn serve(server: Arc<Server>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = async |State(server): State<Arc<Server>>| {
        if server.ill.load(Ordering::SeqCst) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    };
    let router = Router::new()
        .route("/well", get(health))
        .route("/v1/chat/completions", post(chat))
        .with_state(server)
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn chat(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Json(body): Json<Value>,
) -> Response {
    server.connections.lock().unwrap().insert(peer);
    assert_eq!(body["model"], "their-name", "the server is asked by its own name");
    let content = body["messages"][0]["content"].as_str().unwrap().to_owned();
    if content == "bad" {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": {"message": "too long"}}))).into_response();
    }
    if body["stream"] != true {
        assert_eq!(body.get("stream_options"), None);
        let choice =
            json!({"index": 0, "message": {"role": "assistant", "content": "\"model\": {\\"}, "finish_reason": "stop"});
        let mut answer = json!({"id": "x", "model": "their-name", "choices": [choice], "system_fingerprint": "f"});
        if content != "mute" {
            answer["usage"] = json!({"prompt_tokens": 120, "completion_tokens": 200, "total_tokens": 320});
        }
        return Json(answer).into_response();
    }
    let (out, mut pieces) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    tokio::spawn(async move {
        let pieces = if content == "endless" { usize::MAX } else { 3 };
        for number in 0..pieces {
            let why = if number + 1 == pieces { json!("stop") } else { Value::Null };
            let choice = json!({"index": 0, "delta": {"content": format!("w{number} ")}, "finish_reason": why});
            let chunk = json!({"id": "x", "model": "their-name", "choices": [choice]});
            if out.send(Ok(format!("data: {chunk}\n\n").into())).await.is_err() {
                server.cut.fetch_add(1, Ordering::SeqCst);
                return;
            }
            server.made.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 3});
        let chunk = json!({"id": "x", "model": "their-name", "choices": [], "usage": usage});
        drop(out.send(Ok(format!("data: {chunk}\n\ndata: [DONE]\n\n").into())).await);
    });
    Body::from_stream(futures_util::stream::poll_fn(move |context| pieces.poll_recv(context))).into_response()
}

/// A site whose endpoint stands for a server; it answers.
async fn started() -> (World, Arc<Server>, Running) {
    let mut world = World::new().await;
    let server = Arc::new(Server::default());
    world.external = vec![External {
        name: "theirs".into(),
        address: serve(Arc::clone(&server)).await,
        model: "their-name".into(),
        context: 1_000,
        price_item: "embedded".into(),
        health: "/well".into(),
        requests_max: 2,
    }];
    world.control.change(|intent| {
        intent.endpoints.retain(|one| one.endpoint == ENDPOINT);
        intent.endpoints[0].shared = Some("theirs".into());
        intent.endpoints[0].sku = None;
    });
    let site = world.start_ready().await;
    (world, server, site)
}

fn ask(content: &str, stream: bool) -> Value {
    json!({"model": "chat", "messages": [{"role": "user", "content": content}], "stream": stream})
}

async fn billed(world: &World, records: usize) -> Vec<UsageEvent> {
    until("usage to reach control", async || Some(world.control.usage()).filter(|usage| usage.len() >= records)).await
}

fn tokens(usage: &[UsageEvent], meter: Meter) -> (u64, bool) {
    let mine = usage.iter().find(|event| event.meter == meter).unwrap();
    assert_eq!(mine.subject, ENDPOINT.to_string());
    (mine.quantity, mine.estimated.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_the_operator_named_answers_in_one_piece_and_is_billed_by_what_it_says() {
    let (world, server, site) = started().await;
    for _ in 0..3 {
        let answer: Value = site.chat(OWNER, &ask("hi", false)).await.json().await.unwrap();
        assert_eq!(
            (answer["model"].as_str(), answer["usage"]["completion_tokens"].as_u64()),
            (Some("chat"), Some(200))
        );
        assert_eq!(answer["choices"][0]["message"]["content"], "\"model\": {\\");
        assert_eq!((answer["id"].as_str(), answer["system_fingerprint"].as_str()), (Some("x"), Some("f")));
    }
    assert!(server.connections.lock().unwrap().len() <= 2, "connections are used again");
    let usage = billed(&world, 6).await;
    assert_eq!((tokens(&usage, Meter::TokensIn), tokens(&usage, Meter::TokensOut)), ((120, false), (200, false)));
    assert_eq!(usage.len(), 6, "no time is billed");
    let observed = world.control.last().unwrap();
    assert_eq!(observed.capacity.shared.len(), 1, "control is told what the site offers");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_not_count_is_estimated_and_says_so() {
    let (world, _server, site) = started().await;
    assert_eq!(site.chat(OWNER, &ask("mute", false)).await.status(), 200);
    let usage = billed(&world, 2).await;
    assert_eq!((tokens(&usage, Meter::TokensIn), tokens(&usage, Meter::TokensOut)), ((1, true), (4, true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_stream_is_passed_on_under_the_name_that_was_asked_for() {
    let (world, _server, site) = started().await;
    let mut body = ask("hi", true);
    body["stream_options"] = json!({"include_usage": true});
    let text = site.chat(OWNER, &body).await.text().await.unwrap();
    let events: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!((events.len(), events[4]), (5, "[DONE]"));
    for (number, event) in events[..4].iter().enumerate() {
        let chunk: Value = serde_json::from_str(event).unwrap();
        assert_eq!((chunk["model"].as_str(), chunk["id"].as_str()), (Some("chat"), Some("x")));
        match number {
            3 => assert_eq!((&chunk["choices"], chunk["usage"]["completion_tokens"].as_u64()), (&json!([]), Some(3))),
            _ => assert_eq!(
                (&chunk["choices"][0]["delta"]["content"], &chunk["usage"]),
                (&json!(format!("w{number} ")), &Value::Null)
            ),
        }
    }
    let usage = billed(&world, 2).await;
    assert_eq!((tokens(&usage, Meter::TokensIn), tokens(&usage, Meter::TokensOut)), ((9, false), (3, false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_cuts_the_server_and_pays_what_was_passed_on() {
    let (world, server, site) = started().await;
    let mut pieces = site.chat(OWNER, &ask("endless", true)).await.bytes_stream();
    let mut text = String::new();
    while text.matches("\"w").count() < 5 {
        text += std::str::from_utf8(&pieces.next().await.unwrap().unwrap()).unwrap();
    }
    drop(pieces);
    until("the server to be cut", async || (server.cut.load(Ordering::SeqCst) == 1).then_some(())).await;
    let usage = billed(&world, 2).await;
    let (out, estimated) = tokens(&usage, Meter::TokensOut);
    let made = server.made.load(Ordering::SeqCst) as u64;
    assert!(estimated && (5..=made).contains(&out), "{out} of {made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_well_gets_no_requests_and_is_believed_again_when_it_is() {
    let (world, server, site) = started().await;
    server.ill.store(true, Ordering::SeqCst);
    until("the site to notice", async || (site.chat(OWNER, &ask("hi", false)).await.status() == 503).then_some(()))
        .await;
    server.ill.store(false, Ordering::SeqCst);
    until("the site to notice", async || (site.chat(OWNER, &ask("hi", false)).await.status() == 200).then_some(()))
        .await;
    // What control revokes is revoked at once, whatever was decided before.
    world.control.change(|intent| intent.keys.clear());
    until("the key to end", async || (site.chat(OWNER, &ask("hi", false)).await.status() == 401).then_some(())).await;
}
