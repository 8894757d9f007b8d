//! The OpenAI-compatible routes: read, admit, carry through, answer in the shapes its clients know.

pub(crate) mod error;
pub(crate) mod wire;

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
};

use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use gregal_core::id::RequestId;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::{
    error::ApiError,
    wire::{Ask, Assembly, Kind},
};
use super::{
    admit::Refusal,
    presented::Presented,
    route::{self, Caller},
    stream::{Exchange, Piece},
    usage,
};
use crate::{agent::intent::Standing, metrics::Metric, site::Shared};

/// The largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Pieces that may wait for a slow client before the engine is made to wait.
const PIECES_WAITING_MAX: usize = 32;

type App = State<Arc<Shared>>;

/// `GET /v1/models`
pub(crate) async fn models(State(shared): App, presented: Presented) -> Result<Response, ApiError> {
    let standing = shared.desk.current();
    let caller = known(&shared, &standing, &presented)?;
    let found = route::endpoints(&standing, &shared.policies, &caller);
    let data: Vec<Value> = found.into_iter().map(|endpoint| model(&endpoint.name, &standing)).collect();
    Ok(Json(json!({"object": "list", "data": data})).into_response())
}

/// `GET /v1/models/{model}`
pub(crate) async fn model_read(
    State(shared): App,
    Path(name): Path<String>,
    presented: Presented,
) -> Result<Response, ApiError> {
    let standing = shared.desk.current();
    let caller = known(&shared, &standing, &presented)?;
    let endpoint = route::endpoint(&standing, &shared.policies, &caller, &name)?;
    Ok(Json(model(&endpoint.name, &standing)).into_response())
}

fn model(name: &str, standing: &Standing) -> Value {
    // When the endpoint was made is not told to sites; when it was last wanted is the nearest truth there is.
    let created = standing.intent.as_ref().map_or(0, |intent| intent.made_at.as_millis() / 1000);
    json!({"id": name, "object": "model", "created": created, "owned_by": "organisation"})
}

/// `POST /v1/chat/completions`
pub(crate) async fn chat(
    State(shared): App,
    Extension(request): Extension<RequestId>,
    presented: Presented,
    body: Body,
) -> Result<Response, ApiError> {
    complete(shared, request, Kind::Chat, presented, body).await
}

/// `POST /v1/completions`
pub(crate) async fn completion(
    State(shared): App,
    Extension(request): Extension<RequestId>,
    presented: Presented,
    body: Body,
) -> Result<Response, ApiError> {
    complete(shared, request, Kind::Completion, presented, body).await
}

/// Everything under `/v1` that is not spoken.
pub(crate) async fn not_implemented(uri: Uri) -> ApiError {
    ApiError::not_implemented(uri.path())
}

async fn complete(
    shared: Arc<Shared>,
    request: RequestId,
    kind: Kind,
    presented: Presented,
    body: Body,
) -> Result<Response, ApiError> {
    let standing = shared.desk.current();
    // Who asks comes first: nobody may make the site read a megabyte without a key.
    let asked_at = shared.options.world.now();
    let caller = known(&shared, &standing, &presented)?;
    let ask = Ask::read(kind, &read(body).await?)?;
    // The body may have taken its time; what holds is what holds now.
    let now = shared.desk.current();
    let is_same = Arc::ptr_eq(&standing, &now) && shared.options.world.now() == asked_at;
    let caller = if is_same { Ok(caller) } else { known(&shared, &now, &presented) };
    let exchange = caller.and_then(|caller| admit(&shared, &now, request, ask, &caller)).inspect_err(|_| {
        shared.metrics.add(Metric::RequestsRefused, 1);
    })?;
    let ask = Arc::clone(&exchange.ask);
    let (out, pieces) = mpsc::channel(PIECES_WAITING_MAX);
    shared.tasks.spawn(exchange.run(out));
    if ask.stream { streamed(ask, pieces).await } else { whole(&ask, pieces).await }
}

/// Who asks, as far as this site may still believe it.
fn known(shared: &Shared, standing: &Standing, presented: &Presented) -> Result<Caller, ApiError> {
    if !shared.believes_keys() {
        let detail = "this site has not heard from its control plane for too long to know which keys still work";
        return Err(ApiError::unavailable(detail));
    }
    let now = shared.options.world.now();
    let caller = route::caller(standing, presented, now);
    if let Ok(caller) = &caller {
        shared.key_uses.note(caller.key(), now);
    }
    match (&caller, presented.peer) {
        (Err(error), Some(peer)) if error.is_of_credential() && presented.credential.is_some() => {
            let wait_s = shared.attempts.lock().unwrap_or_else(PoisonError::into_inner).wrong(peer, now);
            wait_s.map_or(caller, |wait_s| Err(ApiError::guessing(wait_s)))
        }
        _ => caller,
    }
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(BODY_BYTES_MAX)),
        Err(_) => Err(ApiError::invalid(None, "the body ended before it was whole")),
    }
}

/// Everything that is decided before the engine is asked: endpoint, permission, residency, replica, and credit.
fn admit(
    shared: &Arc<Shared>,
    standing: &Arc<Standing>,
    request: RequestId,
    ask: Ask,
    caller: &Caller,
) -> Result<Exchange, ApiError> {
    let now = shared.options.world.now();
    let endpoint = route::endpoint(standing, &shared.policies, caller, &ask.model)?;
    if shared.stop.is_cancelled() {
        return Err(gone());
    }
    if endpoint.drain {
        return Err(ApiError::unavailable("the endpoint is stopping and takes no new requests"));
    }
    if !shared.ledger.has_room() {
        return Err(ApiError::unavailable("the site cannot record more usage until the control plane is back"));
    }
    if standing.is_uncounted {
        return Err(ApiError::unavailable("the site lost its count of usage and waits for the control plane's"));
    }
    let intent =
        standing.intent.as_ref().ok_or_else(|| ApiError::unavailable("the site waits for the control plane"))?;
    let seat = shared.replicas.seat(endpoint)?;
    let tokens_out_max = ask.tokens_out_max(seat.context);
    let tokens_in_max = ask.tokens_in_max.min(seat.context);
    let books = &intent.price_books;
    let worst =
        usage::worst_case(books, now, &endpoint.price_item, tokens_in_max, tokens_out_max).map_err(|error| {
            tracing::error!(%error, endpoint.id = %endpoint.endpoint, "an endpoint has no price");
            ApiError::unavailable("the endpoint has no price yet; nothing is served without one")
        })?;
    let hold = shared.ledger.hold(standing.allowances(endpoint.organisation), now, worst).map_err(|refusal| {
        // Control learns at once that more is wanted.
        shared.news.notify_one();
        match refusal {
            Refusal::Uncounted => ApiError::unavailable(&refusal.to_string()),
            Refusal::NoAllowance | Refusal::Expired { .. } | Refusal::Short { .. } => ApiError::quota(&refusal),
        }
    })?;
    Ok(Exchange {
        shared: Arc::clone(shared),
        ask: Arc::new(ask),
        request,
        seat,
        hold,
        tokens_in_max,
        tokens_out_max,
        started_at: now,
    })
}

fn gone() -> ApiError {
    ApiError::unavailable("the site is stopping; nothing was billed")
}

async fn streamed(ask: Arc<Ask>, mut pieces: mpsc::Receiver<Piece>) -> Result<Response, ApiError> {
    let first = match pieces.recv().await {
        None => return Err(gone()),
        Some(Piece::Refused(error)) => return Err(error),
        Some(first) => first,
    };
    let mut like = Bytes::new();
    let mut open = Some((Some(first), pieces));
    let events = stream::poll_fn(move |context| {
        let Some((first, pieces)) = &mut open else { return std::task::Poll::Ready(None) };
        let piece = match first.take() {
            Some(piece) => Some(piece),
            None => std::task::ready!(pieces.poll_recv(context)),
        };
        let (text, ends) = piece.map_or((Bytes::new(), true), |piece| events_of(&ask, &mut like, piece));
        if ends {
            open = None;
        }
        std::task::Poll::Ready((!text.is_empty()).then(|| Ok::<_, Infallible>(text)))
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// A piece as server-sent events, and whether it is the last.
fn events_of(ask: &Ask, like: &mut Bytes, piece: Piece) -> (Bytes, bool) {
    const DONE: &[u8] = b"data: [DONE]\n\n";
    match piece {
        Piece::Chunk(event) => {
            if ask.include_usage {
                like.clone_from(&event);
            }
            (event, false)
        }
        Piece::Whole { tokens_in, tokens_out } if ask.include_usage => {
            let usage = wire::usage_event(like, tokens_in, tokens_out);
            ([&usage, DONE].concat().into(), true)
        }
        Piece::Whole { .. } | Piece::Answer(_) => (Bytes::from_static(DONE), true),
        // No `[DONE]`: the answer is not whole, and no client should take it for that.
        Piece::Broken(error) | Piece::Refused(error) => (format!("data: {}\n\n", error.body()).into(), true),
    }
}

async fn whole(ask: &Ask, mut pieces: mpsc::Receiver<Piece>) -> Result<Response, ApiError> {
    let mut assembly = Assembly::default();
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Chunk(chunk) => assembly.add(&chunk),
            Piece::Whole { tokens_in, tokens_out } => {
                return Ok(Json(assembly.finish(ask, &wire::usage(tokens_in, tokens_out))).into_response());
            }
            Piece::Answer(answer) => {
                let json = HeaderValue::from_static("application/json");
                return Ok(([(header::CONTENT_TYPE, json)], answer).into_response());
            }
            Piece::Refused(error) | Piece::Broken(error) => return Err(error),
        }
    }
    Err(gone())
}
