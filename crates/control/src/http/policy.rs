//! Own policies over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    page::PolicyList,
    policy::{PolicyChecked, PolicyExplain, PolicyExplanation, PolicyView, PolicyWrite},
};
use gregal_core::id::{OrganisationId, ProjectId};

use crate::{
    Control, Cx, Result,
    app::policy::Holder,
    http::extract::{Body, Id, IdAndName},
};

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
) -> Result<Json<PolicyList>> {
    Ok(Json(PolicyList { items: control.policies_list(&cx, Holder::Organisation(id)).await?, next: None }))
}

pub(crate) async fn write(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, name): IdAndName<OrganisationId>,
    Body(wanted): Body<PolicyWrite>,
) -> Result<Json<PolicyView>> {
    Ok(Json(control.policy_write(&cx, Holder::Organisation(id), &name, wanted).await?))
}

pub(crate) async fn remove(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, name): IdAndName<OrganisationId>,
) -> Result<Json<PolicyView>> {
    Ok(Json(control.policy_remove(&cx, Holder::Organisation(id), &name).await?))
}

pub(crate) async fn check(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(wanted): Body<PolicyWrite>,
) -> Result<Json<PolicyChecked>> {
    Ok(Json(control.policy_check(&cx, Holder::Organisation(id), wanted).await?))
}

pub(crate) async fn project_list(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ProjectId>,
) -> Result<Json<PolicyList>> {
    Ok(Json(PolicyList { items: control.policies_list(&cx, Holder::Project(id)).await?, next: None }))
}

pub(crate) async fn project_write(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, name): IdAndName<ProjectId>,
    Body(wanted): Body<PolicyWrite>,
) -> Result<Json<PolicyView>> {
    Ok(Json(control.policy_write(&cx, Holder::Project(id), &name, wanted).await?))
}

pub(crate) async fn project_remove(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, name): IdAndName<ProjectId>,
) -> Result<Json<PolicyView>> {
    Ok(Json(control.policy_remove(&cx, Holder::Project(id), &name).await?))
}

pub(crate) async fn project_check(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ProjectId>,
    Body(wanted): Body<PolicyWrite>,
) -> Result<Json<PolicyChecked>> {
    Ok(Json(control.policy_check(&cx, Holder::Project(id), wanted).await?))
}

pub(crate) async fn explain(
    State(control): State<Control>,
    cx: Cx,
    Body(asked): Body<PolicyExplain>,
) -> Result<Json<PolicyExplanation>> {
    Ok(Json(control.policy_explain(&cx, &asked).await?))
}
