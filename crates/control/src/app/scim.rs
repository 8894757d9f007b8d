//! What an organisation's directory says of its people becomes memberships here: who is told of joins at the next sign-in with
//! the organisation's own provider, and who is told to be gone is gone at once, as if taken out by hand.

mod credential;
mod join;

use gregal_api::problem::Code;
use gregal_core::{
    access::{Action, Role},
    audit::AuditEntry,
    id::{OrganisationId, ScimUserId},
    member::Member,
    scim::{Attributes, SCIM_USERS_MAX, ScimError, ScimUser, filter::Filter, patch},
};
use gregal_policy::Resource;
use gregal_store::Tx;
use serde_json::Value;

use crate::{
    Control, Cx, Error, Result,
    app::member::{may_become, unchanged},
    context::Facts as _,
    wakes::Wake,
};

/// What becomes of somebody's membership.
enum Turn {
    /// Nothing.
    Stays,
    /// It ends.
    Ends(Member),
    /// It gets another role.
    Becomes(Member, Role),
}

impl Control {
    /// Checks that this directory may speak for this organisation.
    pub(crate) async fn scim_open(&self, cx: &Cx, organisation: OrganisationId) -> Result<()> {
        self.organisation_seen(cx, organisation, Action::ScimProvision).await.map(|_| ())
    }

    /// Where a directory finds its door.
    pub(crate) fn scim_base(&self, organisation: OrganisationId) -> String {
        format!("{}/api/v1/organisations/{organisation}/scim/v2", self.options().url.trim_end_matches('/'))
    }

    /// Those whom a filter finds, or all, oldest first.
    pub(crate) async fn scim_users(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        filter: Option<&str>,
    ) -> Result<Vec<ScimUser>> {
        self.scim_open(cx, organisation).await?;
        let filter = filter.map(Filter::read).transpose().map_err(refused)?;
        let all = self.store().scim_users_of(organisation).await?;
        let Some(filter) = filter else { return Ok(all) };
        let shown = |user: &ScimUser| gregal_api::scim::user(user, "");
        Ok(all.into_iter().filter(|user| filter.holds(&shown(user))).collect())
    }

    /// One of them.
    pub(crate) async fn scim_user(&self, cx: &Cx, organisation: OrganisationId, id: &str) -> Result<ScimUser> {
        self.scim_open(cx, organisation).await?;
        // Whatever is no id of ours is not there.
        let missing = || Error::refused(Code::NotFound, "there is no such user");
        let id: ScimUserId = id.parse().map_err(|_| missing())?;
        let found = self.store().scim_user_get(id).await?;
        found.filter(|user| user.organisation == organisation).ok_or_else(missing)
    }

    /// Tells of somebody.
    pub(crate) async fn scim_user_create(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        sent: &Value,
    ) -> Result<ScimUser> {
        self.scim_open(cx, organisation).await?;
        let attributes = Attributes::read(sent).map_err(refused)?;
        let id = ScimUserId::new(self.world());
        let role = self.scim_gives(cx, organisation, id, &attributes).await?;
        let mut user = ScimUser {
            id,
            organisation,
            attributes,
            role,
            person: None,
            by_key: cx.key()?.id,
            created_at: cx.now,
            updated_at: cx.now,
            version: 1,
        };
        let member = self.scim_found(&user).await?;
        user.person = member.as_ref().map(|member| member.person);
        let turn = self.scim_turn(cx, &user, member).await?;
        let tx = self.begin(cx).await?;
        if tx.scim_user_named(organisation, &user.attributes.user_name).await?.is_some() {
            return Err(taken());
        }
        if tx.scim_users_count(organisation).await? >= SCIM_USERS_MAX as u64 {
            return Err(Error::refused(
                Code::Conflict,
                "this organisation's directory told of as many as there may be",
            ));
        }
        let mut entries = vec![entry(cx, &user, "created")];
        entries.extend(self.scim_done(cx, &tx, &mut user, turn).await?);
        tx.scim_user_insert(&user).await?;
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok(user)
    }

    /// Tells of somebody anew.
    pub(crate) async fn scim_user_replace(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        id: &str,
        sent: &Value,
    ) -> Result<ScimUser> {
        let before = self.scim_user(cx, organisation, id).await?;
        self.scim_user_change(cx, before, Attributes::read(sent).map_err(refused)?).await
    }

    /// Changes what was told of somebody.
    pub(crate) async fn scim_user_patch(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        id: &str,
        sent: &Value,
    ) -> Result<ScimUser> {
        let before = self.scim_user(cx, organisation, id).await?;
        let there = serde_json::to_value(&before.attributes).map_err(|error| Error::Broken(error.to_string()))?;
        let after = patch::applied(&there, sent).and_then(|after| Attributes::read(&after)).map_err(refused)?;
        self.scim_user_change(cx, before, after).await
    }

    async fn scim_user_change(&self, cx: &Cx, before: ScimUser, attributes: Attributes) -> Result<ScimUser> {
        if before.attributes == attributes {
            return Ok(before);
        }
        let role = self.scim_gives(cx, before.organisation, before.id, &attributes).await?;
        let (by_key, updated_at, version) = (cx.key()?.id, cx.now, before.version + 1);
        let mut user = ScimUser { attributes, role, by_key, updated_at, version, ..before.clone() };
        let member = self.scim_found(&user).await?;
        user.person = user.person.or(member.as_ref().map(|member| member.person));
        let turn = self.scim_turn(cx, &user, member).await?;
        let tx = self.begin(cx).await?;
        let named = tx.scim_user_named(user.organisation, &user.attributes.user_name).await?;
        if named.is_some_and(|other| other.id != user.id) {
            return Err(taken());
        }
        let mut entries = vec![entry(cx, &user, if user.attributes.active { "changed" } else { "inactive" })];
        entries.extend(self.scim_done(cx, &tx, &mut user, turn).await?);
        tx.scim_user_update(&user).await?;
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok(user)
    }

    /// Forgets somebody; the membership ends.
    pub(crate) async fn scim_user_delete(&self, cx: &Cx, organisation: OrganisationId, id: &str) -> Result<()> {
        let mut user = self.scim_user(cx, organisation, id).await?;
        let version = user.version;
        user.attributes.active = false;
        let member = self.scim_found(&user).await?;
        let turn = self.scim_turn(cx, &user, member).await?;
        let tx = self.begin(cx).await?;
        if tx.scim_user_get(user.id).await?.is_none_or(|now| now.version != version) {
            return Err(Error::refused(Code::Conflict, "the user changed meanwhile"));
        }
        let mut entries = vec![entry(cx, &user, "deleted")];
        entries.extend(self.scim_done(cx, &tx, &mut user, turn).await?);
        tx.scim_user_remove(user.id).await?;
        self.finish(cx, tx, &entries, Wake::Sites).await
    }

    /// The role somebody gets, if this credential may give it.
    async fn scim_gives(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        id: ScimUserId,
        attributes: &Attributes,
    ) -> Result<Role> {
        // Who is told of without a role reads, and no more.
        let role = attributes.role().map_err(refused)?.unwrap_or(Role::Viewer);
        self.authorize(cx, Action::ScimProvision, &Resource::member(organisation, None, id, role)).await?;
        Ok(role)
    }

    /// The member somebody is: known before, or with their address.
    async fn scim_found(&self, user: &ScimUser) -> Result<Option<Member>> {
        if let Some(person) = user.person {
            return Ok(self.store().member_get(user.organisation, person).await?);
        }
        let Some(address) = user.address() else { return Ok(None) };
        for member in self.store().members_of(user.organisation).await? {
            if self.person_of(self.store(), member.person).await?.email == address {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    /// What becomes of a membership by what a directory says, if its credential may do that to somebody of that role.
    async fn scim_turn(&self, cx: &Cx, user: &ScimUser, member: Option<Member>) -> Result<Turn> {
        let Some(member) = member else { return Ok(Turn::Stays) };
        let turn = if !user.attributes.active {
            Turn::Ends(member.clone())
        } else if !user.attributes.roles.is_empty() && member.role != user.role {
            Turn::Becomes(member.clone(), user.role)
        } else {
            return Ok(Turn::Stays);
        };
        let resource = Resource::member(user.organisation, member.project, member.person, member.role);
        self.authorize(cx, Action::ScimProvision, &resource).await?;
        Ok(turn)
    }

    async fn scim_done(&self, cx: &Cx, tx: &Tx, user: &mut ScimUser, turn: Turn) -> Result<Vec<AuditEntry>> {
        let entries = match turn {
            Turn::Stays => Vec::new(),
            Turn::Ends(before) => {
                let member = unchanged(tx, &before).await?;
                self.member_ended(cx, tx, &member, Action::MemberRemove).await?
            }
            Turn::Becomes(before, role) => {
                let member = unchanged(tx, &before).await?;
                let after = Member { role, version: member.version + 1, ..member.clone() };
                may_become(tx, &member, Some(&after)).await?;
                tx.member_update(&after).await?;
                let person = self.person_of(tx, member.person).await?;
                let entry = self.member_entry(cx, Action::MemberWrite, &after, &person);
                let mut entries = vec![entry.fact("role_before", member.role.as_str())];
                entries.extend(self.member_cut_off(cx, tx, &member, &person).await?);
                entries
            }
        };
        if !user.attributes.active {
            // Told to be active again, they join anew at their next sign-in.
            user.person = None;
        }
        Ok(entries)
    }
}

/// What the log says of somebody a directory told of: our id, which names nobody.
fn entry(cx: &Cx, user: &ScimUser, what: &str) -> AuditEntry {
    cx.done(Some(user.organisation), Action::ScimProvision.as_str(), user.id)
        .fact("what", what)
        .fact("role", user.role.as_str())
}

fn taken() -> Error {
    Error::refused(Code::Taken, "the directory told of somebody with this `userName` already")
}

#[expect(clippy::needless_pass_by_value, reason = "handed to `map_err`")]
fn refused(error: ScimError) -> Error {
    Error::invalid(error.to_string())
}
