//! Members: who they are, inviting somebody, changing a role, taking somebody out.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use gregal_api::person::{InvitationCreate, InvitationCreated, InvitationView, MemberView, MemberWrite};
use gregal_core::{
    access::{Action, Role},
    id::{InvitationId, PersonId},
};
use serde::Deserialize;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    posted::{Posted, Really},
    visitor::{Id, Visitor},
    words,
};

struct Row {
    id: PersonId,
    email: String,
    name: String,
    role: &'static str,
    reach: String,
    joined: String,
    may_change: bool,
}

struct Offer {
    id: InvitationId,
    email: String,
    role: &'static str,
    expires: String,
    may_revoke: bool,
}

#[derive(Template)]
#[template(path = "members.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    is_all: bool,
    offers: Vec<Offer>,
    /// What the visitor may hand out.
    roles: Vec<&'static str>,
    once: String,
}

#[derive(Template)]
#[template(path = "invited.html")]
struct InvitedPage {
    shell: Shell,
    email: String,
    role: &'static str,
    text: Option<String>,
    join_at: String,
}

pub(crate) async fn list(visitor: Visitor) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    let (members, is_all) = visitor.api.gather::<MemberView>("members_list", &[&organisation]).await?;
    let (offers, _) = visitor.api.gather::<InvitationView>("invitations_list", &[&organisation]).await?;
    let now = visitor.now();
    let standing = offers.iter().filter(|offer| offer.ended_at.is_none() && now < offer.expires_at);
    let mine = visitor.me.key.role;
    let may = |action, role| visitor.can(action) && mine.may_grant(role);
    let offers = standing.map(|offer| Offer {
        id: offer.id,
        email: offer.email.clone(),
        role: offer.role.as_str(),
        expires: words::when(offer.expires_at),
        may_revoke: may(Action::InvitationRevoke, offer.role),
    });
    let row = |member: &MemberView| Row {
        id: member.person,
        email: member.email.clone(),
        name: member.name.clone().unwrap_or_default(),
        role: member.role.as_str(),
        reach: member.project.map_or_else(|| "every project".into(), |project| project.to_string()),
        joined: words::when(member.created_at),
        may_change: may(Action::MemberWrite, member.role),
    };
    let roles = Role::ALL.iter().filter(|role| may(Action::InvitationCreate, **role)).map(|role| role.as_str());
    page::page(&ListPage {
        shell: visitor.shell("Members", Here::Members, None).await?,
        rows: members.iter().map(row).collect(),
        is_all,
        offers: offers.collect(),
        roles: roles.collect(),
        once: visitor.once(),
    })
}

/// The form that invites.
#[derive(Deserialize)]
pub(crate) struct Invite {
    email: String,
    role: Role,
    once: String,
    #[serde(default)]
    passkey: String,
}

pub(crate) async fn invite(Posted { visitor, form }: Posted<Invite>) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    let passkey = form.passkey == "yes";
    let wanted = InvitationCreate { email: form.email, role: form.role, project: None, expires_in_s: None, passkey };
    let made: InvitationCreated =
        visitor.api.send("invitation_create", &[&organisation], &wanted, Some(&form.once)).await?;
    page::page(&InvitedPage {
        shell: visitor.shell("Invitation", Here::Members, None).await?,
        email: made.invitation.email,
        role: made.invitation.role.as_str(),
        text: made.text,
        join_at: made.join_at,
    })
}

/// The form that changes a role.
#[derive(Debug, Deserialize)]
pub(crate) struct Write {
    role: Role,
}

pub(crate) async fn write(
    Id(person): Id<PersonId>,
    Posted { visitor, form }: Posted<Write>,
) -> Result<Response, Failure> {
    let organisation = visitor.organisation_needed()?;
    // The form changes the role and leaves the reach as it is.
    let (members, _) = visitor.api.gather::<MemberView>("members_list", &[&organisation]).await?;
    let project = members.iter().find(|member| member.person == person).and_then(|member| member.project);
    let wanted = MemberWrite { role: form.role, project };
    let _: MemberView = visitor.api.send("member_write", &[&organisation, &person], &wanted, None).await?;
    Ok(Redirect::to("/console/members").into_response())
}

pub(crate) async fn remove(
    Id(person): Id<PersonId>,
    Posted { visitor, form }: Posted<Really>,
) -> Result<Response, Failure> {
    form.check()?;
    let organisation = visitor.organisation_needed()?;
    let _: MemberView = visitor.api.read("member_remove", &[&organisation, &person]).await?;
    Ok(Redirect::to("/console/members").into_response())
}

pub(crate) async fn revoke(
    Id(invitation): Id<InvitationId>,
    Posted { visitor, form }: Posted<Really>,
) -> Result<Response, Failure> {
    form.check()?;
    let _: InvitationView = visitor.api.read("invitation_revoke", &[&invitation]).await?;
    Ok(Redirect::to("/console/members").into_response())
}
