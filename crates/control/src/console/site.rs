//! Sites: what they have, the law they stand under, and what they cannot protect.

use askama::Template;
use axum::response::Response;
use gregal_api::site::SiteView;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    visitor::Visitor,
    words,
};

struct Row {
    name: String,
    id: String,
    law: String,
    operator: String,
    url: String,
    is_alive: bool,
    has: String,
    certifications: String,
    missing: Vec<String>,
}

#[derive(Template)]
#[template(path = "sites.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    is_operator: bool,
}

pub(crate) async fn list(visitor: Visitor) -> Result<Response, Failure> {
    let sites = visitor.sites().await?;
    page::page(&ListPage {
        shell: visitor.shell("Sites", Here::Sites, None).await?,
        rows: sites.values().map(row).collect(),
        is_operator: visitor.is_operator(),
    })
}

fn row(site: &SiteView) -> Row {
    let capacity = site.capacity.as_ref();
    Row {
        name: site.name.clone(),
        id: site.id.to_string(),
        law: site.jurisdiction.clone(),
        operator: format!(
            "{}, established in {}, owned in {}",
            site.operator_name, site.operator_jurisdiction, site.operator_parent_jurisdiction
        ),
        url: site.url.clone().unwrap_or_else(|| "has not dialled in yet".into()),
        is_alive: site.alive,
        has: capacity.map_or_else(String::new, |has| {
            let cores = format!("{}.{} cores", has.cpus_milli / 1000, has.cpus_milli % 1000 / 100);
            let healthy = has.accelerators.iter().filter(|gpu| gpu.healthy).count();
            format!(
                "{cores}, {}, {healthy} of {} accelerators healthy",
                words::bytes(has.memory_bytes),
                has.accelerators.len()
            )
        }),
        certifications: site.certifications.join(", "),
        missing: capacity.map(|has| has.protections_missing.clone()).unwrap_or_default(),
    }
}
