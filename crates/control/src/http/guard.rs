//! At the door of every route: who asks, how large the body is, and whether the request claims to be done once.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use gregal_api::{
    problem::{Code, Problem},
    routes::{Access, Route},
};
use gregal_core::{
    access::{Action, Role},
    id::RequestId,
    key,
};
use gregal_policy::ResourceKind;
use sha2::{Digest, Sha256};

use crate::{
    Control, Error, Result,
    context::{Actor, Claim, Cx, Source, Unfound},
    http::peer::Peer,
};

/// The largest body a route takes, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The largest body a site sends, in bytes: a thousand usage records, or all it observes.
const SITE_BODY_BYTES_MAX: usize = 8 << 20;
/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// The most characters that are written down of what was not found.
const UNFOUND_CHARS_MAX: usize = 120;
/// The longest idempotency key.
const IDEMPOTENCY_KEY_MAX: usize = 128;

/// Lets a request in, as whom it proves to be.
pub(crate) async fn guard(
    State((control, route)): State<(Control, &'static Route)>,
    request: Request,
    next: Next,
) -> Response {
    let object = object_of(route, request.uri().path());
    let (cx, request) = match admitted(&control, route, request).await {
        Ok(admitted) => admitted,
        Err(error) => return error.into_response(),
    };
    let mut response = next.run(request).await;
    if let (StatusCode::NOT_FOUND, Some(action)) = (response.status(), action_of(route.access)) {
        let detail = response.extensions().get::<Problem>().map(|problem| plain(&problem.detail)).unwrap_or_default();
        let unfound = Unfound { kind: kind_of(route), named: &object, detail: &detail };
        if let Err(error) = control.unfound(&cx, action, unfound).await {
            return error.into_response();
        }
    }
    if !response.status().is_success() {
        return response;
    }
    // A use case that forgot to ask must not answer, whatever it found.
    if let Some(action) = action_of(route.access)
        && !cx.was_granted(action)
        && !response.headers().contains_key("idempotent-replayed")
        && !asks_of_its_list(route)
    {
        return Error::Broken(format!("`{}` answered without having asked for `{}`", route.id, action.as_str()))
            .into_response();
    }
    *response.status_mut() = StatusCode::from_u16(route.status).unwrap_or(StatusCode::OK);
    response
}

/// What has to be allowed on the way to an answer.
const fn action_of(access: Access) -> Option<Action> {
    match access {
        Access::Key(action) => Some(action),
        Access::Directory => Some(Action::ScimProvision),
        Access::Public | Access::AnyKey | Access::Proof | Access::Site => None,
    }
}

/// What the path names first: the object that has to be there before anything in it can be.
fn object_of(route: &Route, path: &str) -> String {
    let named = route.path.split('/').zip(path.split('/')).find(|(part, _)| part.starts_with('{'));
    named.map_or_else(|| route.id.to_owned(), |(_, value)| plain(value))
}

/// What a route's path names first, to the policies.
fn kind_of(route: &Route) -> ResourceKind {
    match route.path.split('/').find(|part| part.starts_with('{')) {
        Some("{organisation}") => ResourceKind::Organisation,
        Some("{key}") => ResourceKind::Key(Role::Inference),
        Some("{invitation}" | "{service_account}") => ResourceKind::Member(Role::Inference),
        Some("{dataset}") => ResourceKind::Dataset,
        Some("{job}") => ResourceKind::Job,
        Some("{model}") => ResourceKind::Model,
        Some("{endpoint}") => ResourceKind::Endpoint,
        Some("{reservation}") => ResourceKind::Reservation,
        _ => ResourceKind::Project,
    }
}

/// What was asked for may be any text: what of it enters a log is short and plain.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(UNFOUND_CHARS_MAX).collect()
}

/// The one list that may be empty without a grant: a key bound to a project may not see the organisation above it.
fn asks_of_its_list(route: &Route) -> bool {
    route.id == "organisations_list"
}

async fn admitted(control: &Control, route: &Route, request: Request) -> Result<(Cx, Request)> {
    let (mut parts, body) = request.into_parts();
    let id = parts.extensions.get::<RequestId>().copied();
    let id = id.unwrap_or_else(|| RequestId::new(control.world()));
    let now = control.now();
    let actor = actor(control, route.access, &parts, now).await?;
    let own = control.own_of_actor(&actor).await?;
    let source = match route.access {
        Access::Site => Source::Site,
        Access::Public | Access::Key(_) | Access::AnyKey | Access::Proof | Access::Directory => {
            parts.extensions.get::<Source>().copied().unwrap_or(Source::Api)
        }
    };
    let mut cx = Cx::new(control.world(), id, now, actor, source);
    cx.own = own;
    cx.peer = Peer::of(&parts.extensions);
    control.admit_peer(&cx).await?;
    cx.accesses = control.accesses_in_use(&cx).await?;
    let body = if route.request.is_some() {
        let bytes = read(route.access, body).await?;
        if route.creates() {
            cx.claim = claim(&parts.headers, route, parts.uri.path(), &bytes)?.map(Arc::new);
        }
        Body::from(bytes)
    } else {
        Body::empty()
    };
    parts.extensions.insert(cx.clone());
    Ok((cx, Request::from_parts(parts, body)))
}

async fn actor(control: &Control, access: Access, parts: &Parts, now: gregal_core::time::Time) -> Result<Actor> {
    if matches!(access, Access::Public | Access::Proof) {
        return Ok(Actor::Nobody);
    }
    let unknown = || {
        let problem = Problem::new(Code::Unauthenticated, "the request carries no key that works");
        Error::from(problem.hint("send `Authorization: Bearer gk_...`; a key may have expired or been revoked"))
    };
    // Two are none: whatever stands before this may have looked at the other one.
    let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(header), None) = (headers.next(), headers.next()) else { return Err(unknown()) };
    let header = header.to_str().map_err(|_| unknown())?;
    let (scheme, secret) = header.split_once(' ').ok_or_else(unknown)?;
    let secret = secret.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || !secret.starts_with(key::SECRET_PREFIX) || secret.len() > 200 {
        return Err(unknown());
    }
    // Nobody has this key: a guess, or a slip. One that expired or was revoked was somebody's, and is no guess.
    let guessed = || control.guessed(Peer::of(&parts.extensions).0, now).unwrap_or_else(unknown);
    // Looked up by digest: nothing is compared byte by byte with what was sent, so its timing tells nothing.
    let digest = key::digest_of(secret);
    if matches!(access, Access::Site) {
        let site = control.store().site_by_secret_digest(&digest).await?.ok_or_else(guessed)?;
        return Ok(Actor::Site(Box::new(site)));
    }
    let found = control.store().key_by_digest(&digest).await?.ok_or_else(guessed)?;
    let key = Some(found).filter(|key| key.works_at(now)).ok_or_else(unknown)?;
    // The directory's door opens to its credential alone, however much another key may do.
    if matches!(access, Access::Directory) && !key.is_directory() {
        return Err(unknown());
    }
    control.key_uses().note(key.id, now);
    Ok(Actor::Key(Box::new(key)))
}

async fn read(access: Access, body: Body) -> Result<Bytes> {
    let max = if matches!(access, Access::Site) { SITE_BODY_BYTES_MAX } else { BODY_BYTES_MAX };
    let slow = |_| Error::invalid("the body did not arrive in time");
    tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, max)).await.map_err(slow)?.map_err(|error| {
        let source = std::error::Error::source(&error);
        // The limit's own error has a type we do not depend on; its words are stable.
        if source.is_some_and(|source| source.to_string().contains("limit")) || error.to_string().contains("limit") {
            return Error::refused(Code::TooLarge, format!("the body is larger than {max} bytes"));
        }
        Error::invalid("the body could not be read to its end")
    })
}

/// The claim to be done once. The digest covers what is asked and of whom, so that one key cannot stand for two acts.
fn claim(headers: &HeaderMap, route: &Route, path: &str, body: &[u8]) -> Result<Option<Claim>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let usable = |key: &&str| (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len());
    let Some(key) = value.to_str().ok().filter(usable) else {
        let expected = format!("`Idempotency-Key` is not 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters");
        return Err(Error::invalid(expected));
    };
    let digest = Sha256::new().chain_update(route.id).chain_update([0]).chain_update(path).chain_update([0]);
    Ok(Some(Claim { key: key.to_owned(), digest: hex::encode(digest.chain_update(body).finalize()) }))
}
