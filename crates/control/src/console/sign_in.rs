//! Signing in and out. A key is taken once, kept in memory, and never shown again.

use askama::Template;
use axum::{
    Extension,
    extract::{FromRequestParts as _, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use gregal_api::key::WhoAmI;
use gregal_core::key::SECRET_PREFIX;
use serde::Deserialize;

use super::{
    Console,
    api::Api,
    failure::Failure,
    page,
    posted::{Nothing, Posted, PostedUnsigned},
    visitor::{COOKIE, Visitor, session_id},
};
use crate::http::peer::Peer;

/// The longest text that is tried as a key.
const KEY_BYTES_MAX: usize = 200;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    refused: bool,
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    key: String,
}

pub(crate) async fn page(State(console): State<Console>, request: Request) -> Result<Response, Failure> {
    let (mut parts, _) = request.into_parts();
    if Visitor::from_request_parts(&mut parts, &console).await.is_ok() {
        return Ok(Redirect::to("/console").into_response());
    }
    page::page(&SignInPage { refused: false })
}

pub(crate) async fn sign_in(
    State(console): State<Console>,
    headers: HeaderMap,
    Extension(peer): Extension<Peer>,
    PostedUnsigned(form): PostedUnsigned<SignIn>,
) -> Result<Response, Failure> {
    let key = form.key.trim();
    let is_one =
        key.starts_with(SECRET_PREFIX) && key.len() <= KEY_BYTES_MAX && key.bytes().all(|b| b.is_ascii_graphic());
    let works = is_one
        && match Api::new(console.0.api.clone(), key.to_owned(), peer).read::<WhoAmI>("whoami", &[]).await {
            Ok(_) => true,
            Err(Failure::SignedOut) => false,
            Err(failure) => return Err(failure),
        };
    if !works {
        let mut response = page::page(&SignInPage { refused: true })?;
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(response);
    }
    // Whoever was signed in here before no longer is.
    if let Some(old) = session_id(&headers) {
        console.0.sessions.end(old);
    }
    let token = console.random();
    console.0.sessions.begin(&token, key.to_owned(), console.random(), console.0.world.steady());
    with_cookie(&console, Redirect::to("/console").into_response(), &token, "")
}

pub(crate) async fn sign_out(
    State(console): State<Console>,
    headers: HeaderMap,
    Posted { .. }: Posted<Nothing>,
) -> Result<Response, Failure> {
    if let Some(id) = session_id(&headers) {
        console.0.sessions.end(id);
    }
    with_cookie(&console, Redirect::to("/console/sign-in").into_response(), "", "; Max-Age=0")
}

fn with_cookie(console: &Console, mut response: Response, token: &str, extra: &str) -> Result<Response, Failure> {
    let secure = if console.0.is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/console; HttpOnly; SameSite=Strict{secure}{extra}");
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Failure::invalid("the session could not be made"))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}
