//! Organisations, for operators; and projects, which organisations make.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use gregal_api::{
    organisation::OrganisationView,
    project::{ProjectCreate, ProjectView},
};
use serde::Deserialize;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    posted::Posted,
    visitor::Visitor,
    words,
};

/// The most organisations a list shows.
const LIST_MAX: usize = 500;

struct Row {
    id: String,
    name: String,
    country: String,
    residency: String,
    created: String,
}

#[derive(Template)]
#[template(path = "organisations.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    is_all: bool,
}

pub(crate) async fn list(visitor: Visitor) -> Result<Response, Failure> {
    let (organisations, is_all) = visitor.api.gather::<OrganisationView>("organisations_list", &[]).await?;
    let rows: Vec<Row> = organisations.iter().rev().take(LIST_MAX).map(row).collect();
    page::page(&ListPage {
        shell: visitor.shell("Organisations", Here::Organisations, None).await?,
        is_all: is_all && rows.len() == organisations.len(),
        rows,
    })
}

fn row(organisation: &OrganisationView) -> Row {
    Row {
        id: organisation.id.to_string(),
        name: organisation.name.clone(),
        country: organisation.country.clone(),
        residency: organisation.residency.jurisdictions.join(" "),
        created: words::when(organisation.created_at),
    }
}

/// The form that makes a project.
#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
    once: String,
}

pub(crate) async fn project_create(Posted { visitor, form }: Posted<Create>) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    let wanted = ProjectCreate { name: form.name };
    let made: ProjectView = visitor.api.send("project_create", &[&organisation], &wanted, Some(&form.once)).await?;
    Ok(Redirect::to(&format!("/console/projects/{}/jobs", made.id)).into_response())
}
