//! Placement: which sites the residency policy allows, and which rule forbids the others.

use askama::Template;
use axum::response::Response;
use gregal_api::{
    organisation::{OrganisationView, ResidencyView},
    placement::{PlacementAnswer, PlacementAsk, SiteVerdict},
};
use gregal_core::{access::Action, id::ProjectId};

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    visitor::{Id, Visitor},
};

#[derive(Template)]
#[template(path = "placement.html")]
struct PlacementPage {
    shell: Shell,
    verdicts: Vec<SiteVerdict>,
    ceiling: Option<ResidencyView>,
}

pub(crate) async fn page(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let PlacementAnswer { sites } =
        visitor.api.send("placement_explain", &[&project], &PlacementAsk::default(), None).await?;
    let ceiling = match visitor.organisation() {
        Some(id) if visitor.can_in_organisation(Action::OrganisationRead) => {
            let organisation: OrganisationView = visitor.api.read("organisation_read", &[&id]).await?;
            Some(organisation.residency)
        }
        _ => None,
    };
    let shell = visitor.shell("Placement", Here::Placement, Some(project)).await?;
    page::page(&PlacementPage { shell, verdicts: sites, ceiling })
}
