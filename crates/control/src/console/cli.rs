//! Letting a command line act for somebody: by the address it opened (loopback redirect) or by the code it shows (device).
//! Both pages say what asks and for what, and nothing happens but by a form.

use askama::Template;
use axum::{
    extract::{Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use gregal_core::id::OrganisationId;
use serde::Deserialize;

use super::{
    Console,
    failure::Failure,
    page,
    provider::{OnwardPage, told},
    welcome::{PostedBy, Someone},
};
use crate::{app::sign_in::Place, asks::Shown};

/// What the command line sends the browser with (RFC 6749, 4.1.1; RFC 7636, 4.3).
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    client_id: String,
    redirect_uri: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
}

impl Asked {
    /// The address of the page that asks.
    fn back(&self) -> String {
        format!(
            "/console/cli?client_id={}&redirect_uri={}&state={}&code_challenge={}&code_challenge_method=S256",
            self.client_id,
            escaped(&self.redirect_uri),
            self.state,
            self.code_challenge
        )
    }

    /// What does not fit is told here and never to the address named: that may be anybody's.
    fn check(&self) -> Result<(), Failure> {
        let is_plain = |text: &str, max: usize| {
            (16..=max).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let fits = self.client_id == gregal_api::token::CLI_CLIENT_ID
            && is_loopback(&self.redirect_uri)
            && is_plain(&self.state, 128)
            && is_plain(&self.code_challenge, 43)
            && self.code_challenge.len() == 43
            && self.code_challenge_method == "S256";
        if fits { Ok(()) } else { Err(Failure::invalid("this address was not made by `gregal login`")) }
    }
}

/// Whether an address is one that `gregal login` listens at, exactly: `http://127.0.0.1:PORT/callback` (RFC 8252, 7.3).
fn is_loopback(address: &str) -> bool {
    let port = address.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.strip_suffix("/callback"));
    port.is_some_and(|port| {
        !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    })
}

struct Row {
    id: OrganisationId,
    name: String,
    role: &'static str,
}

fn rows(places: Vec<Place>) -> Vec<Row> {
    let row = |place: Place| Row { id: place.organisation, name: place.name, role: place.role.as_str() };
    places.into_iter().map(row).collect()
}

#[derive(Template)]
#[template(path = "cli.html")]
struct CliPage {
    csrf: String,
    email: String,
    rows: Vec<Row>,
    redirect_uri: String,
    state: String,
    code_challenge: String,
}

/// Somebody who signed in a moment ago: what is given here outlasts the session. Else where to sign in first and come back.
#[expect(clippy::result_large_err, reason = "a whole answer, once a page")]
fn signed_in(someone: Result<Someone, Failure>, back: &str) -> Result<Someone, Response> {
    let first = || Redirect::to(&format!("/console/sign-in?next={back}")).into_response();
    someone.ok().filter(Someone::is_fresh).ok_or_else(first)
}

/// Text of ours as part of a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            let _ = std::fmt::Write::write_fmt(&mut escaped, format_args!("%{byte:02X}"));
        }
    }
    escaped
}

pub(crate) async fn ask(someone: Result<Someone, Failure>, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    asked.check()?;
    let someone = match signed_in(someone, &escaped(&asked.back())) {
        Ok(someone) => someone,
        Err(first) => return Ok(first),
    };
    let places = someone.console.0.door.places_of(&someone.vouched).await.map_err(told)?;
    page::page(&CliPage {
        csrf: someone.csrf,
        email: someone.vouched.email,
        rows: rows(places),
        redirect_uri: asked.redirect_uri,
        state: asked.state,
        code_challenge: asked.code_challenge,
    })
}

#[derive(Debug, Deserialize)]
pub(crate) struct Allow {
    organisation: String,
    redirect_uri: String,
    state: String,
    code_challenge: String,
}

pub(crate) async fn allow(State(console): State<Console>, posted: PostedBy<Allow>) -> Result<Response, Failure> {
    let PostedBy { someone, form } = posted;
    let asked = Asked {
        client_id: gregal_api::token::CLI_CLIENT_ID.into(),
        redirect_uri: form.redirect_uri,
        state: form.state,
        code_challenge: form.code_challenge,
        code_challenge_method: "S256".into(),
    };
    asked.check()?;
    let someone = match signed_in(Ok(someone), &escaped(&asked.back())) {
        Ok(someone) => someone,
        Err(first) => return Ok(first),
    };
    let organisation = chosen(&console, &someone, &form.organisation).await?;
    let (code, now) = (console.random(), console.0.world.steady());
    let granted = (someone.vouched, organisation);
    let redirect = asked.redirect_uri.clone();
    if !console.0.door.asks().code_begin(&code, granted, asked.code_challenge, redirect, now) {
        return Err(Failure::invalid("too many command lines wait: try again in a minute"));
    }
    page::page(&OnwardPage {
        title: "Allowed",
        words: "Going back to the command line.".into(),
        url: format!("{}?code={code}&state={}", asked.redirect_uri, asked.state),
    })
}

/// The organisation chosen, if it is one of theirs.
async fn chosen(console: &Console, someone: &Someone, text: &str) -> Result<OrganisationId, Failure> {
    let places = console.0.door.places_of(&someone.vouched).await.map_err(told)?;
    let found = places.iter().find(|place| place.organisation.to_string() == text);
    found.map(|place| place.organisation).ok_or_else(|| Failure::invalid("choose one of your organisations"))
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage {
    csrf: String,
    email: String,
    code: String,
    shown: Option<Shown>,
    rows: Vec<Row>,
    /// What was said, if something was.
    said: &'static str,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Typed {
    #[serde(default)]
    code: String,
}

pub(crate) async fn device(someone: Result<Someone, Failure>, Query(typed): Query<Typed>) -> Result<Response, Failure> {
    let code = code_of(&typed.code);
    let someone = match signed_in(someone, &escaped(&device_at(&code))) {
        Ok(someone) => someone,
        Err(first) => return Ok(first),
    };
    device_page(someone, code, "").await
}

/// A code as it may stand in an address.
fn code_of(typed: &str) -> String {
    typed.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(16).collect()
}

/// The address of the page that asks about a code.
fn device_at(code: &str) -> String {
    format!("/console/device?code={}", code_of(code))
}

async fn device_page(someone: Someone, code: String, said: &'static str) -> Result<Response, Failure> {
    let (door, now) = (&someone.console.0.door, someone.console.0.world.steady());
    let shown = if code.is_empty() { None } else { door.asks().device_shown(&someone.vouched, &code, now) };
    let said = if shown.is_none() && !code.is_empty() { "unknown" } else { said };
    let places = door.places_of(&someone.vouched).await.map_err(told)?;
    let (csrf, email) = (someone.csrf, someone.vouched.email);
    page::page(&DevicePage { csrf, email, code, shown, rows: rows(places), said })
}

#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    code: String,
    #[serde(default)]
    organisation: String,
    word: String,
}

pub(crate) async fn device_word(State(console): State<Console>, posted: PostedBy<Said>) -> Result<Response, Failure> {
    let PostedBy { someone, form } = posted;
    let allowed = form.word == "allow";
    if allowed && !someone.is_fresh() {
        return Ok(Redirect::to(&format!("/console/sign-in?next={}", escaped(&device_at(&form.code)))).into_response());
    }
    let organisation = if allowed { Some(chosen(&console, &someone, &form.organisation).await?) } else { None };
    let now = console.0.world.steady();
    let heard = console.0.door.asks().device_word(&someone.vouched, &form.code, organisation, now);
    let said = match (heard, allowed) {
        (false, _) => "unknown",
        (true, true) => "allowed",
        (true, false) => "refused",
    };
    device_page(someone, String::new(), said).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_goes_to_a_port_of_this_machine_and_nowhere_else() {
        assert!(is_loopback("http://127.0.0.1:49152/callback"));
        for wrong in [
            "https://127.0.0.1:49152/callback",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:99999/callback",
            "http://127.0.0.1:80@evil.example/callback",
            "http://127.0.0.1:80/callback/../x",
            "http://127.0.0.1:80/callback?x=/callback",
            "http://127.0.0.1.evil.example:80/callback",
            "http://localhost:80/callback",
            "http://evil.example/callback",
            "javascript:alert(1)//callback",
        ] {
            assert!(!is_loopback(wrong), "{wrong}");
        }
    }
}
