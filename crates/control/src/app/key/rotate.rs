//! Rotation: a new key takes an old one's place, and both work for a while.

use gregal_api::{
    key::{KeyCreated, KeyRotate},
    problem::{Code, Problem},
};
use gregal_core::{
    access::Action,
    id::{KeyId, OrganisationId},
    invitation::Invitation,
    key::{self, Key},
    time::Time,
};
use gregal_policy::Resource;

use super::{ends_with_maker, out_of_scope};
use crate::{Control, Cx, Error, Result, context::Facts as _, wakes::Wake};

/// How long both keys work unless it is said otherwise, in seconds: a day.
const OVERLAP_S: u32 = 86_400;
/// The longest overlap, in seconds: 30 days.
const OVERLAP_S_MAX: u32 = 30 * 86_400;

impl Control {
    /// Gives a key's place to a new one, of the same role, project and scope. Nobody rotates a key he could not make.
    pub(crate) async fn key_rotate(&self, cx: &Cx, id: KeyId, wanted: KeyRotate) -> Result<KeyCreated> {
        let missing = || Error::missing("key", id);
        let seen = self.store().key_get(id).await?.ok_or_else(missing)?;
        let organisation = seen.organisation.ok_or_else(missing)?;
        let resource = Resource::key(organisation, seen.project, id, seen.role);
        let policies = self.authorize(cx, Action::KeyRotate, &resource).await?;
        let overlap_s = wanted.overlap_s.unwrap_or(OVERLAP_S);
        if overlap_s > OVERLAP_S_MAX {
            return Err(Error::invalid(format!("`overlap_s` is {overlap_s}, more than 30 days ({OVERLAP_S_MAX})")));
        }
        if let Some(of) = seen.account {
            let account = self.store().service_account_get(of).await?.ok_or_else(missing)?;
            self.may_hand_out(cx, &account).await?;
        }
        self.not_named_by_policies(organisation, id).await?;
        let secret = self.secret();
        let tx = self.begin(cx).await?;
        let old = tx.key_get(id).await?.ok_or_else(missing)?;
        is_fit(&old, cx.now)?;
        if let Some(part) = old.scope.wider_than(&cx.key()?.scope) {
            return Err(out_of_scope(part, "the key to rotate is wider than the key that asks"));
        }
        self.one_more_key(&tx, organisation, &old, cx.now).await?;
        let expires_at = match wanted.expires_in_s {
            None => ends_with_both(&old, cx.key()?),
            wanted => ends_with_maker(cx, wanted)?,
        };
        let new = Key {
            id: KeyId::new(self.world()),
            digest: key::digest_of(&secret),
            created_at: cx.now,
            expires_at,
            replaces: Some(id),
            version: 1,
            ..old.clone()
        };
        let ends = cx.now.plus_seconds(i64::from(overlap_s));
        let ends = old.expires_at.map_or(ends, |end| end.min(ends));
        let after = Key { expires_at: Some(ends), replaced_by: Some(new.id), version: old.version + 1, ..old };
        // What has no overlap was taken back, and so were its grants.
        let after = Key { revoked_at: (overlap_s == 0).then_some(cx.now), ..after };
        tx.key_insert(&new).await?;
        tx.key_update(&after).await?;
        // What the key offered hangs on its successor: revoking that takes it back.
        for kept in tx.invitations_kept(organisation).await? {
            if kept.by_key == Some(id) {
                let version = kept.version + 1;
                tx.invitation_update(&Invitation { by_key: Some(new.id), version, ..kept }).await?;
            }
        }
        let answer = |secret: Option<String>| KeyCreated { key: (&new).into(), secret };
        let entry = cx
            .done(Some(organisation), Action::KeyRotate.as_str(), id)
            .by(&policies)
            .fact("replaced_by", new.id.to_string())
            .fact("works_until", ends.to_string());
        self.finish_created(cx, tx, &[entry], Wake::Sites, &answer(None)).await?;
        Ok(answer(Some(secret)))
    }

    /// A policy of the organisation's own that names the key would not name its successor.
    async fn not_named_by_policies(&self, organisation: OrganisationId, id: KeyId) -> Result<()> {
        let named = id.to_string();
        let own = self.store().policies_of_organisation(organisation).await?;
        let Some(policy) = own.iter().find(|policy| policy.text.contains(&named)) else { return Ok(()) };
        let detail =
            format!("the organisation's own policy `{}` names this key, and would not name the new one", policy.rule());
        Err(Problem::new(Code::Conflict, detail)
            .hint("say the policy by role or project, or make a new key and name it too")
            .into())
    }
}

/// When the successor ends if nothing is said: with the old key, and not after the key that asks. Who is signed in holds what he
/// holds by his membership, and a key that rotates itself has one end.
fn ends_with_both(old: &Key, asks: &Key) -> Option<Time> {
    let asks_end = if asks.kind == key::KeyKind::Session { None } else { asks.expires_at };
    match (old.expires_at, asks_end) {
        (Some(old), Some(asks)) => Some(old.min(asks)),
        (old, asks) => old.or(asks),
    }
}

/// Whether a key can be rotated.
fn is_fit(old: &Key, now: Time) -> Result<()> {
    let refused = |detail: String, hint: &str| Err(Problem::new(Code::Conflict, detail).hint(hint).into());
    if let Some(by) = old.replaced_by {
        return refused(format!("the key was rotated: `{by}` takes its place"), "rotate that one");
    }
    if !old.works_at(now) {
        return refused("the key does not work any more".into(), "make a new key");
    }
    if !old.kind.is_made() {
        return refused("the key is short, and was made by a sign-in or for a token".into(), "sign in again");
    }
    Ok(())
}
