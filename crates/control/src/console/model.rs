//! Models: the list, and a model's page with where it came from.

use askama::Template;
use axum::response::Response;
use gregal_api::model::ModelView;
use gregal_core::{
    access::Action,
    id::{ModelId, ProjectId},
};

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    visitor::{Id, Visitor},
    words,
};

/// The most models a list shows.
const LIST_MAX: usize = 200;

struct Row {
    id: ModelId,
    name: String,
    parameters: String,
    size: String,
    kwh: String,
    created: String,
}

#[derive(Template)]
#[template(path = "models.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    is_all: bool,
}

#[derive(Template)]
#[template(path = "model.html")]
struct ModelPage {
    shell: Shell,
    model: ModelView,
    site: String,
    parameters: String,
    size: String,
    flop: String,
    tokens: String,
    created: String,
    may_serve: bool,
    once: String,
}

pub(crate) async fn list(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let (models, is_all) = visitor.api.gather::<ModelView>("models_list", &[&project]).await?;
    let rows: Vec<Row> = models.iter().rev().take(LIST_MAX).map(row).collect();
    let is_all = is_all && rows.len() == models.len();
    page::page(&ListPage { shell: visitor.shell("Models", Here::Models, Some(project)).await?, rows, is_all })
}

fn row(model: &ModelView) -> Row {
    Row {
        id: model.id,
        name: title(model),
        parameters: words::rough(model.parameters),
        size: words::bytes(model.bytes),
        kwh: model.kwh.clone(),
        created: words::when(model.created_at),
    }
}

/// A model's name with its version, as the command line spells it.
pub(crate) fn title(model: &ModelView) -> String {
    format!("{}@{}", model.name, model.number)
}

pub(crate) async fn page(visitor: Visitor, Id(id): Id<ModelId>) -> Result<Response, Failure> {
    let model: ModelView = visitor.api.read("model_read", &[&id]).await?;
    let sites = visitor.sites().await?;
    let site = sites.get(&model.site);
    let shell = visitor.shell(&format!("Model {}", title(&model)), Here::Models, Some(model.project)).await?;
    page::page(&ModelPage {
        site: site.map_or_else(|| model.site.to_string(), |site| format!("{} ({})", site.name, site.jurisdiction)),
        parameters: words::count(model.parameters),
        size: words::bytes(model.bytes),
        flop: words::flop(model.lineage.flop),
        tokens: words::count(model.lineage.tokens),
        created: words::when(model.created_at),
        may_serve: visitor.can(Action::EndpointCreate),
        once: visitor.once(),
        shell,
        model,
    })
}
