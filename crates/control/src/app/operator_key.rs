//! Operators' keys: made and taken back by the founding operator, each with the smallest role that will do.

use gregal_api::{
    key::KeyCreated,
    operator_key::OperatorKeyCreate,
    problem::{Code, Problem},
};
use gregal_core::{
    access::{Action, Role},
    id::KeyId,
    key::{self, Key},
};
use gregal_policy::Resource;
use gregal_store::{Listed, PAGE_MAX, Page, Tx};

use crate::{
    Control, Cx, Error, Result,
    app::key::{ends_with_maker, out_of_scope},
    context::Facts as _,
    names,
    wakes::Wake,
};

/// The most operators' keys that work.
const WORKING_MAX: usize = 200;

impl Control {
    /// Makes an operator's key. Nobody grants more than he holds.
    pub(crate) async fn operator_key_create(&self, cx: &Cx, wanted: OperatorKeyCreate) -> Result<KeyCreated> {
        let policies = self.authorize(cx, Action::OperatorKeyCreate, &Resource::cloud()).await?;
        if !wanted.role.is_operator() || !cx.key()?.role.may_grant(wanted.role) {
            let role = wanted.role.as_str();
            return Err(Error::invalid(format!("`role` is `{role}`, no operator's role that this key may hand out")));
        }
        names::title("name", &wanted.name)?;
        let expires_at = ends_with_maker(cx, wanted.expires_in_s)?;
        // What operators do is asked of the cloud, which is at no site and has no model's name: a key that reads as if it
        // were held to one would be held to nothing.
        for (part, is_said) in [("sites", wanted.scope.sites.is_some()), ("models", wanted.scope.models.is_some())] {
            if is_said {
                return Err(Error::invalid(format!("`scope.{part}` narrows nothing that an operator's key may do")));
            }
        }
        let scope = self.scope_wanted(cx, wanted.scope).await?;
        let secret = self.secret();
        let key = Key {
            id: KeyId::new(self.world()),
            organisation: None,
            project: None,
            name: wanted.name,
            role: wanted.role,
            digest: key::digest_of(&secret),
            kind: key::KeyKind::Made,
            person: None,
            account: None,
            scope,
            created_at: cx.now,
            expires_at,
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        let tx = self.begin(cx).await?;
        if working(&tx, cx).await?.len() >= WORKING_MAX {
            let detail = format!("there are {WORKING_MAX} operators' keys that work");
            return Err(Problem::new(Code::Conflict, detail).hint("revoke one that is not needed").into());
        }
        tx.key_insert(&key).await?;
        let answer = |secret: Option<String>| KeyCreated { key: (&key).into(), secret };
        let entry = cx.done(None, Action::OperatorKeyCreate.as_str(), key.id).by(&policies);
        let entry = entry.fact("role", key.role.as_str());
        self.finish_created(cx, tx, &[entry], Wake::Nobody, &answer(None)).await?;
        Ok(answer(Some(secret)))
    }

    /// Operators' keys.
    pub(crate) async fn operator_keys_list(&self, cx: &Cx, page: &Page) -> Result<Listed<Key>> {
        self.authorize(cx, Action::OperatorKeyRead, &Resource::cloud()).await?;
        Ok(self.store().operator_keys_list(page).await?)
    }

    /// Revokes an operator's key; never the last that can make others.
    pub(crate) async fn operator_key_revoke(&self, cx: &Cx, id: KeyId) -> Result<Key> {
        let policies = self.authorize(cx, Action::OperatorKeyRevoke, &Resource::cloud()).await?;
        let missing = || Error::missing("key", id);
        let tx = self.begin(cx).await?;
        let before = tx.key_get(id).await?.filter(|key| key.role.is_operator()).ok_or_else(missing)?;
        if before.revoked_at.is_some() {
            return Ok(before);
        }
        if let Some(part) = before.scope.wider_than(&cx.key()?.scope) {
            return Err(out_of_scope(part, "the key to revoke is wider than the key that asks"));
        }
        // One that ends by itself, or does not reach everything, is nobody's way back in.
        let founds = |key: &&Key| key.role == Role::Operator && key.expires_at.is_none() && key.scope.is_open();
        let stays = working(&tx, cx).await?.iter().filter(founds).any(|key| key.id != id);
        if founds(&&before) && !stays {
            let detail = "it is the last operator's key that can make others and does not end";
            return Err(Problem::new(Code::Conflict, detail).hint("make another one first").into());
        }
        let after = Key { revoked_at: Some(cx.now), version: before.version + 1, ..before };
        tx.key_update(&after).await?;
        let entry = cx.done(None, Action::OperatorKeyRevoke.as_str(), id).by(&policies);
        self.finish(cx, tx, &[entry], Wake::Nobody).await?;
        Ok(after)
    }
}

/// Operators' keys that work.
async fn working(tx: &Tx, cx: &Cx) -> Result<Vec<Key>> {
    let (mut found, mut page) = (Vec::new(), Page::first(PAGE_MAX));
    loop {
        let listed = tx.operator_keys_list(&page).await?;
        found.extend(listed.items.into_iter().filter(|key| key.works_at(cx.now)));
        let Some(next) = listed.next else { return Ok(found) };
        page = Page::after(next, PAGE_MAX);
    }
}
