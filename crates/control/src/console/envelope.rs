//! Around every page: the headers that keep it to itself, and the form in which failures are told.

use std::panic::AssertUnwindSafe;

use askama::Template;
use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
};
use futures_util::FutureExt as _;
use gregal_api::problem::{Code, Problem};

use super::{Console, failure::Failure};

/// The sites a page's script may talk to, as origins. Travels with the response to where the headers are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connects(pub(crate) Vec<String>);

/// The page that tells of a failure.
#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    problem: Problem,
}

/// Words failures and sets the headers.
pub(crate) async fn envelope(State(_): State<Console>, request: Request, next: Next) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let by_script = accepts.starts_with("application/json");
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        // The panic's own message was written by the panic hook.
        tracing::error!("a page of the console panicked");
        Failure::from(Problem::new(Code::Internal, "the page could not be made")).into_response()
    });
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = worded(&failure, by_script);
    }
    let connects = response.extensions_mut().remove::<Connects>().unwrap_or_default();
    protect(&mut response, &connects);
    response
}

fn worded(failure: &Failure, by_script: bool) -> Response {
    let problem = failure.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if by_script {
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        return (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
    }
    if matches!(failure, Failure::SignedOut) {
        return Redirect::to("/console/sign-in").into_response();
    }
    if matches!(failure, Failure::Unplaced) {
        return Redirect::to("/console/welcome").into_response();
    }
    match (ErrorPage { problem }).render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the error page could not be rendered");
            status.into_response()
        }
    }
}

/// Nothing runs or loads but what is ours, nobody frames it, and no other origin learns where the reader was.
fn protect(response: &mut Response, connects: &Connects) {
    let mut sites = String::new();
    for origin in &connects.0 {
        sites.push(' ');
        sites.push_str(origin);
    }
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{sites}; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Not `no-referrer`: under it browsers send `Origin: null` with our own forms.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
