//! What a form of ours sent: from one of our own pages, by whoever is signed in, with the session's token.

use std::time::Duration;

use axum::{
    Form,
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, header},
};
use gregal_api::problem::{Code, Problem};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{Console, failure::Failure, visitor::Visitor};

/// The largest form, in bytes.
const FORM_BYTES_MAX: usize = 16 << 10;
/// How long a form may take to arrive.
const FORM_TIME_MAX: Duration = Duration::from_secs(10);

/// A form that was let in.
#[derive(Debug)]
pub(crate) struct Posted<T> {
    /// Who sent it.
    pub(crate) visitor: Visitor,
    /// Its fields.
    pub(crate) form: T,
}

/// The session's token, among other fields.
#[derive(Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    pub(crate) csrf: String,
}

/// A form without fields of its own.
#[derive(Debug, Deserialize)]
pub(crate) struct Nothing {}

/// A form that destroys something: its box must be ticked.
#[derive(Debug, Deserialize)]
pub(crate) struct Really {
    #[serde(default)]
    really: String,
}

impl Really {
    /// Whether the box was ticked; browsers see to it, others may not.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.really == "yes" {
            Ok(())
        } else {
            Err(Failure::invalid("tick the box to say that it is meant; nothing was changed"))
        }
    }
}

impl<T: DeserializeOwned> FromRequest<Console> for Posted<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        check_origin(&parts.headers, console)?;
        let visitor = Visitor::from_request_parts(&mut parts, console).await?;
        let bytes = read(body).await?;
        let Token { csrf } = parse(bytes.clone()).await.map_err(|_| Failure::not_ours())?;
        if !is_same(&csrf, &visitor.csrf) {
            return Err(Failure::not_ours());
        }
        Ok(Self { visitor, form: parse(bytes).await? })
    }
}

/// The fields of a form of our own, before anybody is signed in: there is no session whose token it could carry, so the
/// browser's word for where it comes from has to do.
#[derive(Debug)]
pub(crate) struct PostedUnsigned<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Console> for PostedUnsigned<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        check_origin(&parts.headers, console)?;
        Ok(Self(parse(read(body).await?).await?))
    }
}

/// Browsers say with every form where it comes from: it has to be the address the console is reached by.
pub(crate) fn check_origin(headers: &HeaderMap, console: &Console) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let origin = text(header::ORIGIN).ok_or_else(Failure::not_ours)?;
    let is_public = console.0.origin.as_deref() == Some(origin);
    // Another name of the same machine (`localhost`): then the host that was asked is the one whose page asks.
    let asked = origin.split_once("://").map(|(_, host)| host);
    let is_host = asked.is_some() && asked == text(header::HOST);
    if is_public || is_host { Ok(()) } else { Err(Failure::not_ours()) }
}

pub(crate) async fn read(body: Body) -> Result<Bytes, Failure> {
    let slow = |_| Failure::invalid("the form did not arrive in time");
    tokio::time::timeout(FORM_TIME_MAX, to_bytes(body, FORM_BYTES_MAX)).await.map_err(slow)?.map_err(|_| {
        Problem::new(Code::TooLarge, format!("the form is larger than {FORM_BYTES_MAX} bytes, or broke off")).into()
    })
}

pub(crate) async fn parse<T: DeserializeOwned>(bytes: Bytes) -> Result<T, Failure> {
    let mut request = Request::new(Body::from(bytes));
    *request.method_mut() = axum::http::Method::POST;
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, kind);
    // What was sent is not repeated: it may hold a key.
    let form = Form::<T>::from_request(request, &()).await;
    form.map(|Form(form)| form)
        .map_err(|_| Failure::invalid("the form is not filled in as expected; nothing was changed"))
}

/// Compares digests, so that the time it takes tells nothing about the texts.
pub(crate) fn is_same(left: &str, right: &str) -> bool {
    !left.is_empty() && Sha256::digest(left.as_bytes()) == Sha256::digest(right.as_bytes())
}
