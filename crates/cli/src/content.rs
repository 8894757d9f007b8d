//! Content, which goes between the tenant and the site itself: control gives leave and never sees it.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use gregal_api::{
    grant::{GrantCreate, GrantCreated, GrantPurpose},
    problem::Problem,
};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};

use crate::{
    context::Cx,
    failure::Failure,
    lines::{Lines, event_data},
};

/// The largest refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// A client for sites. Redirects are not followed: a credential goes where control said, and nowhere else.
pub(crate) fn site_client() -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .tcp_keepalive(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| Failure::ours(format!("could not make a client: {error}")))
}

/// Gets leave for one object.
pub(crate) async fn grant(
    cx: &Cx<'_>,
    project: &str,
    purpose: GrantPurpose,
    object: &str,
) -> Result<GrantCreated, Failure> {
    cx.create("grant_create", &[project], &GrantCreate { purpose, object: object.into() }).await
}

/// Streams a file's bytes to the site.
pub(crate) async fn put<S>(grant: &GrantCreated, path: &str, length: u64, bytes: S) -> Result<(), Failure>
where
    S: Stream<Item = std::io::Result<tokio_util::bytes::Bytes>> + Send + 'static,
{
    let url = format!("{}{path}", grant.url);
    let request = site_client()?
        .put(&url)
        .bearer_auth(&grant.grant)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, length)
        .body(reqwest::Body::wrap_stream(bytes));
    let answer = request.send().await.map_err(|error| site_unreachable(&url, error))?;
    if answer.status().is_success() { Ok(()) } else { Err(refused(answer).await) }
}

/// Opens a stream of text at the site.
pub(crate) async fn get(grant: &GrantCreated, path: &str) -> Result<reqwest::Response, Failure> {
    let url = format!("{}{path}", grant.url);
    let answer = site_client()?.get(&url).bearer_auth(&grant.grant).send().await;
    let answer = answer.map_err(|error| site_unreachable(&url, error))?;
    if answer.status().is_success() { Ok(answer) } else { Err(refused(answer).await) }
}

/// Copies a log to stdout as it comes, until it ends. A server-sent event stream and plain text read the same.
pub(crate) async fn copy_log(cx: &mut Cx<'_>, answer: reqwest::Response) -> Result<(), Failure> {
    let url = answer.url().to_string();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let events = kind.starts_with("text/event-stream");
    let json = cx.printer().json();
    let mut lines = Lines::default();
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| site_unreachable(&url, error))?;
        if !events && !json {
            cx.printer().write_bytes(&chunk)?;
            continue;
        }
        for line in lines.push(&chunk)? {
            log_line(cx, &line, events)?;
        }
    }
    match lines.rest() {
        Some(rest) => log_line(cx, &rest, events),
        None => Ok(()),
    }
}

fn log_line(cx: &mut Cx<'_>, line: &str, events: bool) -> Result<(), Failure> {
    let line = if events { event_data(line) } else { Some(line) };
    let Some(line) = line else { return Ok(()) };
    if cx.printer().json() {
        cx.printer().json_line(&serde_json::json!({ "line": line }))
    } else {
        cx.printer().write(&format!("{line}\n"))
    }
}

/// Nothing answered at the site.
pub(crate) fn site_unreachable(url: &str, error: reqwest::Error) -> Failure {
    Failure::unreachable(url, &error.without_url())
        .hint("the site does not answer from here; `gregal site list` says whether it is alive and where it is")
}

/// What a site that refused has said: a problem, or an error in the shape of `OpenAI`.
pub(crate) async fn refused(answer: reqwest::Response) -> Failure {
    let status = answer.status().as_u16();
    let request = answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(Ok(chunk)) = stream.next().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > REFUSAL_BYTES_MAX {
            break;
        }
    }
    if let Ok(mut problem) = serde_json::from_slice::<Problem>(&bytes) {
        problem.request = problem.request.or(request);
        return problem.into();
    }
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(body) if body["error"]["message"].is_string() => gateway_error(&body["error"], status).request(request),
        _ => {
            let detail = format!("the site answered {status} with something this version does not understand");
            if status >= 500 { Failure::ours(detail) } else { Failure::yours(detail) }.request(request)
        }
    }
}

/// An error in the shape of `OpenAI`, with what can be done about it.
pub(crate) fn gateway_error(error: &serde_json::Value, status: u16) -> Failure {
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    let detail = text("message");
    let failure = if status >= 500 { Failure::ours(detail) } else { Failure::yours(detail) }.code(text("code"));
    match text("code") {
        "invalid_api_key" => {
            failure.hint("a new key reaches the site within seconds; `gregal whoami` says whether control knows it")
        }
        "model_not_found" => failure.hint("`gregal endpoint list` lists what is served"),
        "insufficient_quota" => {
            failure.hint("ask for fewer tokens (`--max-tokens`); `gregal balance show` says what is available")
        }
        "residency_refused" => failure.hint("`gregal place explain` says which sites are allowed"),
        "overloaded" | "unavailable" => failure.hint("try again in a moment"),
        _ => failure,
    }
}
