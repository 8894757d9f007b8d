//! The credentials of an organisation's directory: keys that provision, and do nothing else.

use std::collections::BTreeSet;

use gregal_api::{
    key::KeyCreated,
    problem::{Code, Problem},
    scim::ScimCredentialCreate,
};
use gregal_core::{
    access::{Action, Role},
    id::{KeyId, OrganisationId},
    key::{self, Key, KeyKind},
    scope::Scope,
};
use gregal_store::{Listed, Page};

use crate::{Control, Cx, Error, Result, app::key::gives_whole, context::Facts as _, names, wakes::Wake};

/// The longest a credential works, in seconds: 366 days.
const CREDENTIAL_S_MAX: u32 = 366 * 24 * 3600;
/// How long it works if nothing else is said, in seconds: 180 days.
const CREDENTIAL_S_DEFAULT: u32 = 180 * 24 * 3600;
/// The most credentials of one organisation that work.
const CREDENTIALS_MAX: usize = 100;

impl Control {
    /// Makes a credential for an organisation's directory. It gives memberships, so nobody makes one who could not give them.
    pub(crate) async fn scim_credential_create(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        wanted: ScimCredentialCreate,
    ) -> Result<KeyCreated> {
        let (_, policies) = self.organisation_seen(cx, organisation, Action::ScimConfigure).await?;
        gives_whole(cx, None)?;
        names::title("name", &wanted.name)?;
        let role = wanted.role.unwrap_or(Role::Admin);
        if !matches!(role, Role::Owner | Role::Admin) {
            return Err(Error::invalid("`role` is not `admin` or `owner`: others give no memberships"));
        }
        if !cx.key()?.role.may_grant(role) {
            let problem = Problem::new(Code::Forbidden, "nobody makes a credential that gives more than he holds");
            return Err(problem.rule("key.no_more_than_held").into());
        }
        let seconds = wanted.expires_in_s.unwrap_or(CREDENTIAL_S_DEFAULT);
        if !(1..=CREDENTIAL_S_MAX).contains(&seconds) {
            return Err(Error::invalid(format!("`expires_in_s` is not from 1 to {CREDENTIAL_S_MAX}")));
        }
        let secret = self.secret();
        let key = Key {
            id: KeyId::new(self.world()),
            organisation: Some(organisation),
            project: None,
            name: wanted.name,
            role,
            digest: key::digest_of(&secret),
            kind: KeyKind::Made,
            person: None,
            account: cx.key()?.account,
            scope: Scope { actions: Some(BTreeSet::from([Action::ScimProvision])), ..Scope::default() },
            created_at: cx.now,
            expires_at: Some(cx.now.plus_seconds(i64::from(seconds))),
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        let tx = self.begin(cx).await?;
        let there = tx.keys_working(organisation, None, cx.now).await?;
        if there.iter().filter(|key| key.is_directory()).count() >= CREDENTIALS_MAX {
            let detail = format!("{CREDENTIALS_MAX} credentials of this directory work already: revoke one first");
            return Err(Error::refused(Code::Conflict, detail));
        }
        tx.key_insert(&key).await?;
        let answer = |secret: Option<String>| KeyCreated { key: (&key).into(), secret };
        let entry = cx.done(Some(organisation), Action::ScimConfigure.as_str(), key.id).by(&policies);
        let entry = entry.fact("role", role.as_str());
        self.finish_created(cx, tx, &[entry], Wake::Sites, &answer(None)).await?;
        Ok(answer(Some(secret)))
    }

    /// An organisation's directory's credentials, ended ones among them as long as they are kept.
    pub(crate) async fn scim_credentials(
        &self,
        cx: &Cx,
        organisation: OrganisationId,
        page: &Page,
    ) -> Result<Listed<Key>> {
        self.organisation_seen(cx, organisation, Action::ScimConfigure).await?;
        let mut listed = self.store().keys_list(organisation, None, page).await?;
        listed.items.retain(Key::is_directory);
        Ok(listed)
    }
}
