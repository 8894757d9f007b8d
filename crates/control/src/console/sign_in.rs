//! Signing in and out. A key is taken once, kept in memory, and never shown again.

use askama::Template;
use axum::{
    Extension,
    extract::{FromRequestParts as _, Query, Request, State},
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
    posted::{Nothing, Posted, PostedUnsigned},
    provider,
    visitor::{COOKIE, Visitor, session_id},
};
use crate::http::peer::Peer;

/// The longest text that is tried as a key.
const KEY_BYTES_MAX: usize = 200;

#[derive(Template)]
#[template(path = "sign_in.html")]
pub(crate) struct SignInPage {
    /// What was not accepted; empty at first.
    pub(crate) refused: &'static str,
    /// What the operator's providers are called.
    pub(crate) providers: Vec<String>,
    /// Whether passkeys work here.
    pub(crate) passkeys: bool,
    /// Where to go afterwards; empty: to the overview.
    pub(crate) next: String,
}

/// The page again, with what was not accepted.
pub(crate) fn refused(console: &Console, what: &'static str, status: StatusCode) -> Result<Response, Failure> {
    let mut response = provider::sign_in_page(console, what, "")?;
    *response.status_mut() = status;
    Ok(response)
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    key: String,
}

/// Where to go once somebody is signed in.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Next {
    #[serde(default)]
    next: String,
}

/// A page of ours that asks people to sign in first; nothing else is led on to.
pub(crate) fn next_page(text: &str) -> Option<&str> {
    let is_ours = text.starts_with("/console/cli?") || text.starts_with("/console/device?");
    (is_ours && text.len() <= 1_000).then_some(text)
}

pub(crate) async fn page(
    State(console): State<Console>,
    Query(wanted): Query<Next>,
    request: Request,
) -> Result<Response, Failure> {
    let (mut parts, _) = request.into_parts();
    // Who was sent here by such a page signed in too long ago for it, if at all.
    if next_page(&wanted.next).is_none() && Visitor::from_request_parts(&mut parts, &console).await.is_ok() {
        return Ok(Redirect::to("/console").into_response());
    }
    provider::sign_in_page(&console, "", &wanted.next)
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
        return refused(&console, "key", StatusCode::UNAUTHORIZED);
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
    ended(&console, &headers).await
}

/// Ends the session of a browser and says good-bye.
pub(crate) async fn ended(console: &Console, headers: &HeaderMap) -> Result<Response, Failure> {
    if let Some(id) = session_id(headers) {
        if let Some(session) = console.0.sessions.used(id, console.0.world.steady()) {
            // A key that a sign-in made ends with it.
            console.0.door.session_end(&session.key).await.map_err(provider::told)?;
        }
        console.0.sessions.end(id);
    }
    with_cookie(console, Redirect::to("/console/sign-in").into_response(), "", "; Max-Age=0")
}

pub(crate) fn with_cookie(
    console: &Console,
    mut response: Response,
    token: &str,
    extra: &str,
) -> Result<Response, Failure> {
    let secure = if console.0.is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/console; HttpOnly; SameSite=Strict{secure}{extra}");
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Failure::invalid("the session could not be made"))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}
