//! Signing in with a provider: out with a form, back with a code. What comes back begins a session without a key; which
//! organisation it is for is chosen on the page after (`welcome`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use askama::Template;
use axum::{
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
    identity::{Flow, Returned},
};

/// The cookie of a sign-in under way. Unlike the session's it comes along when the provider sends the browser back.
const COOKIE: &str = "gregal_sign_in";
/// The most sign-ins under way; beyond, the oldest is forgotten.
const FLOWS_MAX: usize = 4096;

/// Sign-ins under way, by the digest of their cookie's text. In memory only.
#[derive(Debug, Default)]
pub(crate) struct Flows(Mutex<HashMap<SessionId, (Flow, String)>>);

impl Flows {
    fn begin(&self, token: &str, flow: Flow, next: String, now: Instant) {
        let mut flows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flows.retain(|_, (flow, _)| flow.lives_at(now));
        while flows.len() >= FLOWS_MAX {
            let Some(oldest) = flows.iter().min_by_key(|(_, (flow, _))| flow.begun_at()).map(|(id, _)| *id) else {
                break;
            };
            flows.remove(&oldest);
        }
        flows.insert(SessionId::of(token), (flow, next));
    }

    /// Takes one out: it is finished once, well or not.
    fn take(&self, id: SessionId) -> Option<(Flow, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
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
    PostedUnsigned(form): PostedUnsigned<Begin>,
) -> Result<Response, Failure> {
    let door = &console.0.door;
    let Some(provider) = door.provider_for(form.email.trim(), &form.provider).await.map_err(told)? else {
        return sign_in::refused(&console, "no_provider", StatusCode::NOT_FOUND);
    };
    let begun = door.sign_in_begin(provider).await.map_err(told)?;
    let token = console.random();
    let next = sign_in::next_page(&form.next).unwrap_or("/console").to_owned();
    console.0.flows.begin(&token, begun.flow, next, console.0.world.steady());
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
    let flow = cookie_of(&headers, COOKIE).and_then(|token| console.0.flows.take(SessionId::of(token)));
    let Some((flow, next)) = flow else {
        return sign_in::refused(&console, "no_flow", StatusCode::BAD_REQUEST);
    };
    let Some(vouched) = console.0.door.sign_in_finish(flow, returned).await.map_err(told)? else {
        return sign_in::refused(&console, "not_vouched", StatusCode::UNAUTHORIZED);
    };
    if let Some(old) = session_id(&headers) {
        console.0.sessions.end(old);
    }
    let places = console.0.door.places_of(&vouched).await.map_err(told)?;
    let key = match places.as_slice() {
        [only] => console.0.door.session_begin(&vouched, only.organisation).await.map_err(told)?,
        _ => String::new(),
    };
    let token = console.random();
    let now = console.0.world.steady();
    console.0.sessions.begin_for(&token, key, console.random(), (vouched, now), now);
    let onward = OnwardPage { title: "Signed in", words: "You are signed in.".into(), url: next };
    let mut response = sign_in::with_cookie(&console, page::page(&onward)?, &token, "")?;
    add_cookie(&console, &mut response, "", 0)?;
    Ok(response)
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
    Ok(page::page(&SignInPage { refused, providers, next: sign_in::next_page(next).unwrap_or_default().to_owned() })?
        .into_response())
}
