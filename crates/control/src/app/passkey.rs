//! Passkeys of people without a provider: taking up an invitation with one, signing in, having several. The address of such a
//! person is what whoever invited them says it is; nobody verified it, and it opens nothing but invitations that say so.

use gregal_core::{
    audit::AuditEntry,
    id::PasskeyId,
    invitation::Invitation,
    key,
    passkey::{PASSKEY_ISSUER, PASSKEYS_MAX, Passkey, credential_digest, handle_of, subject_of},
    person::Person,
};
use gregal_store::{Tx, View};
use webauthn_rs::prelude::{self as webauthn, DiscoverableAuthentication, PasskeyRegistration};

use crate::{
    Control, Cx, Error, Result,
    app::sign_in::Vouched,
    identity::{Asked, Claimed, Refusal, Relying},
    names,
    wakes::Wake,
};

/// What the log calls a sign-in.
const SIGN_IN: &str = "session:begin";

/// A first passkey that is being made, to take up an invitation.
#[derive(Debug)]
pub(crate) struct Joining {
    text: String,
    vouched: Vouched,
    name: String,
    registration: PasskeyRegistration,
}

/// A further passkey that is being made.
#[derive(Debug)]
pub(crate) struct Adding {
    vouched: Vouched,
    name: String,
    registration: PasskeyRegistration,
}

fn no_invitation() -> Error {
    let why = "there is no such invitation that a passkey may take up, or it was used, taken back or has expired";
    Error::refused(gregal_api::problem::Code::NotFound, why)
}

impl Control {
    /// Where passkeys are taken; refused where browsers take none.
    pub(crate) fn passkeys(&self) -> Result<&Relying> {
        self.identity().relying().ok_or_else(|| {
            Error::invalid(
                "passkeys need a public address with a name and https, or `localhost`: see `url` in the settings",
            )
        })
    }

    /// Asks for any passkey.
    pub(crate) fn passkey_ask(&self) -> Result<Asked<DiscoverableAuthentication>> {
        self.passkeys()?.ask()
    }

    /// Takes an answer to such a question: who it is, or none if it is worth nothing. Why is for the log.
    pub(crate) async fn passkey_answered(
        &self,
        state: DiscoverableAuthentication,
        answer: &str,
    ) -> Result<Option<Vouched>> {
        let cx = self.system("sign-in");
        let why = match self.passkeys()?.claimed(answer) {
            Ok(claimed) => match self.passkey_used(&cx, state, &claimed).await? {
                Ok(vouched) => return Ok(Some(vouched)),
                Err(why) => why,
            },
            Err(why) => why,
        };
        tracing::info!("a passkey was refused: {why}");
        self.refusal_told(&cx, None, SIGN_IN, PASSKEY_ISSUER, why).await?;
        Ok(None)
    }

    async fn passkey_used(
        &self,
        cx: &Cx,
        state: DiscoverableAuthentication,
        claimed: &Claimed,
    ) -> Result<std::result::Result<Vouched, Refusal>> {
        let tx = self.store().begin().await?;
        let Some(kept) = tx.passkey_by_digest(&credential_digest(&claimed.credential)).await? else {
            return Ok(Err("there is no such passkey"));
        };
        let person = self.person_of(&tx, kept.person).await?;
        let subject = subject_of(&claimed.handle);
        if person.subject.as_ref() != Some(&subject) {
            return Ok(Err("the passkey is somebody else's"));
        }
        let after = match self.passkeys()?.answered(state, claimed, read(&kept)?) {
            Ok(after) => after,
            Err(why) => return Ok(Err(why)),
        };
        if !self.still_vouches(&tx, PASSKEY_ISSUER, &person.email).await? {
            return Ok(Err("a provider vouches for this address"));
        }
        // The counter is kept before anything is given: the same answer finds it further on.
        let (credential, version) = (written(&after)?, kept.version + 1);
        let id = kept.id;
        tx.passkey_update(&Passkey { credential, used_at: Some(cx.now), version, ..kept }).await?;
        let mut entry = cx.done(None, "passkey:use", id);
        entry.actor = person.log_name().unwrap_or_default();
        self.finish(cx, tx, &[entry], Wake::Nobody).await?;
        Ok(Ok(Vouched { subject, email: person.email, name: person.name }))
    }

    /// Asks for a first passkey, for whoever holds the text of an invitation that says so.
    pub(crate) async fn passkey_join_begin(&self, text: &str, name: &str) -> Result<Asked<Joining>> {
        names::title("name", name)?;
        let found = self.invitation_by_passkey(self.store(), text).await?;
        let mut handle = [0; 16];
        self.world().fill(&mut handle);
        let asked = self.passkeys()?.register(handle, &found.email, Vec::new())?;
        let vouched = Vouched { subject: subject_of(&handle), email: found.email, name: None };
        let (text, name) = (text.trim().to_owned(), name.to_owned());
        Ok(Asked { options: asked.options, state: Joining { text, vouched, name, registration: asked.state } })
    }

    /// Takes the first passkey and the invitation with it. None if the answer is worth nothing.
    pub(crate) async fn passkey_join(&self, joining: Joining, answer: &str) -> Result<Option<Vouched>> {
        let Joining { text, vouched, name, registration } = joining;
        let cx = self.system("sign-in");
        let Some(made) = self.passkey_registered(&cx, &registration, answer).await? else { return Ok(None) };
        let tx = self.store().begin().await?;
        // As it is now: it may have been taken back meanwhile, or its domain been given to a provider.
        self.invitation_by_passkey(&tx, &text).await?;
        let (person, _, mut entries) = self.invitation_taken_up(&cx, &tx, &vouched, &text).await?;
        entries.extend(self.passkey_kept(&cx, &tx, &person, &made, name).await?);
        self.finish(&cx, tx, &entries, Wake::Nobody).await?;
        Ok(Some(vouched))
    }

    /// The invitation with this text, if it stands and whoever holds the text may take it up with a passkey.
    async fn invitation_by_passkey(&self, view: &View, text: &str) -> Result<Invitation> {
        let found = view.invitation_by_digest(&key::digest_of(text.trim())).await?.ok_or_else(no_invitation)?;
        let may = found.passkey
            && found.stands_at(self.now())
            && self.still_vouches(view, PASSKEY_ISSUER, &found.email).await?;
        if may { Ok(found) } else { Err(no_invitation()) }
    }

    /// Asks for a further passkey.
    pub(crate) async fn passkey_add_begin(&self, vouched: &Vouched, name: &str) -> Result<Asked<Adding>> {
        names::title("name", name)?;
        let person = self.person_with_passkeys(self.store(), vouched).await?;
        let handle = handle_of(&vouched.subject).ok_or_else(not_for_you)?;
        let mut known = Vec::new();
        for kept in self.store().passkeys_of(person.id).await? {
            known.push(read(&kept)?.cred_id().clone());
        }
        let asked = self.passkeys()?.register(handle, &person.email, known)?;
        let state = Adding { vouched: vouched.clone(), name: name.to_owned(), registration: asked.state };
        Ok(Asked { options: asked.options, state })
    }

    /// Takes a further passkey, from whoever asked for it; false if the answer is worth nothing.
    pub(crate) async fn passkey_add(&self, vouched: &Vouched, adding: Adding, answer: &str) -> Result<bool> {
        let cx = self.system("sign-in");
        if adding.vouched.subject != vouched.subject {
            return Err(not_for_you());
        }
        let Some(made) = self.passkey_registered(&cx, &adding.registration, answer).await? else { return Ok(false) };
        let tx = self.store().begin().await?;
        let person = self.person_with_passkeys(&tx, vouched).await?;
        let entries = self.passkey_kept(&cx, &tx, &person, &made, adding.name).await?;
        self.finish(&cx, tx, &entries, Wake::Nobody).await?;
        Ok(true)
    }

    /// Somebody's passkeys.
    pub(crate) async fn passkeys_mine(&self, vouched: &Vouched) -> Result<Vec<Passkey>> {
        let person = self.person_with_passkeys(self.store(), vouched).await?;
        Ok(self.store().passkeys_of(person.id).await?)
    }

    /// Takes a passkey away, and never the last one: nothing else lets its person in.
    pub(crate) async fn passkey_remove(&self, vouched: &Vouched, id: PasskeyId) -> Result<()> {
        let cx = self.system("sign-in");
        let tx = self.store().begin().await?;
        let person = self.person_with_passkeys(&tx, vouched).await?;
        let mine = tx.passkeys_of(person.id).await?;
        let gone = mine.iter().find(|kept| kept.id == id).ok_or_else(|| Error::missing("passkey", id))?;
        if mine.len() == 1 {
            let why = "this is your only passkey, and nothing else lets you in: add another first";
            return Err(Error::refused(gregal_api::problem::Code::Conflict, why));
        }
        tx.passkey_remove(gone).await?;
        let entries = self.passkey_told(&cx, &tx, &person, "passkey:remove", id).await?;
        self.finish(&cx, tx, &entries, Wake::Nobody).await
    }

    async fn passkey_registered(
        &self,
        cx: &Cx,
        registration: &PasskeyRegistration,
        answer: &str,
    ) -> Result<Option<webauthn::Passkey>> {
        match self.passkeys()?.registered(registration, answer) {
            Ok(made) => Ok(Some(made)),
            Err(why) => {
                tracing::info!("a new passkey was refused: {why}");
                self.refusal_told(cx, None, "passkey:add", PASSKEY_ISSUER, why).await?;
                Ok(None)
            }
        }
    }

    /// Keeps a new passkey. One that is somebody's is nobody else's.
    async fn passkey_kept(
        &self,
        cx: &Cx,
        tx: &Tx,
        person: &Person,
        made: &webauthn::Passkey,
        name: String,
    ) -> Result<Vec<AuditEntry>> {
        let taken = |why: String| Error::refused(gregal_api::problem::Code::Conflict, why);
        let digest = credential_digest(made.cred_id());
        if tx.passkey_by_digest(&digest).await?.is_some() {
            return Err(taken("this passkey is known here already".into()));
        }
        if tx.passkeys_of(person.id).await?.len() >= PASSKEYS_MAX {
            return Err(taken(format!("you have {PASSKEYS_MAX} passkeys: remove one that is not needed")));
        }
        let id = PasskeyId::new(self.world());
        let (credential, created_at) = (written(made)?, cx.now);
        let passkey =
            Passkey { id, person: person.id, name, digest, credential, created_at, used_at: None, version: 1 };
        tx.passkey_insert(&passkey).await?;
        self.passkey_told(cx, tx, person, "passkey:add", id).await
    }

    /// What is done to a person's passkeys, as each of their organisations reads it.
    async fn passkey_told(
        &self,
        cx: &Cx,
        tx: &Tx,
        person: &Person,
        action: &str,
        id: PasskeyId,
    ) -> Result<Vec<AuditEntry>> {
        let entry = |organisation| {
            let mut entry = cx.done(organisation, action, id);
            entry.actor = person.log_name().unwrap_or_default();
            entry
        };
        let members = tx.memberships_of(person.id).await?;
        let told: Vec<AuditEntry> = members.iter().map(|member| entry(Some(member.organisation))).collect();
        Ok(if told.is_empty() { vec![entry(None)] } else { told })
    }

    /// The person behind a word of this cloud itself.
    async fn person_with_passkeys(&self, view: &View, vouched: &Vouched) -> Result<Person> {
        if handle_of(&vouched.subject).is_none() {
            return Err(not_for_you());
        }
        view.person_by_subject(&vouched.subject).await?.ok_or_else(not_for_you)
    }
}

fn not_for_you() -> Error {
    Error::refused(
        gregal_api::problem::Code::Conflict,
        "passkeys are for people without a provider: yours says how you sign in",
    )
}

fn read(kept: &Passkey) -> Result<webauthn::Passkey> {
    serde_json::from_str(&kept.credential).map_err(|why| Error::Broken(format!("`{}` cannot be read: {why}", kept.id)))
}

fn written(passkey: &webauthn::Passkey) -> Result<String> {
    serde_json::to_string(passkey).map_err(|why| Error::Broken(format!("a passkey cannot be written: {why}")))
}
