//! SCIM 2.0 over HTTP: its media type, its lists, and its errors.

use axum::{
    Json,
    body::Body as Bytes,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use gregal_api::{
    key::KeyCreated,
    page::KeyList,
    problem::{Code, Problem},
    scim::{self, SCIM_COUNT_MAX, SCIM_JSON, ScimCredentialCreate, Search, Shape},
};
use gregal_core::id::OrganisationId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Control, Cx, Error, Result,
    http::extract::{Asked, Body, Id, IdAndName, Paged},
};

/// An answer in SCIM's own media type.
#[derive(Debug)]
pub(crate) struct Scim(Value);

impl IntoResponse for Scim {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(SCIM_JSON));
        response
    }
}

/// Whether a path is behind the directory's door.
pub(crate) fn is_door(path: &str) -> bool {
    path.starts_with("/api/v1/organisations/") && path.contains("/scim/v2/")
}

/// A problem, as SCIM tells it (RFC 7644, 3.12).
pub(crate) fn told(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = match problem.code {
        Code::Taken => Some("uniqueness"),
        Code::InvalidRequest if problem.detail.starts_with("the filter") => Some("invalidFilter"),
        Code::InvalidRequest if problem.detail.starts_with("the patch") => Some("invalidPath"),
        Code::InvalidRequest => Some("invalidValue"),
        _ => None,
    };
    let mut body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": problem.status.to_string(), "detail": problem.detail,
    });
    if let Some(kind) = kind {
        body["scimType"] = json!(kind);
    }
    let mut response = (status, Bytes::from(body.to_string())).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(SCIM_JSON));
    response
}

/// Which part of a list is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Found {
    filter: Option<String>,
    #[serde(rename = "startIndex")]
    start: Option<i64>,
    count: Option<i64>,
    attributes: Option<String>,
    #[serde(rename = "excludedAttributes")]
    excluded: Option<String>,
}

/// Which attributes are asked for, separated by commas.
#[derive(Debug, Deserialize)]
pub(crate) struct Shaped {
    attributes: Option<String>,
    #[serde(rename = "excludedAttributes")]
    excluded: Option<String>,
}

impl Shaped {
    fn shape(&self) -> Shape {
        Shape::of_query(self.attributes.as_deref(), self.excluded.as_deref())
    }
}

pub(crate) async fn credential_create(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(wanted): Body<ScimCredentialCreate>,
) -> Result<Json<KeyCreated>> {
    Ok(Json(control.scim_credential_create(&cx, id, wanted).await?))
}

pub(crate) async fn credentials(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Paged(page): Paged,
) -> Result<Json<KeyList>> {
    let listed = control.scim_credentials(&cx, id, &page).await?;
    Ok(Json(KeyList { items: control.key_views(&listed.items).await?, next: listed.next }))
}

pub(crate) async fn config(State(control): State<Control>, cx: Cx, Id(id): Id<OrganisationId>) -> Result<Scim> {
    control.scim_open(&cx, id).await?;
    Ok(Scim(scim::config(&control.scim_base(id))))
}

pub(crate) async fn types(State(control): State<Control>, cx: Cx, Id(id): Id<OrganisationId>) -> Result<Scim> {
    control.scim_open(&cx, id).await?;
    Ok(Scim(scim::list(&[scim::user_type(&control.scim_base(id))], 1, 1)))
}

pub(crate) async fn schemas(State(control): State<Control>, cx: Cx, Id(id): Id<OrganisationId>) -> Result<Scim> {
    control.scim_open(&cx, id).await?;
    Ok(Scim(scim::list(&[scim::user_schema(&control.scim_base(id))], 1, 1)))
}

/// The one that is called so.
fn named(one: Value, name: &str) -> Result<Scim> {
    let is_it = one["id"].as_str() == Some(name);
    if is_it { Ok(Scim(one)) } else { Err(Error::refused(Code::NotFound, "there is nothing of this name")) }
}

pub(crate) async fn type_read(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, name): IdAndName<OrganisationId>,
) -> Result<Scim> {
    control.scim_open(&cx, id).await?;
    named(scim::user_type(&control.scim_base(id)), &name)
}

pub(crate) async fn schema_read(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, name): IdAndName<OrganisationId>,
) -> Result<Scim> {
    control.scim_open(&cx, id).await?;
    named(scim::user_schema(&control.scim_base(id)), &name)
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Asked(found): Asked<Found>,
) -> Result<Scim> {
    let shape = Shape::of_query(found.attributes.as_deref(), found.excluded.as_deref());
    listed(&control, &cx, id, found.filter.as_deref(), (found.start, found.count), &shape).await
}

/// The same, asked in the body. There is one type of resource, so one search is the other.
pub(crate) async fn search(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(asked): Body<Search>,
) -> Result<Scim> {
    let names = |list: &'_ [String]| list.join(",");
    let (only, but) = (names(&asked.attributes), names(&asked.excluded_attributes));
    let shape = Shape::of_query(Some(&only), Some(&but));
    listed(&control, &cx, id, asked.filter.as_deref(), (asked.start_index, asked.count), &shape).await
}

async fn listed(
    control: &Control,
    cx: &Cx,
    id: OrganisationId,
    filter: Option<&str>,
    (start, count): (Option<i64>, Option<i64>),
    shape: &Shape,
) -> Result<Scim> {
    let users = control.scim_users(cx, id, filter).await?;
    // RFC 7644, 3.4.2.4: less than one is one, and less than none is none.
    let start = usize::try_from(start.unwrap_or(1)).unwrap_or(1).max(1);
    let count = usize::try_from(count.unwrap_or(100).max(0)).unwrap_or(0).min(SCIM_COUNT_MAX);
    let base = control.scim_base(id);
    let shown = users.iter().skip(start - 1).take(count).map(|user| shape.cut(scim::user(user, &base)));
    let shown: Vec<Value> = shown.collect();
    Ok(Scim(scim::list(&shown, users.len(), start)))
}

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(sent): Body<Value>,
) -> Result<Response> {
    let shown = scim::user(&control.scim_user_create(&cx, id, &sent).await?, &control.scim_base(id));
    let location = shown["meta"]["location"].as_str().and_then(|text| HeaderValue::from_str(text).ok());
    let mut response = Scim(shown).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(crate) async fn read(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, user): IdAndName<OrganisationId>,
    Asked(asked): Asked<Shaped>,
) -> Result<Scim> {
    let shown = scim::user(&control.scim_user(&cx, id, &user).await?, &control.scim_base(id));
    Ok(Scim(asked.shape().cut(shown)))
}

pub(crate) async fn replace(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, user): IdAndName<OrganisationId>,
    Body(sent): Body<Value>,
) -> Result<Scim> {
    Ok(Scim(scim::user(&control.scim_user_replace(&cx, id, &user, &sent).await?, &control.scim_base(id))))
}

pub(crate) async fn patch(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, user): IdAndName<OrganisationId>,
    Body(sent): Body<Value>,
) -> Result<Scim> {
    Ok(Scim(scim::user(&control.scim_user_patch(&cx, id, &user, &sent).await?, &control.scim_base(id))))
}

pub(crate) async fn delete(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, user): IdAndName<OrganisationId>,
) -> Result<StatusCode> {
    control.scim_user_delete(&cx, id, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}
