//! Invitations: made by whoever may grant the role, taken up by whoever proves to hold the address. No mail is sent.

use gregal_api::{
    person::{InvitationCreate, InvitationCreated, InvitationView},
    problem::Code,
};
use gregal_core::{
    access::{Action, Role},
    audit::AuditEntry,
    id::{InvitationId, OrganisationId, PersonId},
    invitation::{INVITATION_PREFIX, INVITATION_S_DEFAULT, INVITATION_S_MAX, Invitation},
    key,
    member::Member,
    passkey::PASSKEY_ISSUER,
    person::{Person, email_of},
};
use gregal_policy::Resource;
use gregal_store::{Listed, Page, Tx};

use crate::{
    Control, Cx, Error, Result,
    app::{key::gives_whole, sign_in::Vouched},
    context::Facts as _,
    wakes::Wake,
};

/// The most invitations of one organisation that stand.
const STANDING_MAX: usize = 500;

impl Control {
    /// Offers a membership.
    pub(crate) async fn invitation_create(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        wanted: InvitationCreate,
    ) -> Result<InvitationCreated> {
        let found = self.store().organisation_get(organisation).await?;
        found.ok_or_else(|| Error::missing("organisation", organisation))?;
        if self.verdict(cx, Action::OrganisationRead, &Resource::organisation(organisation)).hides() {
            return Err(Error::missing("organisation", organisation));
        }
        let id = InvitationId::new(self.world());
        let resource = Resource::member(organisation, wanted.project, id, wanted.role);
        let policies = self.authorize(cx, Action::InvitationCreate, &resource).await?;
        gives_whole(cx, wanted.project)?;
        if wanted.role == Role::Operator {
            return Err(Error::Broken("the policies let somebody invite an operator".into()));
        }
        self.project_within(self.store(), organisation, wanted.project).await?;
        let email = email_of(&wanted.email).ok_or_else(|| Error::invalid("`email` is no address"))?;
        let seconds = wanted.expires_in_s.unwrap_or(INVITATION_S_DEFAULT);
        if !(1..=INVITATION_S_MAX).contains(&seconds) {
            return Err(Error::invalid(format!("`expires_in_s` is not from 1 to {INVITATION_S_MAX}")));
        }
        let mut entropy = [0; 32];
        self.world().fill(&mut entropy);
        let text = format!("{INVITATION_PREFIX}{}", hex::encode(entropy));
        let invitation = Invitation {
            id,
            organisation,
            email,
            role: wanted.role,
            project: wanted.project,
            by_person: cx.key()?.person,
            // A session's key comes and goes; its person is who invites.
            by_key: cx.key().ok().filter(|key| key.person.is_none()).map(|key| key.id),
            by_account: cx.key()?.account,
            passkey: wanted.passkey,
            digest: key::digest_of(&text),
            created_at: cx.now,
            expires_at: cx.now.plus_seconds(i64::from(seconds)),
            ended_at: None,
            version: 1,
        };
        let tx = self.begin(cx).await?;
        let mut standing = 0;
        for kept in tx.invitations_kept(organisation).await? {
            // What is over keeps no address.
            if kept.stands_at(cx.now) {
                standing += 1;
            } else {
                tx.invitation_update(&kept.ended(cx.now)).await?;
            }
        }
        if standing >= STANDING_MAX {
            let detail = format!("{STANDING_MAX} invitations of this organisation stand already: take some back first");
            return Err(Error::refused(Code::Conflict, detail));
        }
        tx.invitation_insert(&invitation).await?;
        let answer = |text: Option<String>| InvitationCreated {
            invitation: (&invitation).into(),
            text,
            join_at: format!("{}/console/welcome", self.options().url.trim_end_matches('/')),
        };
        let entry = cx
            .done(Some(organisation), Action::InvitationCreate.as_str(), id)
            .by(&policies)
            .fact("role", invitation.role.as_str());
        // What a repetition is answered is kept, and keeps no address.
        let mut kept = answer(None);
        kept.invitation.email = String::new();
        self.finish_created(cx, tx, &[entry], Wake::Nobody, &kept).await?;
        Ok(answer(Some(text)))
    }

    /// An organisation's invitations.
    pub(crate) async fn invitations_list(
        &self,
        cx: &Cx,
        id: OrganisationId,
        page: &Page,
    ) -> Result<Listed<InvitationView>> {
        self.organisation_seen(cx, id, Action::InvitationRead).await?;
        let listed = self.store().invitations_list(id, page).await?;
        Ok(Listed { items: listed.items.iter().map(Into::into).collect(), next: listed.next })
    }

    /// Takes an invitation back; doing it again changes nothing.
    pub(crate) async fn invitation_revoke(&self, cx: &Cx, id: InvitationId) -> Result<InvitationView> {
        let missing = || Error::missing("invitation", id);
        let found = self.store().invitation_get(id).await?.ok_or_else(missing)?;
        let resource = Resource::member(found.organisation, found.project, id, found.role);
        let verdict = self.authorize(cx, Action::InvitationRevoke, &resource).await;
        let policies = verdict.map_err(|error| {
            // One noun for both answers, so that nobody learns whether it is there.
            if error.problem().code == Code::NotFound { missing() } else { error }
        })?;
        let tx = self.begin(cx).await?;
        let before = tx.invitation_get(id).await?.ok_or_else(missing)?;
        if before.ended_at.is_some() {
            return Ok((&before).into());
        }
        let after = before.ended(cx.now);
        tx.invitation_update(&after).await?;
        let entry = cx.done(Some(after.organisation), Action::InvitationRevoke.as_str(), id).by(&policies);
        self.finish(cx, tx, &[entry], Wake::Nobody).await?;
        Ok((&after).into())
    }

    /// Takes an invitation up, for whoever a provider vouched for. One answer for every way it may not fit: nobody learns by
    /// trying whether a text stands for something.
    pub(crate) async fn invitation_accept(&self, vouched: &Vouched, text: &str) -> Result<Member> {
        let cx = self.system("sign-in");
        let tx = self.store().begin().await?;
        let (_, member, entries) = self.invitation_taken_up(&cx, &tx, vouched, text).await?;
        self.finish(&cx, tx, &entries, Wake::Nobody).await?;
        Ok(member)
    }

    /// The rows and entries of taking an invitation up. Whoever came with a passkey takes up only what says that one may: nobody
    /// verified their address.
    pub(crate) async fn invitation_taken_up(
        &self,
        cx: &Cx,
        tx: &Tx,
        vouched: &Vouched,
        text: &str,
    ) -> Result<(Person, Member, Vec<AuditEntry>)> {
        let refused = || {
            Error::refused(
                Code::NotFound,
                "there is no such invitation for the address you signed in with, or it was used, taken back or has expired",
            )
        };
        let found = tx.invitation_by_digest(&key::digest_of(text.trim())).await?.ok_or_else(refused)?;
        let is_vouched = self.still_vouches(tx, &vouched.subject.issuer, &vouched.email).await?;
        let is_verified = vouched.subject.issuer != PASSKEY_ISSUER || found.passkey;
        if !is_vouched || !is_verified || !found.is_for(&vouched.email, cx.now) {
            return Err(refused());
        }
        let known = tx.person_by_subject(&vouched.subject).await?;
        let is_new = known.is_none();
        let person = known.unwrap_or_else(|| self.person_new(vouched, cx.now));
        if tx.member_get(found.organisation, person.id).await?.is_some() {
            return Err(Error::refused(Code::Conflict, "you are a member of this organisation already"));
        }
        if is_new {
            tx.person_insert(&person).await?;
        }
        let member = Member {
            organisation: found.organisation,
            person: person.id,
            role: found.role,
            project: found.project,
            created_at: cx.now,
            version: 1,
        };
        tx.member_insert(&member).await?;
        let id = found.id;
        tx.invitation_update(&found.ended(cx.now)).await?;
        let mut entry = self.member_entry(cx, Action::MemberWrite, &member, &person).fact("invitation", id.to_string());
        entry.action = "invitation:accept".into();
        entry.actor = person.log_name().unwrap_or_default();
        Ok((person, member, vec![entry]))
    }

    /// Ends the invitations that stand and that these words are true of: whoever made them may not any more.
    pub(crate) async fn invitations_end(
        &self,
        cx: &Cx,
        tx: &Tx,
        organisation: OrganisationId,
        concerns: impl Fn(&Invitation) -> bool,
    ) -> Result<Vec<AuditEntry>> {
        let mut entries = Vec::new();
        for kept in tx.invitations_kept(organisation).await? {
            if !concerns(&kept) {
                continue;
            }
            let id = kept.id;
            tx.invitation_update(&kept.ended(cx.now)).await?;
            entries.push(cx.done(Some(organisation), "invitation:end", id));
        }
        Ok(entries)
    }

    /// Ends invitations whose time is over, so that no address of somebody who never came is kept.
    pub(crate) async fn invitations_expire(&self) -> Result<()> {
        let is_over = |kept: &Invitation, now| !kept.stands_at(now);
        if !self.store().invitations_kept_all().await?.iter().any(|kept| is_over(kept, self.now())) {
            return Ok(());
        }
        let cx = self.system("expire");
        let tx = self.store().begin_upkeep().await?;
        let mut entries = Vec::new();
        for kept in tx.invitations_kept_all().await? {
            if is_over(&kept, cx.now) {
                entries.push(cx.done(Some(kept.organisation), "invitation:expire", kept.id));
                tx.invitation_update(&kept.ended(cx.now)).await?;
            }
        }
        if entries.is_empty() { Ok(()) } else { self.finish(&cx, tx, &entries, Wake::Nobody).await }
    }

    pub(crate) fn person_new(&self, vouched: &Vouched, now: gregal_core::time::Time) -> Person {
        let mut salt = [0; 32];
        self.world().fill(&mut salt);
        Person {
            id: PersonId::new(self.world()),
            subject: Some(vouched.subject.clone()),
            email: vouched.email.clone(),
            name: vouched.name.clone(),
            salt: hex::encode(salt),
            created_at: now,
            erased_at: None,
            version: 1,
        }
    }
}
