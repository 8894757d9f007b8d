//! Around every request: its id, its counters, a caught panic, and the form in which problems are told.

use std::panic::AssertUnwindSafe;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use gregal_api::problem::{Code, Problem};
use gregal_core::id::RequestId;

use crate::{Control, Error, http::scim, metrics::Metric};

/// The header that carries a request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Gives the request an id, and its answer a form.
pub(crate) async fn envelope(State(control): State<Control>, mut request: Request, next: Next) -> Response {
    let id = RequestId::new(control.world());
    let is_scim = scim::is_door(request.uri().path());
    request.extensions_mut().insert(id);
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        // The panic's own message was written by the panic hook.
        control.metrics().count(Metric::HandlerPanics);
        tracing::error!(request.id = %id, "a handler panicked; what it had begun was undone");
        Error::Broken("a handler panicked".into()).into_response()
    });
    if let Some(Failed(error)) = response.extensions_mut().remove::<Failed>() {
        error.log(Some(id), "a request was not answered as asked");
    }
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let problem = Problem { request: Some(id.to_string()), ..problem };
        response = if is_scim { scim::told(&problem) } else { told(&problem) };
    }
    let status = response.status();
    control.metrics().count(if status.is_server_error() {
        Metric::RequestsFailed
    } else if status.is_client_error() {
        Metric::RequestsRefused
    } else {
        Metric::RequestsDone
    });
    if response.headers().contains_key(REPLAYED) {
        control.metrics().count(Metric::RequestsReplayed);
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    // Answers speak of one key's view: no cache may give them to another.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// An error on its way to where it is logged.
#[derive(Debug, Clone)]
struct Failed(std::sync::Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Replayed(record) = self {
            let status = StatusCode::from_u16(record.status).unwrap_or(StatusCode::OK);
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (REPLAYED, HeaderValue::from_static("true")),
            ];
            return (status, headers, record.body).into_response();
        }
        let problem = self.problem();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        // The body is written by the envelope, which knows the request's id.
        response.extensions_mut().insert(problem);
        response.extensions_mut().insert(Failed(std::sync::Arc::new(self)));
        response
    }
}

/// How long whoever asks too much should wait, in seconds: wrong keys are counted by the minute.
const OVERLOADED_S: u32 = 60;

fn told(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = (status, Body::from(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if problem.code == Code::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if problem.code == Code::Overloaded {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(OVERLOADED_S));
    }
    response
}
