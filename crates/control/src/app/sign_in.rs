//! What stands between a provider's word and a key: the one door the console has beside the API, because before a sign-in
//! there is no key to call it with. It makes sessions, and nothing else.

use gregal_api::grant::GRANT_SECONDS_MAX;
use gregal_core::{
    access::Role,
    id::{KeyId, OrganisationId, PersonId, ProjectId},
    key::{self, Key, KeyKind},
    member::Member,
    person::{Person, Subject},
    session::{self, Refresh, Session},
    time::Time,
};
use gregal_store::Tx;

use crate::{Control, Cx, Error, Result, context::Facts as _, wakes::Wake};

/// The most sessions of one person at once; beyond, the oldest ends.
const SESSIONS_MAX: usize = 32;

/// Somebody a provider vouched for just now.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// Who the provider says it is.
    pub(crate) subject: Subject,
    /// The address it verified, in lower case.
    pub(crate) email: String,
    /// What it says they are called.
    pub(crate) name: Option<String>,
}

// An address must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Vouched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vouched").finish_non_exhaustive()
    }
}

/// A membership somebody may sign in to.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) organisation: OrganisationId,
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// What a command line is given.
pub(crate) struct Tokens {
    /// The key's secret.
    pub(crate) key: String,
    /// Seconds it works.
    pub(crate) expires_in_s: u32,
    /// The refresh credential.
    pub(crate) refresh: String,
}

impl Control {
    /// Whether whoever vouched for somebody may do so as things are now.
    pub(crate) async fn is_still_vouched(&self, vouched: &Vouched) -> Result<bool> {
        self.still_vouches(self.store(), &vouched.subject.issuer, &vouched.email).await
    }

    /// Who somebody is here, if they are somebody.
    pub(crate) async fn person_known(&self, vouched: &Vouched) -> Result<Option<PersonId>> {
        Ok(self.store().person_by_subject(&vouched.subject).await?.map(|person| person.id))
    }

    /// Where somebody may sign in to.
    pub(crate) async fn places_of(&self, vouched: &Vouched) -> Result<Vec<Place>> {
        if !self.is_still_vouched(vouched).await? {
            return Ok(Vec::new());
        }
        self.scim_join(vouched).await?;
        let Some(person) = self.store().person_by_subject(&vouched.subject).await? else { return Ok(Vec::new()) };
        let mut places = Vec::new();
        for member in self.store().memberships_of(person.id).await? {
            let organisation = self.organisation_of(self.store(), member.organisation).await?;
            places.push(Place { organisation: organisation.id, name: organisation.name, role: member.role });
        }
        Ok(places)
    }

    /// Signs somebody in to an organisation for a browser; answers the key's secret.
    pub(crate) async fn session_begin(&self, vouched: &Vouched, organisation: OrganisationId) -> Result<String> {
        let cx = self.system("sign-in");
        let tx = self.store().begin().await?;
        let (person, member) = self.member_vouched(&tx, vouched, organisation).await?;
        let (key, secret) = self.session_key(&cx, &tx, &person, &member, session::CONSOLE_KEY_S).await?;
        let mut entry = cx.done(Some(organisation), "session:begin", key.id).fact("via", "console");
        entry.actor = key.name;
        self.finish(&cx, tx, &[entry], Wake::Sites).await?;
        Ok(secret)
    }

    /// Signs somebody in to an organisation for a command line.
    pub(crate) async fn session_begin_lasting(
        &self,
        vouched: &Vouched,
        organisation: OrganisationId,
    ) -> Result<Tokens> {
        let cx = self.system("sign-in");
        let tx = self.store().begin().await?;
        let (person, member) = self.member_vouched(&tx, vouched, organisation).await?;
        let (key, secret) = self.session_key(&cx, &tx, &person, &member, session::CLI_KEY_S).await?;
        for old in tx.sessions_of(person.id).await? {
            if !old.lives_at(cx.now) {
                tx.session_remove(&old).await?;
            }
        }
        let (mut family, mut half) = ([0; 32], [0; 32]);
        self.world().fill(&mut family);
        self.world().fill(&mut half);
        let refresh = session::refresh_from(&family, &half);
        let (family, newest) = digests(&refresh)?;
        let session = Session {
            id: gregal_core::id::SessionId::new(self.world()),
            person: person.id,
            organisation,
            family,
            newest,
            key: key.id,
            created_at: cx.now,
            used_at: cx.now,
            ended_at: None,
            version: 1,
        };
        tx.session_insert(&session).await?;
        let mut entry = cx.done(Some(organisation), "session:begin", key.id).fact("via", "cli");
        entry = entry.fact("session", session.id.to_string());
        entry.actor = key.name;
        self.finish(&cx, tx, &[entry], Wake::Sites).await?;
        Ok(Tokens { key: secret, expires_in_s: session::CLI_KEY_S, refresh })
    }

    /// Gives a new key and a new refresh credential for the newest one. None for one that is worth nothing; one that was
    /// used before ends its whole family, because somebody has a copy.
    pub(crate) async fn session_refresh(&self, text: &str) -> Result<Option<Tokens>> {
        let Some((family, half)) = session::refresh_digests(text) else { return Ok(None) };
        let cx = self.system("sign-in");
        let tx = self.store().begin().await?;
        let Some(found) = tx.session_by_family(&family).await? else { return Ok(None) };
        let worth = found.refresh(&half, cx.now);
        if worth == Refresh::Over {
            return Ok(None);
        }
        let person = self.person_of(&tx, found.person).await?;
        let name = person.log_name().unwrap_or_default();
        // Whoever revoked the newest key meant this sign-in. One that ran out is forgotten sooner or later, and ends nothing.
        let was_revoked = tx.key_get(found.key).await?.is_some_and(|key| key.revoked_at.is_some());
        let issuer = person.subject.as_ref().map_or("", |subject| subject.issuer.as_str());
        let is_vouched = self.still_vouches(&tx, issuer, &person.email).await?;
        self.key_end(&tx, found.key, cx.now).await?;
        let (organisation, version) = (found.organisation, found.version + 1);
        if worth == Refresh::Good && (was_revoked || !is_vouched) {
            let why = if was_revoked { "its key was revoked" } else { "another provider vouches for this address now" };
            let entry = cx.done(Some(organisation), "session:end", found.id).fact("person", name).refused(why);
            tx.session_update(&Session { ended_at: Some(cx.now), version, ..found }).await?;
            self.finish(&cx, tx, &[entry], Wake::Sites).await?;
            return Ok(None);
        }
        if worth == Refresh::Replayed {
            let entry = cx
                .done(Some(organisation), "session:replay", found.id)
                .fact("person", name)
                .refused("an older refresh credential was sent again: every session of its family ends");
            tx.session_update(&Session { ended_at: Some(cx.now), version, ..found }).await?;
            self.finish(&cx, tx, &[entry], Wake::Sites).await?;
            return Ok(None);
        }
        let Some(member) = tx.member_get(organisation, found.person).await? else { return Ok(None) };
        let (key, secret) = self.session_key(&cx, &tx, &person, &member, session::CLI_KEY_S).await?;
        let mut fresh = [0; 32];
        self.world().fill(&mut fresh);
        let shared = text.get(..session::REFRESH_PREFIX.len() + 64).unwrap_or_default();
        let refresh = format!("{shared}{}", hex::encode(fresh));
        let (_, newest) = digests(&refresh)?;
        let mut entry = cx.done(Some(organisation), "session:refresh", key.id).fact("session", found.id.to_string());
        entry.actor.clone_from(&key.name);
        tx.session_update(&Session { newest, key: key.id, used_at: cx.now, version, ..found }).await?;
        self.finish(&cx, tx, &[entry], Wake::Sites).await?;
        Ok(Some(Tokens { key: secret, expires_in_s: session::CLI_KEY_S, refresh }))
    }

    /// Ends a command line's family, by any credential of it. Unknown ones are over already.
    pub(crate) async fn session_sign_out(&self, text: &str) -> Result<()> {
        let Some((family, _)) = session::refresh_digests(text) else { return Ok(()) };
        let cx = self.system("sign-out");
        let tx = self.store().begin().await?;
        let Some(found) = tx.session_by_family(&family).await? else { return Ok(()) };
        if found.ended_at.is_some() {
            return Ok(());
        }
        self.key_end(&tx, found.key, cx.now).await?;
        let person = self.person_of(&tx, found.person).await?;
        let mut entry = cx.done(Some(found.organisation), "session:end", found.id);
        entry.actor = person.log_name().unwrap_or_default();
        let version = found.version + 1;
        tx.session_update(&Session { ended_at: Some(cx.now), version, ..found }).await?;
        self.finish(&cx, tx, &[entry], Wake::Sites).await
    }

    /// Ends a browser's session: its key works no more. A key that no sign-in made is left alone.
    pub(crate) async fn session_end(&self, secret: &str) -> Result<()> {
        let cx = self.system("sign-out");
        let tx = self.store().begin().await?;
        let Some(key) = tx.key_by_digest(&key::digest_of(secret)).await? else { return Ok(()) };
        if key.kind != KeyKind::Session || !key.works_at(cx.now) {
            return Ok(());
        }
        let mut entry = cx.done(key.organisation, "session:end", key.id);
        entry.actor.clone_from(&key.name);
        self.key_end(&tx, key.id, cx.now).await?;
        self.finish(&cx, tx, &[entry], Wake::Sites).await
    }

    /// Ends the families of refresh credentials whose newest key this is.
    pub(crate) async fn families_end(&self, tx: &Tx, key: &Key, now: Time) -> Result<()> {
        let Some(person) = key.person else { return Ok(()) };
        for session in tx.sessions_of(person).await? {
            if session.key == key.id && session.ended_at.is_none() {
                let version = session.version + 1;
                tx.session_update(&Session { ended_at: Some(now), version, ..session }).await?;
            }
        }
        Ok(())
    }

    async fn key_end(&self, tx: &Tx, id: KeyId, now: Time) -> Result<()> {
        if let Some(key) = tx.key_get(id).await?.filter(|key| key.revoked_at.is_none()) {
            tx.key_update(&Key { revoked_at: Some(now), version: key.version + 1, ..key }).await?;
        }
        Ok(())
    }

    /// The person behind a provider's word and what they are in an organisation. What the provider says of them now is
    /// what is kept.
    async fn member_vouched(
        &self,
        tx: &Tx,
        vouched: &Vouched,
        organisation: OrganisationId,
    ) -> Result<(Person, Member)> {
        let missing = || Error::missing("organisation", organisation);
        if !self.still_vouches(tx, &vouched.subject.issuer, &vouched.email).await? {
            return Err(missing());
        }
        let person = tx.person_by_subject(&vouched.subject).await?.ok_or_else(missing)?;
        let member = tx.member_get(organisation, person.id).await?.ok_or_else(missing)?;
        if person.email == vouched.email && person.name == vouched.name {
            return Ok((person, member));
        }
        if person.email != vouched.email {
            // What was offered to the address of before can be taken up by nobody here, and would outlive an erasure.
            for kept in tx.invitations_kept_all().await? {
                if kept.email == person.email {
                    let now = self.now();
                    tx.invitation_update(&kept.ended(now)).await?;
                }
            }
        }
        let (email, name) = (vouched.email.clone(), vouched.name.clone());
        let person = Person { email, name, version: person.version + 1, ..person };
        tx.person_update(&person).await?;
        Ok((person, member))
    }

    /// Makes the short key of a session; what has ended before is forgotten, and the oldest gives way to one too many.
    async fn session_key(
        &self,
        cx: &Cx,
        tx: &Tx,
        person: &Person,
        member: &Member,
        seconds: u32,
    ) -> Result<(Key, String)> {
        let mut working = Vec::new();
        for old in tx.keys_of_person(person.id).await? {
            if old.works_at(cx.now) {
                working.push(old);
            } else if !is_still_told(&old, cx.now) {
                tx.key_forget(&old).await?;
            }
        }
        let too_many = (working.len() + 1).saturating_sub(SESSIONS_MAX);
        for old in working.into_iter().take(too_many) {
            self.families_end(tx, &old, cx.now).await?;
            tx.key_update(&Key { revoked_at: Some(cx.now), version: old.version + 1, ..old }).await?;
        }
        let name = person.log_name().ok_or_else(|| Error::Broken("an erased person signs in".into()))?;
        let secret = self.secret();
        let project: Option<ProjectId> = member.project;
        let key = Key {
            id: KeyId::new(self.world()),
            organisation: Some(member.organisation),
            project,
            name,
            role: member.role,
            digest: key::digest_of(&secret),
            kind: KeyKind::Session,
            person: Some(person.id),
            account: None,
            scope: key::Scope::default(),
            created_at: cx.now,
            expires_at: Some(cx.now.plus_seconds(i64::from(seconds))),
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        tx.key_insert(&key).await?;
        Ok((key, secret))
    }
}

/// Whether sites have to hear that a key was revoked: as long as a grant that it asked for could live.
pub(crate) fn is_still_told(key: &Key, now: Time) -> bool {
    let since = now.plus_seconds(-(GRANT_SECONDS_MAX + 60));
    key.revoked_at.is_some_and(|at| at >= since)
}

fn digests(refresh: &str) -> Result<(String, String)> {
    session::refresh_digests(refresh)
        .ok_or_else(|| Error::Broken("a refresh credential of ours has not its form".into()))
}
