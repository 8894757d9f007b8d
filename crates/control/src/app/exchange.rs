//! Another system's token for a short key of a service account (RFC 8693), so that a CI keeps no secret of ours. Whatever a
//! token lacks, whoever sent it is told the same; why stands in the organisation's log.

use gregal_core::{
    access::Action,
    id::{KeyId, OrganisationId, ServiceAccountId},
    key::KeyKind,
    scope::Scope,
    service_account::{ServiceAccount, Trust, WORKLOAD_KEY_S},
    time::Time,
};
use gregal_store::{Page, Tx};
use sha2::{Digest as _, Sha256};

use crate::{
    Control, Cx, Result,
    app::sign_in::is_still_told,
    context::Facts as _,
    identity::{Refusal, Sent},
    wakes::Wake,
};

/// What the log calls an exchange.
const ACTION: &str = "workload:exchange";

/// What was asked for.
pub(crate) struct Exchange<'a> {
    pub(crate) account: &'a str,
    pub(crate) token: &'a str,
    /// The only actions, with blanks between; empty: all that the account may.
    pub(crate) scope: &'a str,
}

/// What becomes of it.
pub(crate) enum Exchanged {
    /// A key's secret, and the seconds it works.
    Given(String, u32),
    /// Worth nothing; why is for the log.
    Worthless,
    /// The wish for a scope names what is no action, or more than the account may.
    Scope,
    /// The account has as many keys as may work.
    TooMany,
}

impl Control {
    /// Gives a key of a service account for another system's token.
    pub(crate) async fn workload_exchange(&self, asked: &Exchange<'_>) -> Result<Exchanged> {
        let cx = self.system("workload");
        let Ok(id) = asked.account.parse::<ServiceAccountId>() else { return Ok(Exchanged::Worthless) };
        let Some(account) = self.store().service_account_get(id).await? else {
            self.refusal_told(&cx, None, ACTION, &id.to_string(), "there is no such service account").await?;
            return Ok(Exchanged::Worthless);
        };
        match self.workload_vouched(&account, asked.token, cx.now).await? {
            Ok(token) => self.workload_key(&cx, &account, &token, asked.scope).await,
            Err(why) => self.worthless(&cx, &account, why).await,
        }
    }

    async fn worthless(&self, cx: &Cx, account: &ServiceAccount, why: Refusal) -> Result<Exchanged> {
        tracing::info!(service_account = %account.id, "a token was not exchanged: {why}");
        self.refusal_told(cx, Some(account.organisation), ACTION, &account.id.to_string(), why).await?;
        Ok(Exchanged::Worthless)
    }

    /// The token, if an issuer that the account trusts says by it what it must.
    async fn workload_vouched(
        &self,
        account: &ServiceAccount,
        token: &str,
        now: Time,
    ) -> Result<std::result::Result<Sent, Refusal>> {
        if account.disabled_at.is_some() {
            return Ok(Err("the service account is disabled"));
        }
        let token = match Sent::read(token) {
            Ok(token) => token,
            Err(why) => return Ok(Err(why)),
        };
        let issuer = token.issuer().unwrap_or_default();
        let trusts: Vec<&Trust> = account.trusts.iter().filter(|trust| trust.issuer == issuer).collect();
        // Nobody is asked whom the account does not name.
        if trusts.is_empty() {
            return Ok(Err("its issuer is not trusted"));
        }
        let keys = match self.issuer_keys(issuer, &token).await {
            Ok(keys) => keys,
            Err(why) => return Ok(Err(why)),
        };
        if let Err(why) = token.signed_by(&keys).and_then(|()| token.holds_at(now)) {
            return Ok(Err(why));
        }
        let Some(audience) = token.audience() else { return Ok(Err("it is not for one alone")) };
        if !trusts.iter().any(|trust| trust.audience == audience) {
            return Ok(Err("it is for somebody else"));
        }
        if self.is_for_people(account.organisation, issuer, audience).await? {
            return Ok(Err("it vouches for a person"));
        }
        let met = trusts.iter().any(|trust| trust.audience == audience && trust.unmet(&token.claims).is_none());
        Ok(if met { Ok(token) } else { Err("a claim is not what it must be") })
    }

    async fn workload_key(&self, cx: &Cx, account: &ServiceAccount, token: &Sent, wished: &str) -> Result<Exchanged> {
        let Some(scope) = narrowed(&account.scope, wished) else { return Ok(Exchanged::Scope) };
        let tx = self.store().begin().await?;
        // What it was looked at as is what it must still be.
        let Some(account) = tx.service_account_get(account.id).await?.filter(|now| now == account) else {
            drop(tx);
            return self.worthless(cx, account, "the service account changed meanwhile").await;
        };
        let (claims, until) = token.claims_of_use();
        for claim in claims {
            let digest = hex::encode(Sha256::digest(format!("{}\n{claim}", account.id)));
            if !tx.exchange_claim(&digest, until, cx.now).await? {
                drop(tx);
                return self.worthless(cx, &account, "it was used before").await;
            }
        }
        self.workload_keys_forget(&tx, &account, cx.now).await?;
        match self.account_keys_not_too_many(&tx, &account, cx.now).await {
            Ok(()) => {}
            Err(error) if error.problem().code == gregal_api::problem::Code::Conflict => return Ok(Exchanged::TooMany),
            Err(error) => return Err(error),
        }
        let end = cx.now.plus_seconds(i64::from(WORKLOAD_KEY_S));
        let name = "exchanged".to_owned();
        let id = KeyId::new(self.world());
        let (key, secret) = self.account_key(&account, id, name, KeyKind::Workload, scope, cx.now, Some(end));
        tx.key_insert(&key).await?;
        let mut entry = cx
            .done(Some(account.organisation), ACTION, id)
            .fact("issuer", token.issuer().unwrap_or_default())
            .fact("role", key.role.as_str());
        entry.actor = account.id.to_string();
        self.finish(cx, tx, &[entry], Wake::Sites).await?;
        Ok(Exchanged::Given(secret, WORKLOAD_KEY_S))
    }

    /// Forgets the account's exchanged keys that are over: the log keeps what they did.
    async fn workload_keys_forget(&self, tx: &Tx, account: &ServiceAccount, now: Time) -> Result<()> {
        let mut page = Page::first(gregal_store::PAGE_MAX);
        loop {
            let listed = tx.account_keys_list(account.id, &page).await?;
            for key in listed.items {
                if key.kind == KeyKind::Workload && !key.works_at(now) && !is_still_told(&key, now) {
                    tx.workload_key_forget(&key).await?;
                }
            }
            let Some(next) = listed.next else { return Ok(()) };
            page = Page { after: Some(next), ..page };
        }
    }

    /// Whether an issuer's tokens for this audience are those by which people sign in here.
    pub(crate) async fn is_for_people(
        &self,
        organisation: OrganisationId,
        issuer: &str,
        audience: &str,
    ) -> Result<bool> {
        let same = |one: &str| one.trim_end_matches('/') == issuer.trim_end_matches('/');
        if self.identity().has_client(&same, audience) {
            return Ok(true);
        }
        let domains = self.store().domains_of(organisation).await?;
        Ok(domains.iter().any(|domain| same(&domain.issuer) && domain.client_id == audience))
    }
}

/// The account's scope, narrowed to the actions wished for; none if a wish is no action, or beyond the account's scope.
fn narrowed(scope: &Scope, wished: &str) -> Option<Scope> {
    if wished.trim().is_empty() {
        return Some(scope.clone());
    }
    let of = |text: &str| Action::ALL.iter().copied().find(|action| action.as_str() == text);
    let actions = wished.split_whitespace().map(of).collect::<Option<_>>()?;
    let narrow = Scope { actions: Some(actions), ..scope.clone() };
    (narrow.senseless().is_none() && narrow.wider_than(scope).is_none()).then_some(narrow)
}
