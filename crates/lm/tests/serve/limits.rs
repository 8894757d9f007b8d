//! Limits, refusals, hang-ups and the end.

use gregal_lm::serve::{self, Listen, Options};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::client::{Server, chat, events};

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let server = Server::start(|_| {}).await;
    let cases = [
        (json!({"n": 2}), 400, "n", "unsupported_parameter"),
        (json!({"tools": [{"type": "function"}]}), 400, "tools", "unsupported_parameter"),
        (json!({"logprobs": true}), 400, "logprobs", "unsupported_parameter"),
        (json!({"response_format": {"type": "json_object"}}), 400, "response_format", "unsupported_parameter"),
        (json!({"presence_penalty": 0.5}), 400, "presence_penalty", "unsupported_parameter"),
        (json!({"colour": "red"}), 400, "colour", "unknown_parameter"),
        (json!({"temperature": 3}), 400, "temperature", "invalid_value"),
        (json!({"max_tokens": 0}), 400, "max_tokens", "invalid_value"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), 400, "stop", "invalid_value"),
        (json!({"stream_options": {"include_usage": true}}), 400, "stream_options", "invalid_value"),
        (json!({"messages": []}), 400, "messages", "invalid_value"),
        (json!({"messages": [{"role": "tool", "content": ""}]}), 400, "messages[0].role", "unsupported_parameter"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            400,
            "messages[0].content[0].type",
            "unsupported_parameter",
        ),
        (json!({"model": "gpt-4"}), 404, "model", "model_not_found"),
        (json!({"max_tokens": 500}), 400, "messages", "context_length_exceeded"),
    ];
    for (with, status, param, code) in cases {
        let (got, error) = server.post("/v1/chat/completions", &chat("Hi", with.clone())).await;
        let error = &error["error"];
        assert_eq!((got, &error["param"], &error["code"]), (status, &json!(param), &json!(code)), "{with}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn what_changes_nothing_is_accepted() {
    let server = Server::start(|_| {}).await;
    let neutral = json!({
        "n": 1, "logprobs": false, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "tools": [],
        "response_format": {"type": "text"}, "user": "u", "store": false, "seed": null, "stop": null,
        "max_completion_tokens": 3,
    });
    assert_eq!(server.chat("Hi", neutral).await["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let server = Server::start(|_| {}).await;
    let huge = vec![b' '; serve::BODY_BYTES_MAX + 1];
    for (body, status) in
        [(b"{\"model\":".to_vec(), 400), (b"\"\xff\"".to_vec(), 400), (b"[]".to_vec(), 400), (huge, 413)]
    {
        let response = server.send("POST", "/v1/chat/completions", body).await;
        assert_eq!(response.status(), status);
        let error: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert!(error["error"]["message"].is_string());
    }
    assert_eq!(server.get("/v1/embeddings").await.0, 404);
    assert_eq!(server.get("/v1/chat/completions").await.0, 405);
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_is_refused() {
    let server = Server::start(|_| {}).await;
    for length in [520, 2_000_000] {
        let (status, error) = server.post("/v1/chat/completions", &chat(&"x".repeat(length), json!({}))).await;
        assert_eq!((status, &error["error"]["code"]), (400, &json!("context_length_exceeded")));
    }
    let filling = chat(&"x".repeat(400), json!({"max_tokens": null, "temperature": 0}));
    let (_, answer) = server.post("/v1/chat/completions", &filling).await;
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() <= 512);
}

#[tokio::test]
async fn a_hang_up_frees_the_place() {
    // The answer would take minutes, so that only the hang-up can end it in time.
    let server = Server::start(|options| (options.batch_max, options.context) = (1, Some(65536))).await;
    for stream in [true, false] {
        let endless = chat("Go on", json!({"max_tokens": 65000, "stream": stream, "temperature": 0}));
        let asking = server.send("POST", "/v1/chat/completions", endless.to_string().into_bytes());
        if stream {
            let mut response = asking.await;
            response.body_mut().frame().await.unwrap().unwrap();
            server.until("it runs", async || server.get("/health").await.1["running"] == 1).await;
            drop(response);
        } else {
            let running = server.until("it runs", async || server.get("/health").await.1["running"] == 1);
            tokio::select! {
                _ = asking => panic!("it cannot be done yet"),
                () = running => {}
            }
        }
        server.until("its place is free", async || server.get("/health").await.1["running"] == 0).await;
        server.chat("Next", json!({})).await;
    }
}

#[tokio::test]
async fn beyond_the_queue_a_request_is_sent_away() {
    let endless = chat("Go on", json!({"max_tokens": 65000, "stream": true, "temperature": 0}));
    let server = Server::start(|options| {
        (options.batch_max, options.queue_max, options.context) = (1, 1, Some(65536));
    })
    .await;
    let ask = async || server.send("POST", "/v1/chat/completions", endless.to_string().into_bytes()).await;
    let running = ask().await;
    server.until("it runs", async || server.get("/health").await.1["running"] == 1).await;
    let waiting = ask().await;
    assert_eq!((running.status(), waiting.status()), (200.try_into().unwrap(), 200.try_into().unwrap()));
    let refused = ask().await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn stopping_lets_running_answers_end() {
    let mut server = Server::start(|options| options.context = Some(4096)).await;
    let body = chat("Go on", json!({"max_tokens": 2000, "stream": true, "temperature": 0}));
    let mut response = server.send("POST", "/v1/chat/completions", body.to_string().into_bytes()).await;
    response.body_mut().frame().await.unwrap().unwrap();
    server.stop();
    let rest = events(&response.into_body().collect().await.unwrap().to_bytes());
    assert!(rest.last().unwrap()["choices"][0]["finish_reason"].is_string());
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_model_that_cannot_be_read_ends_the_server_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path(), Listen::Unix(folder.path().join("lm.sock")));
    let error = serve::run_until(options, |_| {}, std::future::pending()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("config.json"), "{cause}");
}

#[tokio::test]
async fn a_socket_in_use_is_not_taken_over_and_a_dead_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("lm.sock");
    let alive = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let options = Options::new("no such model", Listen::Unix(socket.clone()));
    let taken = serve::run_until(options.clone(), |_| {}, std::future::pending()).await.unwrap_err();
    assert!(matches!(taken, serve::Error::Bind { .. }), "{taken}");
    drop(alive);
    let unreadable = serve::run_until(options, |_| {}, std::future::pending()).await.unwrap_err();
    assert!(matches!(unreadable, serve::Error::Weights(_)), "{unreadable}");
}

#[test]
fn only_this_machine_can_be_listened_to() {
    assert_eq!("unix:/run/lm.sock".parse::<Listen>().unwrap(), Listen::Unix("/run/lm.sock".into()));
    assert!("127.0.0.1:0".parse::<Listen>().is_ok());
    for open in ["0.0.0.0:80", "192.168.1.2:80", "localhost", ""] {
        assert!(open.parse::<Listen>().is_err(), "{open}");
    }
}
