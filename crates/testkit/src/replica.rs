//! A served model for tests, on a Unix socket. The last word of a request says what happens: `count:5` writes five pieces, `late:5` too, and tells their number late,
//! `slow` writes for ever, `held` too once it is released and `held:bad` is refused then, `reading` never comes to its first piece, `die:before` and `die:after` break the connection.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

/// What replicas were asked and made.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that reached the engine.
    pub asked: AtomicUsize,
    /// Pieces that were made.
    pub made: AtomicUsize,
    /// Streams whose reader went before their end.
    pub cut: AtomicUsize,
    /// Lets a request that is held back go on.
    pub release: Notify,
}

/// Tokens of every prompt, whatever it says.
pub const PROMPT_TOKENS: u64 = 7;

/// Serves on a socket until the task is dropped.
pub fn serve(socket: &Path, counts: Arc<Counts>) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let router = Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .with_state(counts);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

async fn chat(State(counts): State<Arc<Counts>>, Json(body): Json<Value>) -> Response {
    let content = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    if content.starts_with("held") {
        counts.asked.fetch_add(1, Ordering::SeqCst);
        counts.release.notified().await;
    }
    answer(counts, &body, content, true)
}

async fn completion(State(counts): State<Arc<Counts>>, Json(body): Json<Value>) -> Response {
    let content = body["prompt"].as_str().unwrap().to_owned();
    answer(counts, &body, content, false)
}

fn answer(counts: Arc<Counts>, body: &Value, content: String, chat: bool) -> Response {
    counts.asked.fetch_add(1, Ordering::SeqCst);
    assert_eq!(body["stream"], true, "the gateway always streams");
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
    if content == "die:before" {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if content == "bad" || content == "held:bad" {
        let error = json!({"error": {"message": "the prompt is longer than the context", "param": "messages", "code": "context_length_exceeded"}});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let (out, pieces) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    tokio::spawn(write(counts, content, chat, out));
    let body = futures_util::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        if piece.is_err() {
            // A server drops what it has not flushed when its body breaks, and flushes when it has to wait.
            tokio::task::yield_now().await;
        }
        Some((piece, pieces))
    });
    Body::from_stream(body).into_response()
}

async fn write(counts: Arc<Counts>, content: String, chat: bool, out: mpsc::Sender<Result<Bytes, std::io::Error>>) {
    let chunk = |choices: Value, usage: Value| {
        let object = if chat { "chat.completion.chunk" } else { "text_completion" };
        let chunk = json!({"id": "chatcmpl-1", "object": object, "created": 1, "model": "chat", "choices": choices, "usage": usage});
        Ok::<_, Infallible>(Bytes::from(format!("data: {chunk}\n\n")))
    };
    let choice = |text: &str, reason: Value| {
        let choice = match (chat, text) {
            (true, "") => json!({"index": 0, "delta": {}, "finish_reason": reason}),
            (true, text) => json!({"index": 0, "delta": {"content": text}, "finish_reason": reason}),
            (false, text) => json!({"index": 0, "text": text, "finish_reason": reason}),
        };
        chunk(json!([choice]), Value::Null)
    };
    let say = async |piece: Result<Bytes, Infallible>| {
        let Ok(piece) = piece;
        let gone = out.send(Ok(piece)).await.is_err();
        if gone {
            counts.cut.fetch_add(1, Ordering::SeqCst);
        }
        !gone
    };
    if chat
        && !say(chunk(
            json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]),
            Value::Null,
        ))
        .await
    {
        return;
    }
    if content == "reading" {
        // More than a socket holds: when the last of it is taken, the gateway has seen the head of the answer.
        let pad = "x".repeat(32 << 10);
        for _ in 0..40 {
            let choice = json!([{"index": 0, "delta": {}, "pad": pad, "finish_reason": null}]);
            if !say(chunk(choice, Value::Null)).await {
                return;
            }
        }
        counts.made.fetch_add(1, Ordering::SeqCst);
        out.closed().await;
        counts.cut.fetch_add(1, Ordering::SeqCst);
        return;
    }
    let count = match content.split_once(':') {
        Some(("count" | "late", count)) => count.parse().unwrap(),
        Some(("die", "after")) => 3,
        Some(("die", "opening")) => 0,
        _ => usize::MAX,
    };
    for at in 0..count {
        counts.made.fetch_add(1, Ordering::SeqCst);
        if !say(choice(&format!("w{at} "), Value::Null)).await {
            return;
        }
        if count == usize::MAX {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    if content.starts_with("die") {
        drop(out.send(Err(std::io::Error::other("the engine broke"))).await);
        return;
    }
    if !say(choice("", json!("stop"))).await {
        return;
    }
    if content.starts_with("late") {
        // Long enough for anybody who was given the finishing piece too early to look at the books.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let usage = json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": count, "total_tokens": PROMPT_TOKENS as usize + count});
    let _ = say(chunk(json!([]), usage)).await && say(Ok(Bytes::from_static(b"data: [DONE]\n\n"))).await;
}
