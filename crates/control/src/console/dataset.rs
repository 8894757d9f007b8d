//! Datasets: the list, announcing one, removing one. Its bytes go from the browser to the site itself.

use askama::Template;
use axum::{
    Json,
    response::{IntoResponse as _, Redirect, Response},
};
use gregal_api::{
    dataset::{DatasetCreate, DatasetCreated, DatasetView},
    grant::{GrantCreate, GrantCreated, GrantPurpose},
    site::SiteView,
};
use gregal_core::{
    access::Action,
    dataset::DatasetState,
    id::{DatasetId, ProjectId, SiteId},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    posted::{Posted, Really},
    visitor::{Id, Visitor},
    words,
};

/// The most datasets a list shows.
const LIST_MAX: usize = 200;

struct Row {
    id: DatasetId,
    name: String,
    state: &'static str,
    digest: String,
    digest_short: String,
    size: String,
    site: String,
    created: String,
    is_there: bool,
}

#[derive(Template)]
#[template(path = "datasets.html")]
struct ListPage {
    shell: Shell,
    project: ProjectId,
    may_create: bool,
    once: String,
    live: Live,
}

/// The list itself, which changes when a site says what it has stored.
#[derive(Template)]
#[template(path = "datasets_live.html")]
struct Live {
    csrf: String,
    rows: Vec<Row>,
    is_all: bool,
    /// Nothing is on its way.
    is_settled: bool,
    may_delete: bool,
}

impl askama::filters::HtmlSafe for Live {}

impl Live {
    async fn of(visitor: &Visitor, project: ProjectId, sites: &BTreeMap<SiteId, SiteView>) -> Result<Self, Failure> {
        let (datasets, is_all) = visitor.api.gather::<DatasetView>("datasets_list", &[&project]).await?;
        let rows: Vec<Row> = datasets.iter().rev().take(LIST_MAX).map(|dataset| row(dataset, sites)).collect();
        Ok(Self {
            csrf: visitor.csrf.clone(),
            is_all: is_all && rows.len() == datasets.len(),
            is_settled: datasets.iter().all(|dataset| dataset.state != DatasetState::Pending),
            rows,
            may_delete: visitor.can(Action::DatasetDelete),
        })
    }
}

fn row(dataset: &DatasetView, sites: &BTreeMap<SiteId, SiteView>) -> Row {
    let digest = dataset.digest.clone().unwrap_or_default();
    Row {
        id: dataset.id,
        name: dataset.name.clone(),
        state: match dataset.state {
            DatasetState::Pending => "pending",
            DatasetState::Stored => "stored",
            DatasetState::Deleted => "deleted",
        },
        digest_short: words::digest(&digest),
        digest,
        size: dataset.bytes.map_or_else(|| "–".into(), words::bytes),
        site: sites.get(&dataset.site).map_or_else(|| dataset.site.to_string(), |site| site.name.clone()),
        created: words::when(dataset.created_at),
        is_there: dataset.state != DatasetState::Deleted,
    }
}

pub(crate) async fn list(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let sites = visitor.sites().await?;
    let live = Live::of(&visitor, project, &sites).await?;
    let shell = visitor.shell("Datasets", Here::Datasets, Some(project)).await?;
    let may_create = visitor.can(Action::DatasetCreate);
    let page = ListPage { shell, project, may_create, once: visitor.once(), live };
    page::page_to(&page, sites.values().filter_map(|site| site.url.as_deref()))
}

/// Only the list, for the page's script.
pub(crate) async fn live(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let sites = visitor.sites().await?;
    page::page(&Live::of(&visitor, project, &sites).await?)
}

/// The form that announces a dataset.
#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
    once: String,
}

/// Where the browser is to put the bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Announced {
    dataset: DatasetId,
    #[serde(flatten)]
    grant: GrantCreated,
}

pub(crate) async fn create(
    Id(project): Id<ProjectId>,
    Posted { visitor, form }: Posted<Create>,
) -> Result<Json<Announced>, Failure> {
    let wanted = DatasetCreate { name: form.name, site: None };
    let made: DatasetCreated = visitor.api.send("dataset_create", &[&project], &wanted, Some(&form.once)).await?;
    let dataset = made.dataset.id;
    let grant = if let Some(grant) = made.grant {
        grant
    } else {
        // Asked again after an upload that broke off: the dataset is announced already and takes a fresh grant.
        let wanted = GrantCreate { purpose: GrantPurpose::DatasetWrite, object: dataset.to_string() };
        visitor.api.send("grant_create", &[&project], &wanted, None).await?
    };
    Ok(Json(Announced { dataset, grant }))
}

pub(crate) async fn delete(
    Id(id): Id<DatasetId>,
    Posted { visitor, form }: Posted<Really>,
) -> Result<Response, Failure> {
    form.check()?;
    let gone: DatasetView = visitor.api.read("dataset_delete", &[&id]).await?;
    Ok(Redirect::to(&format!("/console/projects/{}/datasets", gone.project)).into_response())
}
