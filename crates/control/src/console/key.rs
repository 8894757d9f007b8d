//! Keys: the list, making one (its secret is shown on the one answer that made it), revoking one.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use gregal_api::{
    key::{KeyCreate, KeyCreated, KeyView},
    scope::ScopeView,
};
use gregal_core::{
    access::{Action, Role},
    id::{KeyId, ProjectId},
};
use serde::Deserialize;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    posted::{Posted, Really},
    visitor::{Id, Visitor},
    words,
};

/// The most keys a list shows.
const LIST_MAX: usize = 200;

struct Row {
    id: KeyId,
    name: String,
    role: &'static str,
    created: String,
    expires: String,
    used: String,
    state: &'static str,
    may_revoke: bool,
}

#[derive(Template)]
#[template(path = "keys.html")]
struct ListPage {
    shell: Shell,
    project: ProjectId,
    rows: Vec<Row>,
    is_all: bool,
    /// What the visitor may hand out.
    roles: Vec<&'static str>,
    once: String,
}

#[derive(Template)]
#[template(path = "key_made.html")]
struct MadePage {
    shell: Shell,
    project: ProjectId,
    name: String,
    role: &'static str,
    secret: Option<String>,
}

pub(crate) async fn list(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let (keys, is_all) = visitor.api.gather::<KeyView>("keys_list", &[&project]).await?;
    let rows: Vec<Row> = keys.iter().rev().take(LIST_MAX).map(|key| row(key, &visitor)).collect();
    let mine = visitor.me.key.role;
    let roles = Role::ALL.iter().filter(|role| visitor.can(Action::KeyCreate) && mine.may_grant(**role));
    page::page(&ListPage {
        shell: visitor.shell("Keys", Here::Keys, Some(project)).await?,
        project,
        is_all: is_all && rows.len() == keys.len(),
        rows,
        roles: roles.map(|role| role.as_str()).collect(),
        once: visitor.once(),
    })
}

fn row(key: &KeyView, visitor: &Visitor) -> Row {
    let state = if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|end| end <= visitor.now()) {
        "expired"
    } else {
        "works"
    };
    Row {
        id: key.id,
        name: key.name.clone(),
        role: key.role.as_str(),
        created: words::when(key.created_at),
        used: key.last_used_at.map_or_else(|| "not yet".into(), words::when),
        expires: key.expires_at.map_or_else(|| "never".into(), words::when),
        state,
        may_revoke: state == "works" && visitor.can(Action::KeyRevoke) && visitor.me.key.role.may_grant(key.role),
    }
}

/// The most days a key may be made for: a hundred years, whose seconds a request still holds.
const DAYS_MAX: u32 = 36_500;

/// The form that makes a key.
#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
    role: Role,
    /// Days until it stops working by itself; empty: never.
    #[serde(default)]
    days: String,
    once: String,
}

pub(crate) async fn create(
    Id(project): Id<ProjectId>,
    Posted { visitor, form }: Posted<Create>,
) -> Result<Response, Failure> {
    let expires_in_s = seconds_of(form.days.trim())?;
    let wanted = KeyCreate { name: form.name, role: form.role, expires_in_s, scope: ScopeView::default() };
    let made: KeyCreated = visitor.api.send("key_create", &[&project], &wanted, Some(&form.once)).await?;
    page::page(&MadePage {
        shell: visitor.shell("New key", Here::Keys, Some(project)).await?,
        project,
        name: made.key.name,
        role: made.key.role.as_str(),
        secret: made.secret,
    })
}

/// The seconds of so many days; none for no end.
fn seconds_of(days: &str) -> Result<Option<u32>, Failure> {
    if days.is_empty() {
        return Ok(None);
    }
    let known = days.parse::<u32>().ok().filter(|days| *days <= DAYS_MAX);
    let refused = || Failure::invalid(format!("`days` is not a whole number of days up to {DAYS_MAX}"));
    Ok(Some(known.ok_or_else(refused)? * 86_400))
}

pub(crate) async fn revoke(Id(id): Id<KeyId>, Posted { visitor, form }: Posted<Really>) -> Result<Response, Failure> {
    form.check()?;
    let gone: KeyView = visitor.api.read("key_revoke", &[&id]).await?;
    let back = gone.project.map_or_else(|| "/console".into(), |project| format!("/console/projects/{project}/keys"));
    Ok(Redirect::to(&back).into_response())
}
