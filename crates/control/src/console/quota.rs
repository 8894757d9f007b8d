//! Quotas: what is guaranteed, lent and borrowed, and used now.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use gregal_api::{
    organisation::OrganisationView,
    page::{ProjectList, QuotaList},
    quota::QuotaView,
};
use gregal_core::{
    access::Action,
    id::{OrganisationId, ProjectId},
};

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    visitor::{Id, Visitor},
};

struct Row {
    holder: String,
    sku: String,
    guarantee: u32,
    borrow_max: String,
    lend_max: String,
    limit: String,
    used: u32,
    borrowed: u32,
}

#[derive(Template)]
#[template(path = "quotas.html")]
struct ListPage {
    shell: Shell,
    title: String,
    /// Weight among organisations, and the highest priority to ask for.
    share: Option<(u32, u8)>,
    rows: Vec<Row>,
    command: Option<String>,
}

/// An organisation's quotas: for its own people, and for operators.
pub(crate) async fn organisation(visitor: Visitor, Id(id): Id<OrganisationId>) -> Result<Response, Failure> {
    let list: QuotaList = visitor.api.read("quotas_list", &[&id]).await?;
    let organisation: OrganisationView = visitor.api.read("organisation_read", &[&id]).await?;
    // Operators see no project of a tenant, only its id.
    let mut names = BTreeMap::new();
    if visitor.can_in_organisation(Action::ProjectRead) {
        let projects: ProjectList = visitor.api.read("projects_list", &[&id]).await?;
        names.extend(projects.items.into_iter().map(|project| (project.id, project.name)));
    }
    let command = if visitor.is_operator() {
        Some(format!("gregal quota set \"{}\" --sku cpu.1 --guarantee 4", organisation.name))
    } else {
        visitor.can(Action::QuotaShare).then(|| "gregal quota set --project NAME --sku cpu.1 --guarantee 2".into())
    };
    page::page(&ListPage {
        shell: visitor.shell("Quotas", Here::Quotas, None).await?,
        share: Some((organisation.weight, organisation.priority_max)),
        title: organisation.name,
        rows: list.items.iter().map(|quota| row(quota, &names)).collect(),
        command,
    })
}

/// A project's quotas, for a key that reaches no further.
pub(crate) async fn project(visitor: Visitor, Id(id): Id<ProjectId>) -> Result<Response, Failure> {
    let list: QuotaList = visitor.api.read("project_quotas_list", &[&id]).await?;
    let names: BTreeMap<_, _> =
        visitor.projects().await?.into_iter().map(|project| (project.id, project.name)).collect();
    page::page(&ListPage {
        shell: visitor.shell("Quotas", Here::Quotas, Some(id)).await?,
        title: names.get(&id).cloned().unwrap_or_else(|| id.to_string()),
        share: None,
        rows: list.items.iter().map(|quota| row(quota, &names)).collect(),
        command: None,
    })
}

fn row(quota: &QuotaView, names: &BTreeMap<ProjectId, String>) -> Row {
    let or =
        |units: Option<u32>, otherwise: &str| units.map_or_else(|| otherwise.to_owned(), |units| units.to_string());
    let project = |id: ProjectId| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    Row {
        holder: quota.project.map_or_else(|| "the whole organisation".into(), project),
        sku: quota.sku.clone(),
        guarantee: quota.guarantee,
        borrow_max: or(quota.borrow_max, "what others lend"),
        lend_max: or(quota.lend_max, "all"),
        limit: or(quota.limit, "none"),
        used: quota.used,
        borrowed: quota.borrowed,
    }
}
