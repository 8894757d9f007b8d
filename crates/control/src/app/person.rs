//! People: who is signed in, and forgetting them.

use gregal_api::{person::PersonView, problem::Code};
use gregal_core::{
    access::Action,
    audit::AuditEntry,
    id::{OrganisationId, PersonId},
    key::Key,
    person::Person,
};
use gregal_policy::Resource;
use gregal_store::Tx;

use crate::{Control, Cx, Error, Result, app::sign_in::is_still_told, context::Facts as _, wakes::Wake};

impl Control {
    /// Who is signed in.
    pub(crate) async fn person_read(&self, cx: &Cx) -> Result<PersonView> {
        let (id, _) = self.signed_in(cx)?;
        Ok((&self.person_of(self.store(), id).await?).into())
    }

    /// Forgets whoever is signed in. Refused while they are somewhere the last owner: hand over first.
    pub(crate) async fn person_forget(&self, cx: &Cx) -> Result<PersonView> {
        let (id, _) = self.signed_in(cx)?;
        self.person_gone(cx, id, false).await
    }

    /// Forgets a person, on a data protection request; even the last owner of an organisation, whose owner's key remains.
    pub(crate) async fn person_erase(&self, cx: &Cx, id: PersonId) -> Result<PersonView> {
        self.authorize(cx, Action::PersonErase, &Resource::cloud()).await?;
        self.person_gone(cx, id, true).await
    }

    async fn person_gone(&self, cx: &Cx, id: PersonId, even_last_owner: bool) -> Result<PersonView> {
        let tx = self.begin(cx).await?;
        let person = tx.person_get(id).await?.ok_or_else(|| Error::missing("person", id))?;
        if person.erased_at.is_some() {
            return Ok((&person).into());
        }
        let mut entries = Vec::new();
        for member in tx.memberships_of(id).await? {
            let owners = tx.members_of(member.organisation).await?.iter().filter(|other| other.is_owner()).count();
            let refusal = gregal_core::member::may_become(&member, None, owners as u64).err();
            if let Some(refusal) = refusal.filter(|_| !even_last_owner) {
                return Err(Error::refused(Code::Conflict, refusal.to_string()));
            }
            tx.member_remove(&member).await?;
            let of = member.organisation;
            entries.extend(self.invitations_end(cx, &tx, of, |kept| kept.by_person == Some(id)).await?);
            let mut entry = self.member_entry(cx, Action::MemberRemove, &member, &person);
            if refusal.is_some() {
                entry = entry.fact("was_last_owner", true);
            }
            entries.push(entry);
        }
        entries.extend(self.sessions_end(cx, &tx, &person, None).await?);
        for key in tx.keys_of_person(id).await? {
            if is_still_told(&key, cx.now) {
                // Sites have to hear that it is revoked. What is kept for that names nobody.
                let nobodys = Key { name: "erased".into(), person: None, version: key.version + 1, ..key };
                tx.key_update(&nobodys).await?;
            } else {
                tx.key_forget(&key).await?;
            }
        }
        for session in tx.sessions_of(id).await? {
            tx.session_remove(&session).await?;
        }
        for passkey in tx.passkeys_of(id).await? {
            tx.passkey_remove(&passkey).await?;
        }
        for invitation in tx.invitations_kept_all().await? {
            if invitation.email == person.email {
                tx.invitation_update(&invitation.ended(cx.now)).await?;
            }
        }
        for told in tx.scim_users_about(id, &person.email).await? {
            tx.scim_user_remove(told.id).await?;
        }
        let object = person.log_name().unwrap_or_default();
        let after = person.erased(cx.now);
        tx.person_update(&after).await?;
        // The last line that says this name: from here on nothing ties it to anybody.
        entries.push(cx.done(None, Action::PersonErase.as_str(), object));
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok((&after).into())
    }

    /// Ends a person's sessions: those of one organisation, or all. Their keys are revoked, and what has long ended is
    /// forgotten.
    pub(crate) async fn sessions_end(
        &self,
        cx: &Cx,
        tx: &Tx,
        person: &Person,
        organisation: Option<OrganisationId>,
    ) -> Result<Vec<AuditEntry>> {
        let concerns = |of: OrganisationId| organisation.is_none_or(|only| only == of);
        let mut entries = Vec::new();
        for key in tx.keys_of_person(person.id).await? {
            let Some(of) = key.organisation.filter(|of| concerns(*of)) else { continue };
            if !key.works_at(cx.now) {
                continue;
            }
            let id = key.id;
            tx.key_update(&Key { revoked_at: Some(cx.now), version: key.version + 1, ..key }).await?;
            let name = person.log_name().unwrap_or_default();
            entries.push(cx.done(Some(of), "session:end", id).fact("person", name));
        }
        for session in tx.sessions_of(person.id).await? {
            if concerns(session.organisation) && session.ended_at.is_none() {
                let version = session.version + 1;
                let ended = gregal_core::session::Session { ended_at: Some(cx.now), version, ..session };
                tx.session_update(&ended).await?;
            }
        }
        Ok(entries)
    }
}
