//! What handlers take: the context, ids, bodies, queries and pages. Whatever does not fit is told by field and position,
//! never by repeating what was sent: a body may hold a secret in the wrong place.

use std::{any::type_name, str::FromStr};

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::BytesRejection},
    http::request::Parts,
};
use bytes::Bytes;
use gregal_api::page::{PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, PageQuery};
use gregal_core::id::IdError;
use gregal_store::Page;
use serde::de::DeserializeOwned;

use crate::{Control, Cx, Error};

impl FromRequestParts<Control> for Cx {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Control) -> Result<Self, Error> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Error::Broken("a handler was reached past its guard".into()))
    }
}

/// The id in the path.
#[derive(Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr<Err = IdError>> FromRequestParts<Control> for Id<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Error> {
        let Name(text) = Name::from_request_parts(parts, control).await?;
        id_of(&text).map(Self)
    }
}

fn id_of<T: FromStr<Err = IdError>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: IdError| {
        let form = format!("{}_01jd3h9v7nq8x0m2k4t6w8y0za", error.prefix);
        Error::invalid(format!("the path holds no {} id: one looks like `{form}`", error.noun))
    })
}

/// A part of a path, if it is not too long to be repeated in an answer.
fn bounded(text: String) -> Result<String, Error> {
    if text.len() > 200 {
        return Err(Error::invalid("a part of the path is longer than 200 bytes"));
    }
    Ok(text)
}

/// The name or id in the path, as text.
#[derive(Debug)]
pub(crate) struct Name(pub(crate) String);

impl FromRequestParts<Control> for Name {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Error> {
        let path = Path::<String>::from_request_parts(parts, control).await;
        let Path(text) = path.map_err(|_| Error::invalid("the path is not valid UTF-8"))?;
        bounded(text).map(Self)
    }
}

/// The id and the name in a path that has both.
#[derive(Debug)]
pub(crate) struct IdAndName<T>(pub(crate) T, pub(crate) String);

impl<T: FromStr<Err = IdError>> FromRequestParts<Control> for IdAndName<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Error> {
        let path = Path::<(String, String)>::from_request_parts(parts, control).await;
        let Path((id, name)) = path.map_err(|_| Error::invalid("the path is not valid UTF-8"))?;
        Ok(Self(id_of(&id)?, bounded(name)?))
    }
}

/// The query's parameters.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Control> for Asked<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Error> {
        let query = Query::<T>::from_request_parts(parts, control).await;
        query.map(|Query(query)| Self(query)).map_err(|error| {
            let mut chain = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                chain = inner.to_string();
                cause = inner.source();
            }
            Error::invalid(format!("a query parameter is not valid{}", expected(&chain)))
        })
    }
}

/// The page asked for.
#[derive(Debug)]
pub(crate) struct Paged(pub(crate) Page);

impl FromRequestParts<Control> for Paged {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Error> {
        let Asked(query) = Asked::<PageQuery>::from_request_parts(parts, control).await?;
        page(query.after, query.limit).map(Self)
    }
}

/// A page of the store, within its bounds.
pub(crate) fn page(after: Option<String>, asked: Option<u32>) -> Result<Page, Error> {
    let is_cursor = |after: &String| after.len() <= 64 && after.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if after.as_ref().is_some_and(|after| !is_cursor(after)) {
        return Err(Error::invalid("`after` is not the `next` of an earlier page"));
    }
    Ok(Page { after, limit: limit(asked)? })
}

/// As [`page`], for lists in an order of arrival, whose cursors are numbers.
pub(crate) fn page_numbered(after: Option<String>, asked: Option<u32>) -> Result<Page, Error> {
    if after.as_ref().is_some_and(|after| after.parse::<i64>().is_err()) {
        return Err(Error::invalid("`after` is not the `next` of an earlier page"));
    }
    page(after, asked)
}

/// How many items are wanted.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32, Error> {
    match asked.unwrap_or(PAGE_LIMIT_DEFAULT) {
        limit @ 1..=PAGE_LIMIT_MAX => Ok(limit),
        _ => Err(Error::invalid(format!("`limit` is not from 1 to {PAGE_LIMIT_MAX}"))),
    }
}

/// The body, as JSON.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Control> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, control: &Control) -> Result<Self, Error> {
        // The guard has read it already, with its bounds.
        let read = Bytes::from_request(request, control).await;
        let bytes = read.map_err(|_: BytesRejection| Error::invalid("the body could not be read"))?;
        // A route whose body has no fields takes no body too.
        let is_empty = bytes.is_empty() && type_name::<T>().ends_with("::Empty");
        let text: &[u8] = if is_empty { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| unfit(&error))
    }
}

/// What is wrong with a body: where, and what was expected.
fn unfit(error: &serde_json::Error) -> Error {
    let place = match (error.line(), error.column()) {
        // Values that are first read whole and then told apart by their kind have no place any more.
        (0, _) | (_, 0) => String::new(),
        (line, column) => format!(" at line {line}, column {column}"),
    };
    match error.classify() {
        serde_json::error::Category::Eof => Error::invalid(format!("the body is JSON that ends too early{place}")),
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            Error::invalid(format!("the body is not JSON{place}"))
        }
        serde_json::error::Category::Data => {
            Error::invalid(format!("the body is not what this route takes{place}{}", expected(&error.to_string())))
        }
    }
}

/// The part of a message that says what was expected, which is ours; what was found is the sender's, and is left out.
fn expected(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    if message.starts_with("missing field `") || message.starts_with("duplicate field `") {
        return format!(": {message}");
    }
    let kind = if message.starts_with("unknown field") {
        "an unknown field, "
    } else if message.starts_with("unknown variant") {
        "an unknown word, "
    } else {
        ""
    };
    for mark in [", expected ", ", one looks like "] {
        if let Some((_, ours)) = message.rsplit_once(mark) {
            return format!(": {kind}expected {ours}");
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gregal_api::{job::JobCreate, key::KeyCreate};

    fn told<T: DeserializeOwned + std::fmt::Debug>(body: &[u8]) -> String {
        unfit(&serde_json::from_slice::<T>(body).unwrap_err()).problem().detail
    }

    #[test]
    fn a_body_that_does_not_fit_is_told_by_place_and_expectation_and_never_repeated() {
        let role = told::<KeyCreate>(br#"{"name": "a", "role": "gk_secret"}"#);
        assert!(role.contains("line 1") && role.contains("expected one of `operator`"), "{role}");
        let field = told::<KeyCreate>(br#"{"gk_secret": 1}"#);
        assert!(field.contains("an unknown field") && field.contains("`expires_in_s`"), "{field}");
        let id = told::<JobCreate>(
            br#"{"name":"a","sku":"cpu.1","seconds_max":1,"program":{"kind":"train","dataset":"gk_secret","model_name":"m"}}"#,
        );
        assert!(id.contains("expected `ds_"), "{id}");
        let number = told::<JobCreate>(br#"{"name":"a","sku":"cpu.1","seconds_max":"gk_secret"}"#);
        assert!(number.contains("expected u32"), "{number}");
        let missing = told::<KeyCreate>(br#"{"name": "gk_secret"}"#);
        assert!(missing.contains("missing field `role`"), "{missing}");
        for text in [role, field, id, number, missing, told::<KeyCreate>(b"gk_secret"), told::<KeyCreate>(b"\xff")] {
            assert!(!text.contains("gk_secret"), "{text}");
        }
    }

    #[test]
    fn pages_have_bounds() {
        assert!(page(None, None).is_ok_and(|page| page.limit == 100));
        assert!(page(None, Some(500)).is_ok());
        for wrong in [page(None, Some(0)), page(None, Some(501)), page(Some("a'b".into()), None)] {
            assert_eq!(wrong.unwrap_err().problem().status, 400);
        }
        assert!(page_numbered(Some("12".into()), None).is_ok() && page_numbered(Some("x".into()), None).is_err());
    }
}
