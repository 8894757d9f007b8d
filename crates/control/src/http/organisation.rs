//! Organisations over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    organisation::{OrganisationCreate, OrganisationCreated, OrganisationView, ResidencyView},
    page::OrganisationList,
};
use gregal_core::id::OrganisationId;

use crate::{
    Control, Cx, Result,
    http::extract::{Body, Id, Paged},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Body(wanted): Body<OrganisationCreate>,
) -> Result<Json<OrganisationCreated>> {
    Ok(Json(control.organisation_create(&cx, wanted).await?))
}

pub(crate) async fn list(State(control): State<Control>, cx: Cx, Paged(page): Paged) -> Result<Json<OrganisationList>> {
    let listed = control.organisations_list(&cx, &page).await?;
    Ok(Json(OrganisationList { items: listed.items.iter().map(Into::into).collect(), next: listed.next }))
}

pub(crate) async fn read(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
) -> Result<Json<OrganisationView>> {
    Ok(Json((&control.organisation_read(&cx, id).await?).into()))
}

pub(crate) async fn residency_write(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(wanted): Body<ResidencyView>,
) -> Result<Json<OrganisationView>> {
    Ok(Json(control.residency_write(&cx, id, &wanted).await?))
}
