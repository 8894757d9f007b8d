//! Passkeys: signing in with one, taking up an invitation with a first one, and looking after those one has. Every step is a form;
//! the script between two of them only asks the browser and fills in its answer.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use askama::Template;
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use gregal_core::id::PasskeyId;
use serde::Deserialize;
use webauthn_rs::prelude::DiscoverableAuthentication;

use super::{
    Console,
    failure::Failure,
    page,
    posted::{PostedUnsigned, Really},
    provider::{self, OnwardPage, told},
    session::SessionId,
    sign_in,
    visitor::{Id, cookie_of},
    welcome::{PostedBy, Someone},
    words,
};
use crate::{
    app::passkey::{Adding, Joining},
    crowd::{Bounds, Crowd},
    http::peer::Peer,
    identity::Asked,
};

/// The cookie of a question that waits for its authenticator.
const COOKIE: &str = "gregal_passkey";
/// How long it waits, and how many wait, in all and from one place.
const BOUNDS: Bounds = Bounds { all: 4096, each: 64, wait: Duration::from_mins(5) };

/// What was asked for.
#[derive(Debug)]
enum Question {
    SignIn(DiscoverableAuthentication, String),
    Join(Box<Joining>),
    Add(Box<Adding>),
}

/// Questions that wait, by the digest of their cookie's text. In memory only; each is answered once, well or not.
#[derive(Debug)]
pub(crate) struct Questions(Mutex<Crowd<SessionId, Question>>);

impl Default for Questions {
    fn default() -> Self {
        Self(Mutex::new(Crowd::new(BOUNDS)))
    }
}

impl Questions {
    fn begin(&self, token: &str, peer: Peer, question: Question, now: Instant) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.begin(SessionId::of(token), peer.0, question, now);
    }

    fn take(&self, headers: &HeaderMap, now: Instant) -> Option<Question> {
        let id = SessionId::of(cookie_of(headers, COOKIE)?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(&id, now)
    }
}

/// The page between two forms: its script asks the browser.
#[derive(Template)]
#[template(path = "passkey.html")]
struct AskPage {
    title: &'static str,
    words: &'static str,
    /// What the script is told, as JSON.
    options: String,
    /// Whether a passkey is made.
    makes: bool,
    /// Where the answer goes.
    action: &'static str,
    csrf: String,
}

/// Leads to where passkeys are taken, if this page was asked for by another name of the same machine.
fn elsewhere(console: &Console, headers: &HeaderMap, path: &str) -> Result<Option<Response>, Failure> {
    let origin = &console.0.door.passkeys().map_err(told)?.origin;
    let asked = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if asked == origin {
        return Ok(None);
    }
    let words = format!("Passkeys work at {origin}: going there. Begin again on that page.");
    let onward = OnwardPage { title: "Passkeys", words, url: format!("{origin}{path}") };
    Ok(Some(page::page(&onward)?))
}

fn asked(console: &Console, peer: Peer, page: &AskPage, question: Question) -> Result<Response, Failure> {
    let token = console.random();
    console.0.questions.begin(&token, peer, question, console.0.world.steady());
    let mut response = page::page(page)?;
    add_cookie(console, &mut response, &token, BOUNDS.wait.as_secs())?;
    Ok(response)
}

fn add_cookie(console: &Console, response: &mut Response, token: &str, seconds: u64) -> Result<(), Failure> {
    let secure = if console.0.is_secure { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE}={token}; Path=/console/passkeys; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Failure::invalid("the passkey could not be asked for"))?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(())
}

fn over(console: &Console) -> Result<Response, Failure> {
    sign_in::refused(console, "no_flow", StatusCode::BAD_REQUEST)
}

#[derive(Debug, Deserialize)]
pub(crate) struct SignIn {
    #[serde(default)]
    next: String,
}

/// Asks for any passkey. Nobody says first who they are, so nobody learns who is known here.
pub(crate) async fn sign_in_begin(
    State(console): State<Console>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    PostedUnsigned(form): PostedUnsigned<SignIn>,
) -> Result<Response, Failure> {
    if let Some(elsewhere) = elsewhere(&console, &headers, "/console/sign-in")? {
        return Ok(elsewhere);
    }
    let Asked { options, state } = console.0.door.passkey_ask().map_err(told)?;
    let page = AskPage {
        title: "Sign in",
        words: "Your browser asks for a passkey of this cloud.",
        options,
        makes: false,
        action: "/console/passkeys/signed",
        csrf: String::new(),
    };
    let next = sign_in::next_page(&form.next).unwrap_or("/console").to_owned();
    asked(&console, peer, &page, Question::SignIn(state, next))
}

/// What the authenticator answered.
#[derive(Deserialize)]
pub(crate) struct Answer {
    answer: String,
}

pub(crate) async fn sign_in_finish(
    State(console): State<Console>,
    headers: HeaderMap,
    PostedUnsigned(form): PostedUnsigned<Answer>,
) -> Result<Response, Failure> {
    let Some(Question::SignIn(state, next)) = console.0.questions.take(&headers, console.0.world.steady()) else {
        return over(&console);
    };
    match console.0.door.passkey_answered(state, &form.answer).await.map_err(told)? {
        Some(vouched) => provider::signed_in(&console, &headers, vouched, next).await,
        None => sign_in::refused(&console, "passkey", StatusCode::UNAUTHORIZED),
    }
}

#[derive(Deserialize)]
pub(crate) struct Join {
    text: String,
    name: String,
}

/// Asks for a first passkey, for an invitation that says that one may take it up.
pub(crate) async fn join_begin(
    State(console): State<Console>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    PostedUnsigned(form): PostedUnsigned<Join>,
) -> Result<Response, Failure> {
    if let Some(elsewhere) = elsewhere(&console, &headers, "/console/sign-in")? {
        return Ok(elsewhere);
    }
    let Asked { options, state } =
        console.0.door.passkey_join_begin(&form.text, form.name.trim()).await.map_err(told)?;
    let page = AskPage {
        title: "Your first passkey",
        words: "Your browser asks where to keep it. From then on it is what lets you in.",
        options,
        makes: true,
        action: "/console/passkeys/joined",
        csrf: String::new(),
    };
    asked(&console, peer, &page, Question::Join(Box::new(state)))
}

pub(crate) async fn join_finish(
    State(console): State<Console>,
    headers: HeaderMap,
    PostedUnsigned(form): PostedUnsigned<Answer>,
) -> Result<Response, Failure> {
    let Some(Question::Join(joining)) = console.0.questions.take(&headers, console.0.world.steady()) else {
        return over(&console);
    };
    match console.0.door.passkey_join(*joining, &form.answer).await.map_err(told)? {
        Some(vouched) => provider::signed_in(&console, &headers, vouched, "/console".into()).await,
        None => sign_in::refused(&console, "passkey", StatusCode::UNAUTHORIZED),
    }
}

struct Row {
    id: PasskeyId,
    name: String,
    made: String,
    used: String,
}

#[derive(Template)]
#[template(path = "passkeys.html")]
struct ListPage {
    csrf: String,
    email: String,
    rows: Vec<Row>,
}

/// The passkeys of whoever is signed in with one.
pub(crate) async fn list(someone: Someone) -> Result<Response, Failure> {
    let mine = someone.console.0.door.passkeys_mine(&someone.vouched).await.map_err(told)?;
    let row = |kept: gregal_core::passkey::Passkey| Row {
        id: kept.id,
        name: kept.name,
        made: words::when(kept.created_at),
        used: kept.used_at.map_or_else(|| "never".into(), words::when),
    };
    let rows = mine.into_iter().map(row).collect();
    page::page(&ListPage { csrf: someone.csrf, email: someone.vouched.email, rows })
}

#[derive(Deserialize)]
pub(crate) struct Add {
    name: String,
}

/// Asks for a further passkey, which lasts longer than this session: for whoever signed in a moment ago only.
pub(crate) async fn add_begin(
    State(console): State<Console>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    posted: PostedBy<Add>,
) -> Result<Response, Failure> {
    let PostedBy { someone, form } = posted;
    if let Some(elsewhere) = elsewhere(&console, &headers, "/console/passkeys")? {
        return Ok(elsewhere);
    }
    if !someone.is_fresh() {
        return Err(Failure::invalid("you signed in a while ago: sign out, sign in again, and come back"));
    }
    let begun = console.0.door.passkey_add_begin(&someone.vouched, form.name.trim()).await;
    let Asked { options, state } = begun.map_err(told)?;
    let page = AskPage {
        title: "Another passkey",
        words: "Your browser asks where to keep it.",
        options,
        makes: true,
        action: "/console/passkeys/added",
        csrf: someone.csrf,
    };
    asked(&console, peer, &page, Question::Add(Box::new(state)))
}

pub(crate) async fn add_finish(
    State(console): State<Console>,
    headers: HeaderMap,
    posted: PostedBy<Answer>,
) -> Result<Response, Failure> {
    let PostedBy { someone, form } = posted;
    let Some(Question::Add(adding)) = console.0.questions.take(&headers, console.0.world.steady()) else {
        return Err(Failure::invalid("this was not begun in this browser, or is over: begin again"));
    };
    if console.0.door.passkey_add(&someone.vouched, *adding, &form.answer).await.map_err(told)? {
        Ok(Redirect::to("/console/passkeys").into_response())
    } else {
        Err(Failure::invalid("the passkey was not accepted: begin again"))
    }
}

pub(crate) async fn remove(
    State(console): State<Console>,
    Id(passkey): Id<PasskeyId>,
    posted: PostedBy<Really>,
) -> Result<Response, Failure> {
    let PostedBy { someone, form } = posted;
    form.check()?;
    console.0.door.passkey_remove(&someone.vouched, passkey).await.map_err(told)?;
    Ok(Redirect::to("/console/passkeys").into_response())
}
