//! Signing in with a provider: out with a form, back with a code. What comes back begins a session without a key; which
//! organisation it is for is chosen on the page after (`welcome`).

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use askama::Template;
use axum::{
    Extension,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{
    Console,
    failure::Failure,
    page,
    posted::PostedUnsigned,
    session::SessionId,
    sign_in::{self, SignInPage},
    visitor::{cookie_of, session_id},
};
use crate::{
    Error,
    app::sign_in::Vouched,
    crowd::{Bounds, Crowd},
    http::peer::Peer,
    identity::{FLOW_MAX, Flow, Returned},
};

/// The cookie of a sign-in under way. Unlike the session's it comes along when the provider sends the browser back.
const COOKIE: &str = "gregal_sign_in";
/// How many sign-ins are under way, in all and from one place, and how long they are remembered: beyond their own time, so that
/// one that took too long is told of as such.
const BOUNDS: Bounds = Bounds { all: 4096, each: 64, wait: FLOW_MAX.saturating_add(Duration::from_mins(1)) };

/// Sign-ins under way, by the digest of their cookie's text. In memory only.
#[derive(Debug)]
pub(crate) struct Flows(Mutex<Crowd<SessionId, (Flow, String)>>);

impl Default for Flows {
    fn default() -> Self {
        Self(Mutex::new(Crowd::new(BOUNDS)))
    }
}

impl Flows {
    fn begin(&self, token: &str, peer: Peer, flow: Flow, next: String, now: Instant) {
        let mut flows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flows.begin(SessionId::of(token), peer.0, (flow, next), now);
    }

    /// Takes one out: it is finished once, well or not. One that took too long tells so itself.
    fn take(&self, id: SessionId, now: Instant) -> Option<(Flow, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(&id, now)
    }
}

/// A page that leads on by itself: the policy of forms lets none of ours lead to another origin, and a cookie that is kept
/// from other origins' navigation is sent again from here on.
#[derive(Template)]
#[template(path = "onward.html")]
pub(crate) struct OnwardPage {
    pub(crate) title: &'static str,
    pub(crate) words: String,
    pub(crate) url: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Begin {
    #[serde(default)]
    email: String,
    #[serde(default)]
    provider: String,
    #[serde(default)]
    next: String,
}

pub(crate) async fn begin(
    State(console): State<Console>,
    Extension(peer): Extension<Peer>,
    PostedUnsigned(form): PostedUnsigned<Begin>,
) -> Result<Response, Failure> {
    let door = &console.0.door;
    let Some(provider) = door.provider_for(form.email.trim(), &form.provider).await.map_err(told)? else {
        return sign_in::refused(&console, "no_provider", StatusCode::NOT_FOUND);
    };
    let begun = door.sign_in_begin(provider).await.map_err(told)?;
    let token = console.random();
    let next = sign_in::next_page(&form.next).unwrap_or("/console").to_owned();
    console.0.flows.begin(&token, peer, begun.flow, next, console.0.world.steady());
    let onward = OnwardPage { title: "Sign in", words: format!("Going to {}.", begun.provider), url: begun.url };
    let mut response = page::page(&onward)?;
    add_cookie(&console, &mut response, &token, 600)?;
    Ok(response)
}

pub(crate) async fn callback(
    State(console): State<Console>,
    headers: HeaderMap,
    Query(returned): Query<Returned>,
) -> Result<Response, Failure> {
    let flow = cookie_of(&headers, COOKIE)
        .and_then(|token| console.0.flows.take(SessionId::of(token), console.0.world.steady()));
    let Some((flow, next)) = flow else {
        return sign_in::refused(&console, "no_flow", StatusCode::BAD_REQUEST);
    };
    let Some(vouched) = console.0.door.sign_in_finish(flow, returned).await.map_err(told)? else {
        return sign_in::refused(&console, "not_vouched", StatusCode::UNAUTHORIZED);
    };
    let mut response = signed_in(&console, &headers, vouched, next).await?;
    add_cookie(&console, &mut response, "", 0)?;
    Ok(response)
}

/// Begins a session for somebody who was vouched for just now; whoever was signed in here before no longer is.
pub(crate) async fn signed_in(
    console: &Console,
    headers: &HeaderMap,
    vouched: Vouched,
    next: String,
) -> Result<Response, Failure> {
    if let Some(old) = session_id(headers) {
        if let Some(session) = console.0.sessions.used(old, console.0.world.steady()) {
            // A key that the sign-in before made ends with it; one that was made for keeps is left alone.
            console.0.door.session_end(&session.key).await.map_err(told)?;
        }
        console.0.sessions.end(old);
    }
    let places = console.0.door.places_of(&vouched).await.map_err(told)?;
    let key = match places.as_slice() {
        [only] => console.0.door.session_begin(&vouched, only.organisation).await.map_err(told)?,
        _ => String::new(),
    };
    let person = console.0.door.person_known(&vouched).await.map_err(told)?;
    let token = console.random();
    let now = console.0.world.steady();
    console.0.sessions.begin_for(&token, key, console.random(), (vouched, now), now);
    if let Some(person) = person {
        console.0.sessions.is_of(SessionId::of(&token), person);
    }
    let onward = OnwardPage { title: "Signed in", words: "You are signed in.".into(), url: next };
    sign_in::with_cookie(console, page::page(&onward)?, &token, "")
}

fn add_cookie(console: &Console, response: &mut Response, token: &str, seconds: u32) -> Result<(), Failure> {
    let secure = if console.0.is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/console/sign-in; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Failure::invalid("the sign-in could not be begun"))?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(())
}

/// How a refusal of the door reads on a page. What broke on our side is logged where it is turned into a page.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
pub(crate) fn told(error: Error) -> Failure {
    error.log(None, "a sign-in was not carried out");
    error.problem().into()
}

/// The sign-in page, as it is first shown or after a refusal.
pub(crate) fn sign_in_page(console: &Console, refused: &'static str, next: &str) -> Result<Response, Failure> {
    let providers = console.0.door.identity().names();
    Ok(page::page(&SignInPage {
        refused,
        providers,
        passkeys: console.0.door.identity().relying().is_some(),
        next: sign_in::next_page(next).unwrap_or_default().to_owned(),
    })?
    .into_response())
}
