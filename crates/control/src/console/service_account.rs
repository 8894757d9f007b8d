//! Service accounts: the list, and making one. Keys, trusts and disabling are at the prompt and in the API.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use gregal_api::{
    scope::ScopeView,
    service_account::{ServiceAccountCreate, ServiceAccountView},
};
use gregal_core::{
    access::{Action, Role},
    id::ServiceAccountId,
};
use serde::Deserialize;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    posted::Posted,
    visitor::Visitor,
    words,
};

struct Row {
    id: ServiceAccountId,
    name: String,
    role: &'static str,
    reach: String,
    trusts: String,
    made: String,
    state: &'static str,
}

#[derive(Template)]
#[template(path = "service_accounts.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    is_all: bool,
    /// What the visitor may hand out.
    roles: Vec<&'static str>,
    once: String,
}

pub(crate) async fn list(visitor: Visitor) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    let (all, is_all) = visitor.api.gather::<ServiceAccountView>("service_accounts_list", &[&organisation]).await?;
    let row = |account: &ServiceAccountView| Row {
        id: account.id,
        name: account.name.clone(),
        role: account.role.as_str(),
        reach: account.project.map_or_else(|| "every project".into(), |project| project.to_string()),
        trusts: account.trusts.iter().map(|trust| trust.issuer.as_str()).collect::<Vec<_>>().join(", "),
        made: words::when(account.created_at),
        state: if account.disabled_at.is_some() { "disabled" } else { "works" },
    };
    let mine = visitor.me.key.role;
    let may = |role: &&Role| visitor.can(Action::ServiceAccountCreate) && mine.may_grant(**role);
    page::page(&ListPage {
        shell: visitor.shell("Service accounts", Here::Members, None).await?,
        rows: all.iter().map(row).collect(),
        is_all,
        roles: Role::ALL.iter().filter(may).map(|role| role.as_str()).collect(),
        once: visitor.once(),
    })
}

/// The form that makes one.
#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
    role: Role,
    once: String,
}

pub(crate) async fn create(Posted { visitor, form }: Posted<Create>) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    // One of a project keeps to it: a key bound to a project makes no other.
    let project = visitor.me.key.project;
    let wanted = ServiceAccountCreate { name: form.name, role: form.role, project, scope: ScopeView::default() };
    let _: ServiceAccountView =
        visitor.api.send("service_account_create", &[&organisation], &wanted, Some(&form.once)).await?;
    Ok(Redirect::to("/console/service-accounts").into_response())
}
