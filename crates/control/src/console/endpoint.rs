//! Endpoints: the list, serving a model, an endpoint's page with its playground. Questions and answers go between the browser
//! and the site; this page only gets the grant.

use askama::Template;
use axum::{
    Json,
    response::{IntoResponse as _, Redirect, Response},
};
use gregal_api::{
    endpoint::{EndpointCreate, EndpointView},
    grant::{GrantCreate, GrantCreated, GrantPurpose},
    model::ModelView,
    sku::SkuView,
};
use gregal_core::{
    access::Action,
    endpoint::EndpointState,
    id::{EndpointId, ModelId, ProjectId},
};
use serde::Deserialize;

use super::{
    failure::Failure,
    model,
    page::{self, Here, Shell},
    posted::{Nothing, Posted, Really},
    visitor::{Id, Visitor},
    words,
};

/// The most endpoints a list shows.
const LIST_MAX: usize = 200;
/// Seconds after which a browser without JavaScript looks again.
const REFRESH_S: u32 = 5;

/// An endpoint as a line of a list.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: EndpointId,
    pub(crate) name: String,
    pub(crate) model: ModelId,
    pub(crate) model_name: String,
    pub(crate) state: &'static str,
    pub(crate) sku: String,
    pub(crate) message: String,
    pub(crate) created: String,
}

#[derive(Template)]
#[template(path = "endpoints.html")]
struct ListPage {
    shell: Shell,
    project: ProjectId,
    rows: Vec<Row>,
    is_all: bool,
    /// Models that can be served: id and name.
    models: Vec<(ModelId, String)>,
    /// What a model can stand on.
    skus: Vec<String>,
    may_create: bool,
    once: String,
}

#[derive(Template)]
#[template(path = "endpoint.html")]
struct EndpointPage {
    shell: Shell,
    endpoint: EndpointView,
    site: String,
    created: String,
    may_delete: bool,
    may_ask: bool,
    live: Live,
}

/// What changes while an endpoint comes and goes.
#[derive(Template)]
#[template(path = "endpoint_live.html")]
struct Live {
    state: &'static str,
    /// Nothing will change by itself any more.
    is_settled: bool,
    message: Option<String>,
    ready: String,
    /// How long it answered and was billed for, and how long it may on what is held.
    billed: String,
    held: String,
}

impl askama::filters::HtmlSafe for Live {}

impl Live {
    fn of(endpoint: &EndpointView) -> Self {
        Self {
            state: endpoint.state.as_str(),
            is_settled: is_settled(endpoint.state),
            message: endpoint.message.clone(),
            ready: words::when_any(endpoint.ready_at),
            billed: words::span(i64::try_from(endpoint.billed_ms).unwrap_or(i64::MAX)),
            held: words::span(i64::try_from(endpoint.held_ms).unwrap_or(i64::MAX)),
        }
    }
}

const fn is_settled(state: EndpointState) -> bool {
    state.is_final() || matches!(state, EndpointState::Ready)
}

impl Row {
    pub(crate) fn of(endpoint: &EndpointView, models: &[ModelView]) -> Self {
        let model = models.iter().find(|model| model.id == endpoint.model);
        Self {
            id: endpoint.id,
            name: endpoint.name.clone(),
            model: endpoint.model,
            model_name: match &endpoint.shared {
                Some(shared) => format!("{shared} (shared)"),
                None => model.map_or_else(|| endpoint.model.to_string(), model::title),
            },
            state: endpoint.state.as_str(),
            sku: endpoint.sku.clone(),
            message: endpoint.message.clone().unwrap_or_default(),
            created: words::when(endpoint.created_at),
        }
    }
}

pub(crate) async fn list(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let (endpoints, is_all) = visitor.api.gather::<EndpointView>("endpoints_list", &[&project]).await?;
    let (models, _) = visitor.api.gather::<ModelView>("models_list", &[&project]).await?;
    // Who may not serve one need not see what on, and may not either.
    let skus: Vec<SkuView> =
        if visitor.can(Action::EndpointCreate) { visitor.api.gather("skus_list", &[]).await?.0 } else { Vec::new() };
    let rows: Vec<Row> = endpoints.iter().rev().take(LIST_MAX).map(|endpoint| Row::of(endpoint, &models)).collect();
    page::page(&ListPage {
        shell: visitor.shell("Endpoints", Here::Endpoints, Some(project)).await?,
        project,
        is_all: is_all && rows.len() == endpoints.len(),
        rows,
        skus: skus.into_iter().filter(|sku| sku.gpus == 0).map(|sku| sku.name).collect(),
        models: models.iter().rev().take(LIST_MAX).map(|found| (found.id, model::title(found))).collect(),
        may_create: visitor.can(Action::EndpointCreate),
        once: visitor.once(),
    })
}

/// The form that serves a model.
#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
    model: String,
    /// Empty: the smallest that serves the model.
    #[serde(default)]
    sku: String,
    once: String,
}

pub(crate) async fn create(
    Id(project): Id<ProjectId>,
    Posted { visitor, form }: Posted<Create>,
) -> Result<Response, Failure> {
    let model: ModelId = form.model.parse().map_err(|_| Failure::invalid("choose a model"))?;
    let wanted = EndpointCreate {
        name: form.name,
        model: Some(model),
        shared: None,
        site: None,
        sku: Some(form.sku).filter(|sku| !sku.is_empty()),
    };
    let made: EndpointView = visitor.api.send("endpoint_create", &[&project], &wanted, Some(&form.once)).await?;
    Ok(Redirect::to(&format!("/console/endpoints/{}", made.id)).into_response())
}

pub(crate) async fn page(visitor: Visitor, Id(id): Id<EndpointId>) -> Result<Response, Failure> {
    let endpoint: EndpointView = visitor.api.read("endpoint_read", &[&id]).await?;
    let sites = visitor.sites().await?;
    let site = sites.get(&endpoint.site);
    let mut shell =
        visitor.shell(&format!("Endpoint {}", endpoint.name), Here::Endpoints, Some(endpoint.project)).await?;
    shell.refresh_s = (!is_settled(endpoint.state)).then_some(REFRESH_S);
    let connects = endpoint.base_url.clone();
    let page = EndpointPage {
        site: site.map_or_else(|| endpoint.site.to_string(), |site| format!("{} ({})", site.name, site.jurisdiction)),
        created: words::when(endpoint.created_at),
        may_delete: visitor.can(Action::EndpointDelete) && !endpoint.state.is_final(),
        may_ask: visitor.can(Action::GrantCreate) && visitor.can(Action::EndpointInfer) && !endpoint.state.is_final(),
        live: Live::of(&endpoint),
        shell,
        endpoint,
    };
    page::page_to(&page, connects.as_deref())
}

/// Only what changes, for the page's script.
pub(crate) async fn live(visitor: Visitor, Id(id): Id<EndpointId>) -> Result<Response, Failure> {
    let endpoint: EndpointView = visitor.api.read("endpoint_read", &[&id]).await?;
    page::page(&Live::of(&endpoint))
}

pub(crate) async fn delete(
    Id(id): Id<EndpointId>,
    Posted { visitor, form }: Posted<Really>,
) -> Result<Response, Failure> {
    form.check()?;
    let _: EndpointView = visitor.api.read("endpoint_delete", &[&id]).await?;
    Ok(Redirect::to(&format!("/console/endpoints/{id}")).into_response())
}

/// Leave for the browser to ask the model at its site.
pub(crate) async fn grant(
    Id(id): Id<EndpointId>,
    Posted { visitor, .. }: Posted<Nothing>,
) -> Result<Json<GrantCreated>, Failure> {
    let endpoint: EndpointView = visitor.api.read("endpoint_read", &[&id]).await?;
    let wanted = GrantCreate { purpose: GrantPurpose::Infer, object: id.to_string() };
    Ok(Json(visitor.api.send("grant_create", &[&endpoint.project], &wanted, None).await?))
}
