//! People over HTTP: members, invitations, domains.

use axum::{Json, extract::State};
use gregal_api::{
    page::{DomainList, InvitationList, MemberList},
    person::{
        DomainView, DomainWrite, InvitationCreate, InvitationCreated, InvitationView, MemberView, MemberWrite,
        PersonView,
    },
};
use gregal_core::id::{InvitationId, OrganisationId, PersonId};

use crate::{
    Control, Cx, Error, Result,
    http::extract::{Body, Id, IdAndName, Paged},
};

/// The person a path names. One that is not even spelled like one is told so by form, not by repeating it.
fn person(text: &str) -> Result<PersonId> {
    text.parse()
        .map_err(|_| Error::invalid("the path holds no person id: one looks like `psn_01jd3h9v7nq8x0m2k4t6w8y0za`"))
}

pub(crate) async fn read(State(control): State<Control>, cx: Cx) -> Result<Json<PersonView>> {
    Ok(Json(control.person_read(&cx).await?))
}

pub(crate) async fn forget(State(control): State<Control>, cx: Cx) -> Result<Json<PersonView>> {
    Ok(Json(control.person_forget(&cx).await?))
}

pub(crate) async fn erase(State(control): State<Control>, cx: Cx, Id(id): Id<PersonId>) -> Result<Json<PersonView>> {
    Ok(Json(control.person_erase(&cx, id).await?))
}

pub(crate) async fn members(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Paged(page): Paged,
) -> Result<Json<MemberList>> {
    let listed = control.members_list(&cx, id, &page).await?;
    Ok(Json(MemberList { items: listed.items, next: listed.next }))
}

pub(crate) async fn member_write(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(organisation, id): IdAndName<OrganisationId>,
    Body(wanted): Body<MemberWrite>,
) -> Result<Json<MemberView>> {
    Ok(Json(control.member_write(&cx, organisation, person(&id)?, &wanted).await?))
}

pub(crate) async fn member_remove(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(organisation, id): IdAndName<OrganisationId>,
) -> Result<Json<MemberView>> {
    Ok(Json(control.member_remove(&cx, organisation, person(&id)?).await?))
}

pub(crate) async fn leave(State(control): State<Control>, cx: Cx) -> Result<Json<MemberView>> {
    Ok(Json(control.membership_leave(&cx).await?))
}

pub(crate) async fn invitation_create(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Body(wanted): Body<InvitationCreate>,
) -> Result<Json<InvitationCreated>> {
    Ok(Json(control.invitation_create(&cx, id, wanted).await?))
}

pub(crate) async fn invitations(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
    Paged(page): Paged,
) -> Result<Json<InvitationList>> {
    let listed = control.invitations_list(&cx, id, &page).await?;
    Ok(Json(InvitationList { items: listed.items, next: listed.next }))
}

pub(crate) async fn invitation_revoke(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<InvitationId>,
) -> Result<Json<InvitationView>> {
    Ok(Json(control.invitation_revoke(&cx, id).await?))
}

pub(crate) async fn domains(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<OrganisationId>,
) -> Result<Json<DomainList>> {
    Ok(Json(DomainList { items: control.domains_list(&cx, id).await?, next: None }))
}

pub(crate) async fn domain_write(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, name): IdAndName<OrganisationId>,
    Body(wanted): Body<DomainWrite>,
) -> Result<Json<DomainView>> {
    Ok(Json(control.domain_write(&cx, id, &name, &wanted).await?))
}

pub(crate) async fn domain_remove(
    State(control): State<Control>,
    cx: Cx,
    IdAndName(id, name): IdAndName<OrganisationId>,
) -> Result<Json<DomainView>> {
    Ok(Json(control.domain_remove(&cx, id, &name).await?))
}
