//! Between a provider's word and an organisation: which one to act for, and taking up an invitation.

use std::time::{Duration, Instant};

use askama::Template;
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderMap, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};
use gregal_core::{id::OrganisationId, passkey::PASSKEY_ISSUER};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Console,
    failure::Failure,
    page,
    posted::{self, Token},
    provider::told,
    session::SessionId,
    sign_in,
    visitor::session_id,
};
use crate::app::sign_in::Vouched;

/// Somebody a provider vouched for, with or without an organisation yet.
pub(crate) struct Someone {
    pub(crate) console: Console,
    pub(crate) vouched: Vouched,
    /// When they did.
    since: Instant,
    pub(crate) csrf: String,
    pub(crate) id: SessionId,
    /// The key of the organisation acted for, if one was chosen.
    pub(crate) key: String,
}

/// How long after a sign-in what outlasts the session may be given without another one.
const FRESH_MAX: Duration = Duration::from_mins(10);

impl Someone {
    /// Whether they were vouched for a moment ago.
    pub(crate) fn is_fresh(&self) -> bool {
        self.console.0.world.steady().saturating_duration_since(self.since) < FRESH_MAX
    }
}

impl FromRequestParts<Console> for Someone {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        let id = session_id(&parts.headers).ok_or(Failure::SignedOut)?;
        let session = console.0.sessions.used(id, console.0.world.steady()).ok_or(Failure::SignedOut)?;
        let vouched = session.vouched.clone().ok_or_else(|| {
            Failure::invalid("you signed in with a key, which is for one organisation; sign in with a provider instead")
        })?;
        let door = &console.0.door;
        match (session.person, door.person_known(&vouched).await.map_err(told)?) {
            // Whoever was erased begins anew, if at all: no word that was given before is kept of them.
            (Some(then), now) if now != Some(then) => {
                console.0.sessions.end(id);
                return Err(Failure::SignedOut);
            }
            (None, Some(now)) => console.0.sessions.is_of(id, now),
            _ => {}
        }
        Ok(Self {
            console: console.clone(),
            vouched,
            since: session.since,
            csrf: session.csrf.clone(),
            id,
            key: session.key,
        })
    }
}

/// A form of one of our own pages, by somebody a provider vouched for, with the session's token.
pub(crate) struct PostedBy<T> {
    pub(crate) someone: Someone,
    pub(crate) form: T,
}

impl<T: DeserializeOwned> FromRequest<Console> for PostedBy<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Failure> {
        let (mut parts, body): (Parts, Body) = request.into_parts();
        posted::check_origin(&parts.headers, console)?;
        let someone = Someone::from_request_parts(&mut parts, console).await?;
        let bytes = posted::read(body).await?;
        let Token { csrf } = posted::parse(bytes.clone()).await.map_err(|_| Failure::not_ours())?;
        if !posted::is_same(&csrf, &someone.csrf) {
            return Err(Failure::not_ours());
        }
        Ok(Self { someone, form: posted::parse(bytes).await? })
    }
}

struct Row {
    id: OrganisationId,
    name: String,
    role: &'static str,
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct WelcomePage {
    csrf: String,
    email: String,
    rows: Vec<Row>,
    /// Whether they sign in with passkeys.
    has_passkeys: bool,
}

/// Signs out somebody who is vouched for, whether or not an organisation was chosen.
pub(crate) async fn sign_out(
    State(console): State<Console>,
    headers: HeaderMap,
    posted: PostedBy<posted::Nothing>,
) -> Result<Response, Failure> {
    let PostedBy { someone: _, form: posted::Nothing {} } = posted;
    sign_in::ended(&console, &headers).await
}

pub(crate) async fn page(someone: Someone) -> Result<Response, Failure> {
    let places = someone.console.0.door.places_of(&someone.vouched).await.map_err(told)?;
    let row =
        |place: crate::app::sign_in::Place| Row { id: place.organisation, name: place.name, role: place.role.as_str() };
    page::page(&WelcomePage {
        has_passkeys: someone.vouched.subject.issuer == PASSKEY_ISSUER,
        csrf: someone.csrf,
        email: someone.vouched.email,
        rows: places.into_iter().map(row).collect(),
    })
}

#[derive(Debug, Deserialize)]
pub(crate) struct Enter {
    organisation: String,
}

pub(crate) async fn enter(State(console): State<Console>, posted: PostedBy<Enter>) -> Result<Response, Failure> {
    let organisation = posted.form.organisation.parse().map_err(|_| Failure::invalid("no organisation was chosen"))?;
    entered(&console, posted.someone, organisation).await
}

#[derive(Deserialize)]
pub(crate) struct Join {
    text: String,
}

pub(crate) async fn join(State(console): State<Console>, posted: PostedBy<Join>) -> Result<Response, Failure> {
    let PostedBy { someone, form } = posted;
    let member = console.0.door.invitation_accept(&someone.vouched, &form.text).await.map_err(told)?;
    entered(&console, someone, member.organisation).await
}

/// Acts for an organisation from here on: a new key and a new session; those of before end.
async fn entered(console: &Console, someone: Someone, organisation: OrganisationId) -> Result<Response, Failure> {
    let door = &console.0.door;
    let key = door.session_begin(&someone.vouched, organisation).await.map_err(told)?;
    if !someone.key.is_empty() {
        door.session_end(&someone.key).await.map_err(told)?;
    }
    let person = door.person_known(&someone.vouched).await.map_err(told)?;
    console.0.sessions.end(someone.id);
    let token = console.random();
    let word = (someone.vouched, someone.since);
    console.0.sessions.begin_for(&token, key, console.random(), word, console.0.world.steady());
    if let Some(person) = person {
        console.0.sessions.is_of(SessionId::of(&token), person);
    }
    sign_in::with_cookie(console, Redirect::to("/console").into_response(), &token, "")
}
