//! Service accounts: named holders of keys. Their keys are never wider than they are, and end with them in one transaction.

use std::collections::BTreeMap;

use gregal_api::{
    key::KeyCreated,
    problem::{Code, Problem},
    service_account::{
        ServiceAccountCreate, ServiceAccountKeyCreate, ServiceAccountView, ServiceAccountWrite, TrustView,
    },
};
use gregal_core::{
    access::Action,
    id::{KeyId, OrganisationId, ServiceAccountId},
    key::{self, Key, KeyKind},
    scope::Scope,
    service_account::{ServiceAccount, TRUST_CLAIMS_MAX, TRUSTS_MAX, Trust},
    time::Time,
};
use gregal_policy::Resource;
use gregal_store::{Listed, Page, Tx};

use crate::{
    Control, Cx, Error, Result,
    app::key::{ends_with_maker, out_of_scope},
    context::Facts as _,
    names,
    wakes::Wake,
};

/// The most service accounts of one organisation.
const ACCOUNTS_MAX: u64 = 200;
/// The most keys of one service account that work.
const KEYS_MAX: usize = 100;
/// Claims that are looked at anyway: a trust that names one would say nothing, or something false.
const CHECKED_ANYWAY: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

impl Control {
    /// Makes a service account. Nobody makes one wider than himself.
    pub(crate) async fn service_account_create(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        wanted: ServiceAccountCreate,
    ) -> Result<ServiceAccountView> {
        let missing = || Error::missing("organisation", organisation);
        self.store().organisation_get(organisation).await?.ok_or_else(missing)?;
        // A key bound to a project sees that, and not the organisation above it.
        let hides = match wanted.project {
            Some(project) => self.verdict(cx, Action::ProjectRead, &Resource::project(organisation, project)).hides(),
            None => self.verdict(cx, Action::OrganisationRead, &Resource::organisation(organisation)).hides(),
        };
        if hides {
            return Err(missing());
        }
        let id = ServiceAccountId::new(self.world());
        let resource = Resource::member(organisation, wanted.project, id, wanted.role);
        let policies = self.authorize(cx, Action::ServiceAccountCreate, &resource).await?;
        may_outlast(cx)?;
        self.project_within(self.store(), organisation, wanted.project).await?;
        names::title("name", &wanted.name)?;
        let scope = self.scope_wanted(cx, wanted.scope).await?;
        let account = ServiceAccount {
            id,
            organisation,
            project: wanted.project,
            name: wanted.name,
            role: wanted.role,
            scope,
            trusts: Vec::new(),
            created_at: cx.now,
            disabled_at: None,
            version: 1,
        };
        let tx = self.begin(cx).await?;
        if tx.service_accounts_count(organisation).await? >= ACCOUNTS_MAX {
            let detail =
                format!("this organisation has {ACCOUNTS_MAX} service accounts: remove one that is not needed");
            return Err(Error::refused(Code::Conflict, detail));
        }
        tx.service_account_insert(&account).await?;
        let mut entry = cx
            .done(Some(organisation), Action::ServiceAccountCreate.as_str(), id)
            .by(&policies)
            .fact("role", account.role.as_str());
        if let Some(project) = account.project {
            entry = entry.fact("project", project.to_string());
        }
        if !account.scope.is_open() {
            entry = entry.fact("scope", said(&account.scope));
        }
        let view = ServiceAccountView::from(&account);
        self.finish_created(cx, tx, &[entry], Wake::Nobody, &view).await?;
        Ok(view)
    }

    /// An organisation's service accounts; a key bound to a project sees those of it.
    pub(crate) async fn service_accounts_list(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        page: &Page,
    ) -> Result<Listed<ServiceAccountView>> {
        let missing = || Error::missing("organisation", organisation);
        self.store().organisation_get(organisation).await?.ok_or_else(missing)?;
        let bound_to = cx.key()?.project.filter(|_| cx.key().is_ok_and(|key| key.organisation == Some(organisation)));
        let place = bound_to
            .map_or_else(|| Resource::organisation(organisation), |project| Resource::project(organisation, project));
        self.authorize(cx, Action::ServiceAccountRead, &place).await?;
        let listed = self.store().service_accounts_list(organisation, bound_to, page).await?;
        Ok(Listed { items: listed.items.iter().map(Into::into).collect(), next: listed.next })
    }

    /// A service account.
    pub(crate) async fn service_account_read(&self, cx: &Cx, id: ServiceAccountId) -> Result<ServiceAccountView> {
        let (account, _) = self.account_asked(cx, id, Action::ServiceAccountRead).await?;
        Ok((&account).into())
    }

    /// Disables or enables a service account, and says whose tokens stand for it.
    pub(crate) async fn service_account_write(
        &self,
        cx: &Cx,
        id: ServiceAccountId,
        wanted: ServiceAccountWrite,
    ) -> Result<ServiceAccountView> {
        let (asked, policies) = self.account_asked(cx, id, Action::ServiceAccountWrite).await?;
        within_asker(cx, &asked)?;
        let adds_trust = wanted.trusts.as_ref().is_some_and(|trusts| !trusts.is_empty());
        if adds_trust || wanted.enabled == Some(true) {
            may_outlast(cx)?;
        }
        let trusts = match wanted.trusts {
            Some(trusts) => Some(self.trusts_checked(asked.organisation, trusts).await?),
            None => None,
        };
        let tx = self.begin(cx).await?;
        let before = tx.service_account_get(id).await?.ok_or_else(|| Error::missing("service account", id))?;
        let disabled_at = match wanted.enabled {
            None => before.disabled_at,
            Some(true) => None,
            Some(false) => before.disabled_at.or(Some(cx.now)),
        };
        let trusts = trusts.unwrap_or_else(|| before.trusts.clone());
        if (disabled_at, &trusts) == (before.disabled_at, &before.trusts) {
            return Ok((&before).into());
        }
        let mut entry = cx.done(Some(before.organisation), Action::ServiceAccountWrite.as_str(), id).by(&policies);
        if trusts != before.trusts {
            entry = entry.fact("issuers", trusts.iter().map(|trust| trust.issuer.clone()).collect::<Vec<_>>());
        }
        if disabled_at != before.disabled_at {
            entry = entry.fact("enabled", disabled_at.is_none());
        }
        let mut entries = Vec::new();
        if disabled_at.is_some() && before.disabled_at.is_none() {
            entry = entry.fact("keys_ended", account_keys_end(&tx, id, cx.now).await?);
            let of = before.organisation;
            entries = self.invitations_end(cx, &tx, of, |kept| kept.by_account == Some(id)).await?;
        }
        entries.insert(0, entry);
        let after = ServiceAccount { trusts, disabled_at, version: before.version + 1, ..before };
        tx.service_account_update(&after).await?;
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok((&after).into())
    }

    /// Removes a service account. What it did stays in the log under its id.
    pub(crate) async fn service_account_remove(&self, cx: &Cx, id: ServiceAccountId) -> Result<ServiceAccountView> {
        let (asked, policies) = self.account_asked(cx, id, Action::ServiceAccountRemove).await?;
        within_asker(cx, &asked)?;
        let tx = self.begin(cx).await?;
        let gone = tx.service_account_get(id).await?.ok_or_else(|| Error::missing("service account", id))?;
        let ended = account_keys_end(&tx, id, cx.now).await?;
        tx.service_account_remove(id).await?;
        let entry = cx
            .done(Some(gone.organisation), Action::ServiceAccountRemove.as_str(), id)
            .by(&policies)
            .fact("keys_ended", ended);
        let mut entries = vec![entry];
        let of = gone.organisation;
        entries.extend(self.invitations_end(cx, &tx, of, |kept| kept.by_account == Some(id)).await?);
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok((&gone).into())
    }

    /// Makes a key of a service account: of its role and reach, within its scope and within the asker's.
    pub(crate) async fn service_account_key_create(
        &self,
        cx: &Cx,
        id: ServiceAccountId,
        wanted: ServiceAccountKeyCreate,
    ) -> Result<KeyCreated> {
        let missing = || Error::missing("service account", id);
        let account = self.store().service_account_get(id).await?.ok_or_else(missing)?;
        let key_id = KeyId::new(self.world());
        let resource = Resource::key(account.organisation, account.project, key_id, account.role);
        let policies = one_noun(self.authorize(cx, Action::KeyCreate, &resource).await, missing)?;
        self.may_hand_out(cx, &account).await?;
        // What an account makes is its own: a key of another would not end with it.
        if cx.key()?.account.is_some_and(|own| own != id) {
            may_outlast(cx)?;
        }
        names::title("name", &wanted.name)?;
        let expires_at = ends_with_maker(cx, wanted.expires_in_s)?;
        let scope = self.scope_wanted(cx, wanted.scope).await?.filled_from(&account.scope);
        if let Some(part) = scope.wider_than(&account.scope) {
            return Err(out_of_scope(part, "the key to make would be wider than its service account"));
        }
        let tx = self.begin(cx).await?;
        let account = tx.service_account_get(id).await?.ok_or_else(missing)?;
        if account.disabled_at.is_some() {
            return Err(Error::refused(Code::Conflict, "this service account is disabled"));
        }
        self.account_keys_not_too_many(&tx, &account, cx.now).await?;
        let (key, secret) = self.account_key(&account, key_id, wanted.name, KeyKind::Made, scope, cx.now, expires_at);
        tx.key_insert(&key).await?;
        let answer = |secret: Option<String>| KeyCreated { key: (&key).into(), secret };
        let mut entry = cx
            .done(Some(account.organisation), Action::KeyCreate.as_str(), key_id)
            .by(&policies)
            .fact("service_account", id.to_string())
            .fact("role", key.role.as_str());
        if !key.scope.is_open() {
            entry = entry.fact("scope", said(&key.scope));
        }
        self.finish_created(cx, tx, &[entry], Wake::Sites, &answer(None)).await?;
        Ok(answer(Some(secret)))
    }

    /// A service account's keys.
    pub(crate) async fn service_account_keys_list(
        &self,
        cx: &Cx,
        id: ServiceAccountId,
        page: &Page,
    ) -> Result<Listed<Key>> {
        let missing = || Error::missing("service account", id);
        let account = self.store().service_account_get(id).await?.ok_or_else(missing)?;
        let place = account.project.map_or_else(
            || Resource::organisation(account.organisation),
            |project| Resource::project(account.organisation, project),
        );
        one_noun(self.authorize(cx, Action::KeyRead, &place).await, missing)?;
        Ok(self.store().account_keys_list(id, page).await?)
    }

    /// A key of a service account, and its secret; it is not stored yet.
    #[expect(clippy::too_many_arguments, reason = "the parts of one row")]
    pub(crate) fn account_key(
        &self,
        account: &ServiceAccount,
        id: KeyId,
        name: String,
        kind: KeyKind,
        scope: Scope,
        now: Time,
        expires_at: Option<Time>,
    ) -> (Key, String) {
        let secret = self.secret();
        let key = Key {
            id,
            organisation: Some(account.organisation),
            project: account.project,
            name,
            role: account.role,
            digest: key::digest_of(&secret),
            kind,
            person: None,
            account: Some(account.id),
            scope,
            created_at: now,
            expires_at,
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        (key, secret)
    }

    /// Refuses one more key where an account, or its project, has as many as may work.
    pub(crate) async fn account_keys_not_too_many(&self, tx: &Tx, account: &ServiceAccount, now: Time) -> Result<()> {
        let kept = tx.account_keys_kept(account.id).await?;
        if kept.iter().filter(|key| key.works_at(now)).count() >= KEYS_MAX {
            let detail = format!("this service account has {KEYS_MAX} keys that work: revoke one that is not needed");
            return Err(Error::refused(Code::Conflict, detail));
        }
        match account.project {
            Some(project) => self.keys_not_too_many(tx, account.organisation, project, now).await,
            None => Ok(()),
        }
    }

    /// Refuses to hand out what an account is to whoever may not say what becomes of it: its role alone does not tell how far it
    /// reaches. The account itself may: what it makes ends with it.
    pub(crate) async fn may_hand_out(&self, cx: &Cx, account: &ServiceAccount) -> Result<()> {
        if cx.key()?.account == Some(account.id) {
            return Ok(());
        }
        let resource = Resource::member(account.organisation, account.project, account.id, account.role);
        self.authorize(cx, Action::ServiceAccountWrite, &resource).await.map(drop)
    }

    /// The account asked about, if this may be done to one of its role.
    async fn account_asked(
        &self,
        cx: &Cx,
        id: ServiceAccountId,
        action: Action,
    ) -> Result<(ServiceAccount, Vec<String>)> {
        let missing = || Error::missing("service account", id);
        let account = self.store().service_account_get(id).await?.ok_or_else(missing)?;
        let resource = Resource::member(account.organisation, account.project, id, account.role);
        let policies = one_noun(self.authorize(cx, action, &resource).await, missing)?;
        Ok((account, policies))
    }

    async fn trusts_checked(&self, organisation: OrganisationId, wanted: Vec<TrustView>) -> Result<Vec<Trust>> {
        if wanted.len() > TRUSTS_MAX {
            return Err(Error::invalid(format!("`trusts` names more than {TRUSTS_MAX} issuers")));
        }
        for trust in &wanted {
            names::words("issuer", &trust.issuer, 500)?;
            names::words("audience", &trust.audience, 200)?;
            self.identity().check_issuer(&trust.issuer)?;
            claims_checked(&trust.claims)?;
            if self.is_for_people(organisation, &trust.issuer, &trust.audience).await? {
                return Err(Error::invalid(
                    "`audience` is what this issuer calls the cloud when people sign in: give programs' tokens another",
                ));
            }
        }
        Ok(wanted.into_iter().map(Into::into).collect())
    }
}

/// Refuses claims that would let in anybody whom the issuer vouches for.
fn claims_checked(claims: &BTreeMap<String, String>) -> Result<()> {
    if claims.len() > TRUST_CLAIMS_MAX {
        return Err(Error::invalid(format!("`claims` names more than {TRUST_CLAIMS_MAX} claims")));
    }
    for (name, pattern) in claims {
        names::words("claims", name, 200)?;
        names::words("claims", pattern, 500)?;
        if CHECKED_ANYWAY.contains(&name.as_str()) {
            return Err(Error::invalid(format!("`claims` names `{name}`, which is looked at by itself")));
        }
    }
    if claims.values().all(|pattern| pattern.chars().all(|sign| "*/".contains(sign))) {
        return Err(Error::invalid(
            "`claims` asks for nothing: name what only your own programs' tokens say, such as `sub` or `repository`",
        ));
    }
    Ok(())
}

/// Ends all keys of an account; says how many.
async fn account_keys_end(tx: &Tx, id: ServiceAccountId, now: Time) -> Result<usize> {
    let kept = tx.account_keys_kept(id).await?;
    let count = kept.iter().filter(|key| key.works_at(now)).count();
    for key in kept {
        tx.key_update(&Key { revoked_at: Some(now), version: key.version + 1, ..key }).await?;
    }
    Ok(count)
}

/// Refuses whoever ends before what he gives: an account, and what stands for it, has no end.
fn may_outlast(cx: &Cx) -> Result<()> {
    let asks = cx.key()?;
    let why = if asks.account.is_some() {
        "a service account makes and opens no other: that would not end with it"
    } else if asks.expires_at.is_some() && asks.kind != KeyKind::Session {
        "a service account would outlive the key that asks"
    } else {
        return Ok(());
    };
    let mut problem = Problem::new(Code::Forbidden, why);
    problem.rule = Some("key.no_longer_than_held".into());
    Err(problem.hint("sign in to do it, or ask with a key of no service account and without an end").into())
}

/// Refuses a key that is narrower than the account.
fn within_asker(cx: &Cx, account: &ServiceAccount) -> Result<()> {
    match account.scope.wider_than(&cx.key()?.scope) {
        Some(part) => Err(out_of_scope(part, "the service account is wider than the key that asks")),
        None => Ok(()),
    }
}

/// One noun for what is not there and for what is not the asker's, so that nobody learns which.
fn one_noun<T>(answer: Result<T>, missing: impl FnOnce() -> Error) -> Result<T> {
    answer.map_err(|error| if error.problem().code == Code::NotFound { missing() } else { error })
}

fn said(scope: &Scope) -> serde_json::Value {
    serde_json::to_value(scope).unwrap_or_default()
}
