//! The routes: translate, hand to the engine, translate back.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::engine::{Event, Job};
use super::host::{Host, NotTaken, Ready, unix_seconds};
use super::openai::{Head, Refusal, model as model_object};
use super::request::{self, Common, Prompt};
use super::{BODY_BYTES_MAX, CONTEXT_DEFAULT_MAX};
use crate::sample::Sampling;

/// Seconds after which a refused client may try again.
const RETRY_AFTER_S: u32 = 2;
/// Bytes of prompt per token of context beyond which a text cannot fit; spares spelling out megabytes to say so. The
/// longest entries of vocabularies are runs of spaces, of at most some hundred bytes.
const TOKEN_BYTES_MAX: usize = 512;

pub(super) async fn health(State(host): State<Arc<Host>>) -> Response {
    let (done, all) = host.progress();
    let (status, word) = match host.ready() {
        Some(_) => (StatusCode::OK, "ok"),
        None if host.is_draining() => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
    };
    let body = json!({"status": word, "loaded": {"done": done, "of": all}, "running": host.running()});
    (status, Json(body)).into_response()
}

pub(super) async fn models(State(host): State<Arc<Host>>) -> Result<Json<Value>, Refusal> {
    let ready = ready(&host)?;
    Ok(Json(json!({"object": "list", "data": [model_object(&ready.name, ready.created, ready.context)]})))
}

pub(super) async fn model(State(host): State<Arc<Host>>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let ready = ready(&host)?;
    if name != ready.name {
        return Err(Refusal::no_model(&name));
    }
    Ok(Json(model_object(&ready.name, ready.created, ready.context)))
}

pub(super) async fn unknown() -> Refusal {
    Refusal::no_route("there is no such route", StatusCode::NOT_FOUND)
}

pub(super) async fn wrong_method() -> Refusal {
    Refusal::no_route("this route does not have this method", StatusCode::METHOD_NOT_ALLOWED)
}

pub(super) async fn chat(
    State(host): State<Arc<Host>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let (common, prompt) = request::chat(&bytes(body)?)?;
    complete(&host, common, prompt).await
}

pub(super) async fn completion(
    State(host): State<Arc<Host>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let (common, prompt) = request::completion(&bytes(body)?)?;
    complete(&host, common, prompt).await
}

fn bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large(BODY_BYTES_MAX),
        _ => Refusal::body("the body could not be read"),
    })
}

fn ready(host: &Host) -> Result<&Ready, Refusal> {
    host.ready().ok_or_else(|| {
        if host.is_draining() {
            Refusal::later("draining", "the server is going down", RETRY_AFTER_S)
        } else {
            Refusal::later("model_loading", "the model is still loading", RETRY_AFTER_S)
        }
    })
}

async fn complete(host: &Arc<Host>, common: Common, prompt: Prompt) -> Result<Response, Refusal> {
    let name = &ready(host)?.name;
    if common.model != *name {
        return Err(Refusal::no_model(&common.model));
    }
    let chat = matches!(prompt, Prompt::Messages(_));
    let shared = host.clone();
    // Rendering and encoding a long prompt takes a while; other requests go on.
    let ids = tokio::task::spawn_blocking(move || ids_of(ready(&shared)?, prompt)).await;
    let ids = ids.map_err(|_| Refusal::fault())??;
    let ready = ready(host)?;
    let tokens_max = room(ready.context, ids.len(), common.tokens_max, chat)?;

    let head = Head {
        id: format!("{}-{:016x}", if chat { "chatcmpl" } else { "cmpl" }, host.unique()),
        created: unix_seconds(),
        model: ready.name.clone(),
        chat,
        prompt_tokens: ids.len(),
        include_usage: common.include_usage,
    };
    let seed = common.seed.unwrap_or_else(|| host.unique());
    let sampling = Sampling { temperature: common.temperature, top_p: common.top_p, seed };
    let (events, received) = mpsc::unbounded_channel();
    let job = Job { prompt: ids, tokens_max, sampling, stops: common.stops, events };
    host.submit(job).map_err(|not| match not {
        NotTaken::Full => Refusal::later("queue_full", "too many requests are waiting", RETRY_AFTER_S),
        NotTaken::Closed => Refusal::later("draining", "the server is going down", RETRY_AFTER_S),
    })?;
    if common.stream { Ok(streamed(head, received)) } else { whole(&head, received).await }
}

/// How many tokens may be written.
fn room(context: usize, prompt: usize, wanted: Option<usize>, chat: bool) -> Result<usize, Refusal> {
    let param = if chat { "messages" } else { "prompt" };
    if prompt >= context {
        return Err(Refusal::too_long(context, prompt, None, param));
    }
    match wanted {
        Some(wanted) if wanted > context - prompt => Err(Refusal::too_long(context, prompt, Some(wanted), param)),
        wanted => Ok(wanted.unwrap_or(context - prompt)),
    }
}

fn ids_of(ready: &Ready, prompt: Prompt) -> Result<Vec<u32>, Refusal> {
    let (text, bare, param) = match prompt {
        Prompt::Ids(ids) => {
            return if ids.iter().all(|id| (*id as usize) < ready.vocab) {
                Ok(ids)
            } else {
                Err(Refusal::invalid("prompt", "a token id is outside the vocabulary"))
            };
        }
        Prompt::Text(text) => (text, true, "prompt"),
        Prompt::Messages(messages) => {
            let template = ready.template.as_ref().ok_or_else(|| {
                Refusal::unsupported("messages", "this model has no chat template; use /v1/completions")
            })?;
            let text = template.render(&messages, true);
            (text.map_err(|error| Refusal::invalid("messages", &error.to_string()))?, false, "messages")
        }
    };
    if text.len() > ready.context.min(CONTEXT_DEFAULT_MAX * 16) * TOKEN_BYTES_MAX {
        let least = text.len() / TOKEN_BYTES_MAX;
        return Err(Refusal::too_long(ready.context, least, None, param));
    }
    let encoded = ready.tokenizer.encode(text, bare).map_err(|_| Refusal::fault())?;
    let ids = encoded.get_ids().to_vec();
    if ids.is_empty() {
        return Err(Refusal::invalid(param, "there is nothing to go on from"));
    }
    Ok(ids)
}

async fn whole(head: &Head, mut events: UnboundedReceiver<Event>) -> Result<Response, Refusal> {
    let mut text = String::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Text(piece) => text.push_str(&piece),
            Event::End { reason, tokens } => return Ok(Json(head.whole(&text, reason, tokens)).into_response()),
            Event::Failed => break,
        }
    }
    Err(Refusal::fault())
}

/// Server-sent events. Dropping the body (a hang-up) drops the receiver, which ends the job.
fn streamed(head: Head, events: UnboundedReceiver<Event>) -> Response {
    let opening = head.opening().map(|chunk| sse(&chunk)).unwrap_or_default();
    let state = Some((head, events, opening));
    let chunks = stream::unfold(state, |state| async move {
        let (head, mut events, opening) = state?;
        if !opening.is_empty() {
            return Some((Ok(Bytes::from(opening)), Some((head, events, String::new()))));
        }
        let (text, more) = match events.recv().await {
            Some(Event::Text(piece)) => (sse(&head.piece(&piece)), true),
            Some(Event::End { reason, tokens }) => {
                let counting = head.counting(tokens).map(|chunk| sse(&chunk)).unwrap_or_default();
                (sse(&head.ending(reason)) + &counting + "data: [DONE]\n\n", false)
            }
            Some(Event::Failed) | None => (sse(&Refusal::fault().json()), false),
        };
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), more.then_some((head, events, String::new()))))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(chunks)).into_response()
}

fn sse(chunk: &Value) -> String {
    format!("data: {chunk}\n\n")
}
