//! Members: who they are, what they may do, and their leaving. Their sessions end with every change, in its transaction.

use gregal_api::{
    person::{MemberView, MemberWrite},
    problem::Code,
};
use gregal_core::{
    access::Action,
    audit::AuditEntry,
    id::{OrganisationId, PersonId, ProjectId},
    invitation::Invitation,
    member::{self, Member},
    person::Person,
};
use gregal_policy::Resource;
use gregal_store::{Listed, Page, Tx, View};

use crate::{Control, Cx, Error, Result, app::key::gives_whole, context::Facts as _, wakes::Wake};

impl Control {
    /// An organisation's members.
    pub(crate) async fn members_list(&self, cx: &Cx, id: OrganisationId, page: &Page) -> Result<Listed<MemberView>> {
        self.organisation_seen(cx, id, Action::MemberRead).await?;
        let listed = self.store().members_list(id, page).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for member in &listed.items {
            items.push(MemberView::new(member, &self.person_of(self.store(), member.person).await?));
        }
        Ok(Listed { items, next: listed.next })
    }

    /// Says what a member may do. Whoever asks has to be able to grant what they were and what they become.
    pub(crate) async fn member_write(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        id: PersonId,
        wanted: &MemberWrite,
    ) -> Result<MemberView> {
        let before = self.member_asked(cx, Action::MemberWrite, organisation, id).await?;
        let resource = Resource::member(organisation, wanted.project, id, wanted.role);
        let policies = self.authorize(cx, Action::MemberWrite, &resource).await?;
        gives_whole(cx, wanted.project)?;
        self.project_within(self.store(), organisation, wanted.project).await?;
        let tx = self.begin(cx).await?;
        let member = unchanged(&tx, &before).await?;
        let person = self.person_of(&tx, id).await?;
        if (member.role, member.project) == (wanted.role, wanted.project) {
            return Ok(MemberView::new(&member, &person));
        }
        let after =
            Member { role: wanted.role, project: wanted.project, version: member.version + 1, ..member.clone() };
        may_become(&tx, &member, Some(&after)).await?;
        tx.member_update(&after).await?;
        let mut entry = self.member_entry(cx, Action::MemberWrite, &after, &person).by(&policies);
        entry = entry.fact("role_before", member.role.as_str());
        let mut entries = vec![entry];
        entries.extend(self.member_cut_off(cx, &tx, &member, &person).await?);
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok(MemberView::new(&after, &person))
    }

    /// Takes a member out.
    pub(crate) async fn member_remove(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        id: PersonId,
    ) -> Result<MemberView> {
        let before = self.member_asked(cx, Action::MemberRemove, organisation, id).await?;
        self.member_gone(cx, &before, Action::MemberRemove).await
    }

    /// Leaves the organisation the asking session is in: everybody may, but the last owner.
    pub(crate) async fn membership_leave(&self, cx: &Cx) -> Result<MemberView> {
        let (person, organisation) = self.signed_in(cx)?;
        let member = self.store().member_get(organisation, person).await?;
        let member = member.ok_or_else(|| Error::missing("member", person))?;
        self.member_gone(cx, &member, Action::MemberRemove).await
    }

    async fn member_gone(&self, cx: &Cx, before: &Member, action: Action) -> Result<MemberView> {
        let tx = self.begin(cx).await?;
        let member = unchanged(&tx, before).await?;
        let person = self.person_of(&tx, member.person).await?;
        let entries = self.member_ended(cx, &tx, &member, action).await?;
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok(MemberView::new(&member, &person))
    }

    /// Ends a membership with all that stood on it. The last owner's does not end.
    pub(crate) async fn member_ended(
        &self,
        cx: &Cx,
        tx: &Tx,
        member: &Member,
        action: Action,
    ) -> Result<Vec<AuditEntry>> {
        let person = self.person_of(tx, member.person).await?;
        may_become(tx, member, None).await?;
        tx.member_remove(member).await?;
        let mut entries = vec![self.member_entry(cx, action, member, &person)];
        entries.extend(self.member_cut_off(cx, tx, member, &person).await?);
        Ok(entries)
    }

    /// Ends a member's sessions in the organisation, and what they offered there: they offered it as who they were.
    pub(crate) async fn member_cut_off(
        &self,
        cx: &Cx,
        tx: &Tx,
        member: &Member,
        person: &Person,
    ) -> Result<Vec<AuditEntry>> {
        let mut entries = self.sessions_end(cx, tx, person, Some(member.organisation)).await?;
        let theirs = |kept: &Invitation| kept.by_person == Some(member.person);
        entries.extend(self.invitations_end(cx, tx, member.organisation, theirs).await?);
        Ok(entries)
    }

    /// The member asked about, if this may be done to somebody with their role.
    async fn member_asked(
        &self,
        cx: &Cx,
        action: Action,
        organisation: OrganisationId,
        id: PersonId,
    ) -> Result<Member> {
        let missing = || Error::missing("member", id);
        // Whoever may not see the organisation must not learn who is in it.
        if self.verdict(cx, Action::OrganisationRead, &Resource::organisation(organisation)).hides() {
            return Err(missing());
        }
        let member = self.store().member_get(organisation, id).await?.ok_or_else(missing)?;
        let resource = Resource::member(organisation, member.project, id, member.role);
        self.authorize(cx, action, &resource).await?;
        Ok(member)
    }

    /// What the log says of a member: never who it is.
    #[expect(clippy::unused_self, reason = "read beside its neighbours, which need it")]
    pub(crate) fn member_entry(&self, cx: &Cx, action: Action, member: &Member, person: &Person) -> AuditEntry {
        let object = person.log_name().unwrap_or_else(|| "person:erased".into());
        let entry = cx.done(Some(member.organisation), action.as_str(), object).fact("role", member.role.as_str());
        match member.project {
            Some(project) => entry.fact("project", project.to_string()),
            None => entry,
        }
    }

    /// The person a row speaks of.
    pub(crate) async fn person_of(&self, view: &View, id: PersonId) -> Result<Person> {
        let gone = || Error::Broken(format!("person `{id}` has rows and is not there"));
        view.person_get(id).await?.ok_or_else(gone)
    }

    /// Checks that a project, if one is named, is this organisation's.
    pub(crate) async fn project_within(
        &self,
        view: &View,
        organisation: OrganisationId,
        project: Option<ProjectId>,
    ) -> Result<()> {
        let Some(id) = project else { return Ok(()) };
        let found = view.project_get(id).await?.filter(|project| project.organisation == organisation);
        found.map(|_| ()).ok_or_else(|| Error::missing("project", id))
    }

    /// Whose session asks, and for which organisation.
    #[expect(clippy::unused_self, reason = "read beside its neighbours, which need it")]
    pub(crate) fn signed_in(&self, cx: &Cx) -> Result<(PersonId, OrganisationId)> {
        let key = cx.key()?;
        match (key.person, key.organisation) {
            (Some(person), Some(organisation)) => Ok((person, organisation)),
            _ => Err(Error::refused(
                Code::Forbidden,
                "this key is a program's: only a person who signed in can ask this",
            )),
        }
    }
}

/// The member as it stands inside the transaction; another version than was asked about is a conflict, because what was
/// permitted was permitted for that.
pub(crate) async fn unchanged(tx: &Tx, before: &Member) -> Result<Member> {
    let now = tx.member_get(before.organisation, before.person).await?;
    let same = now.filter(|member| member.version == before.version);
    same.ok_or_else(|| Error::refused(Code::Conflict, "the member changed meanwhile"))
}

pub(crate) async fn may_become(tx: &Tx, before: &Member, after: Option<&Member>) -> Result<()> {
    let owners = tx.members_of(before.organisation).await?.iter().filter(|member| member.is_owner()).count();
    member::may_become(before, after, owners as u64)
        .map_err(|refusal| Error::refused(Code::Conflict, refusal.to_string()))
}
