//! Keys: made once, shown once, rotated, revoked everywhere.

mod rotate;

use gregal_api::{
    key::{KeyCreate, KeyCreated, WhoAmI},
    problem::{Code, Problem},
    scope::ScopeView,
};
use gregal_core::{
    access::{Action, Role},
    id::{DatasetId, EndpointId, JobId, KeyId, ModelId, OrganisationId, ProjectId, ReservationId},
    key::{self, Key},
    scope::{Part, Scope},
    time::Time,
};
use gregal_policy::{Principal, Resource, ResourceKind};
use gregal_store::{Listed, Page, Tx};

use crate::{
    Control, Cx, Error, Result,
    app::{limit, site::site_found},
    context::Facts as _,
    names,
    wakes::Wake,
};

impl Control {
    /// Makes a key of a project. Nobody grants more than he holds.
    pub(crate) async fn key_create(&self, cx: &Cx, project: ProjectId, wanted: KeyCreate) -> Result<KeyCreated> {
        let found = self.store().project_get(project).await?;
        let organisation = found.ok_or_else(|| Error::missing("project", project))?.organisation;
        // Whoever may not see the project must not learn of it by a wish for a role either.
        if self.verdict(cx, Action::ProjectRead, &Resource::project(organisation, project)).hides() {
            return Err(Error::missing("project", project));
        }
        let id = KeyId::new(self.world());
        let resource = Resource::key(organisation, Some(project), id, wanted.role);
        let policies = self.authorize(cx, Action::KeyCreate, &resource).await?;
        if !cx.key()?.role.may_grant(wanted.role) {
            return Err(Error::Broken(format!(
                "the policies let a {} grant {}",
                cx.key()?.role.as_str(),
                wanted.role.as_str()
            )));
        }
        names::title("name", &wanted.name)?;
        let expires_at = ends_with_maker(cx, wanted.expires_in_s)?;
        let scope = self.scope_wanted(cx, wanted.scope).await?;
        let secret = self.secret();
        let key = Key {
            id,
            organisation: Some(organisation),
            project: Some(project),
            name: wanted.name,
            role: wanted.role,
            digest: key::digest_of(&secret),
            kind: key::KeyKind::Made,
            person: None,
            // What an account's key makes is the account's, and ends with it.
            account: cx.key()?.account,
            scope,
            created_at: cx.now,
            expires_at,
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        let tx = self.begin(cx).await?;
        self.one_more_key(&tx, organisation, &key, cx.now).await?;
        tx.key_insert(&key).await?;
        let answer = |secret: Option<String>| KeyCreated { key: (&key).into(), secret };
        let entry = cx
            .done(Some(organisation), Action::KeyCreate.as_str(), id)
            .by(&policies)
            .fact("role", key.role.as_str())
            .fact("project", project.to_string());
        let entry = if key.scope.is_open() { entry } else { entry.fact("scope", said(&key.scope)) };
        self.finish_created(cx, tx, &[entry], Wake::Sites, &answer(None)).await?;
        Ok(answer(Some(secret)))
    }

    /// A project's keys.
    pub(crate) async fn keys_list(&self, cx: &Cx, project: ProjectId, page: &Page) -> Result<Listed<Key>> {
        let (project, _) = self.project_seen(cx, project, Action::KeyRead).await?;
        Ok(self.store().keys_list(project.organisation, Some(project.id), page).await?)
    }

    /// Revokes a key everywhere; revoking it again changes nothing.
    pub(crate) async fn key_revoke(&self, cx: &Cx, id: KeyId) -> Result<Key> {
        let missing = || Error::missing("key", id);
        let key = self.store().key_get(id).await?.ok_or_else(missing)?;
        // An operator's key belongs to no organisation, and no role reaches it.
        let organisation = key.organisation.ok_or_else(missing)?;
        let resource = Resource::key(organisation, key.project, id, key.role);
        let policies = self.authorize(cx, Action::KeyRevoke, &resource).await?;
        if let Some(part) = key.scope.wider_than(&cx.key()?.scope) {
            return Err(out_of_scope(part, "the key to revoke is wider than the key that asks"));
        }
        let tx = self.begin(cx).await?;
        let before = tx.key_get(id).await?.ok_or_else(missing)?;
        if before.revoked_at.is_some() {
            return Ok(before);
        }
        let after = Key { revoked_at: Some(cx.now), version: before.version + 1, ..before };
        tx.key_update(&after).await?;
        // A sign-in at a prompt would only get another.
        self.families_end(&tx, &after, cx.now).await?;
        let mut entries = vec![cx.done(Some(organisation), Action::KeyRevoke.as_str(), id).by(&policies)];
        entries.extend(self.invitations_end(cx, &tx, organisation, |kept| kept.by_key == Some(id)).await?);
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok(after)
    }

    /// Refuses one more key like this one where its service account, or its project, has as many as may work.
    async fn one_more_key(&self, tx: &Tx, organisation: OrganisationId, like: &Key, now: Time) -> Result<()> {
        if let Some(account) = like.account {
            let account = tx.service_account_get(account).await?;
            let account = account.ok_or_else(|| Error::Broken("a key of no service account asks".into()))?;
            return self.account_keys_not_too_many(tx, &account, now).await;
        }
        match like.project {
            Some(project) => self.keys_not_too_many(tx, organisation, project, now).await,
            None => Ok(()),
        }
    }

    /// Refuses one more key where a project has as many as may work.
    pub(crate) async fn keys_not_too_many(
        &self,
        tx: &Tx,
        organisation: OrganisationId,
        project: ProjectId,
        now: Time,
    ) -> Result<()> {
        // Counting is quick; only who comes near the limit waits for a look at which of them still work.
        if tx.keys_kept_count(organisation, project).await? >= limit::KEYS_WORKING_MAX {
            let there = tx.keys_working(organisation, Some(project), now).await?.len() as u64;
            let working = (Code::Conflict, "keys that work");
            limit::one_more(there, limit::KEYS_WORKING_MAX, working, "revoke one that is not needed")?;
        }
        Ok(())
    }

    /// The scope a key shall have: as wished, and narrowed as its maker where nothing was wished. Never wider than that.
    pub(crate) async fn scope_wanted(&self, cx: &Cx, mut wished: ScopeView) -> Result<Scope> {
        for site in wished.sites.iter_mut().flatten() {
            *site = site_found(self.store(), site).await?.id.to_string();
        }
        let scope = wished.into_scope().map_err(Error::invalid)?;
        if let Some(part) = scope.senseless() {
            let part = part.rule().trim_start_matches("key.");
            return Err(Error::invalid(format!("`{part}` names nothing, or more than 32 things")));
        }
        let maker = &cx.key()?.scope;
        let scope = scope.filled_from(maker);
        match scope.wider_than(maker) {
            Some(part) => Err(out_of_scope(part, "the key to make would be wider than the key that asks")),
            None => Ok(scope),
        }
    }

    /// Whom the key acts for, and what it may do somewhere within its reach.
    pub(crate) fn whoami(&self, cx: &Cx) -> Result<WhoAmI> {
        let key = cx.key()?;
        let places = within_reach(key);
        // What single objects a scope leaves out is in the scope itself, beside this.
        let whole = Principal::from(key);
        let carried = |action| {
            places.iter().any(|place| self.policies().authorize_within(&whole, action, place, cx.own()).is_allowed())
        };
        let left_in = |action: &Action| key.scope.actions.as_ref().is_none_or(|actions| actions.contains(action));
        let may = |action: &&Action| left_in(action) && carried(**action);
        let actions = Action::ALL.iter().filter(may).map(|action| action.as_str().to_owned()).collect();
        Ok(WhoAmI { key: key.into(), actions })
    }
}

/// Refuses a narrowed key, or one with an end, to give a membership: who joins by it holds the role whole, and for good. Narrowed to
/// projects, a key may give a membership of one of these.
pub(crate) fn gives_whole(cx: &Cx, project: Option<ProjectId>) -> Result<()> {
    const WHY: &str = "a membership is wider than the key that would give it";
    let maker = cx.key()?;
    let parts = [
        (Part::Actions, maker.scope.actions.is_some()),
        (Part::Models, maker.scope.models.is_some()),
        (Part::Sites, maker.scope.sites.is_some()),
        (Part::Networks, maker.scope.networks.is_some()),
    ];
    if let Some((part, _)) = parts.into_iter().find(|(_, is_narrowed)| *is_narrowed) {
        return Err(out_of_scope(part, WHY));
    }
    if let Some(projects) = &maker.scope.projects
        && !project.is_some_and(|project| projects.contains(&project))
    {
        return Err(out_of_scope(Part::Projects, WHY));
    }
    if maker.expires_at.is_some() && maker.kind != key::KeyKind::Session {
        let mut problem = Problem::new(Code::Forbidden, "a membership would outlive the key that gives it");
        problem.rule = Some("key.no_longer_than_held".into());
        return Err(problem.hint("sign in to give it, or ask with a key without an end").into());
    }
    Ok(())
}

/// When a key ends that somebody makes now: as wished, and not after the key that makes it.
pub(crate) fn ends_with_maker(cx: &Cx, wished_s: Option<u32>) -> Result<Option<Time>> {
    let maker = cx.key()?;
    // Who is signed in holds what he holds by his membership, not for as long as this sign-in lasts.
    let maker = if maker.kind == key::KeyKind::Session { None } else { maker.expires_at };
    let Some(seconds) = wished_s else { return Ok(maker) };
    if seconds == 0 {
        return Err(Error::invalid("`expires_in_s` is 0: expected at least 1, or none for a key without an end"));
    }
    let end = cx.now.plus_seconds(i64::from(seconds));
    match maker.filter(|maker| *maker < end) {
        Some(maker) => {
            let mut problem = Problem::new(
                Code::Forbidden,
                format!("the key would outlive the key that makes it, which ends {maker}"),
            );
            problem.rule = Some("key.no_longer_than_held".into());
            Err(problem.hint("ask for less, or make it with a key that lives longer").into())
        }
        None => Ok(Some(end)),
    }
}

pub(crate) fn out_of_scope(part: Part, detail: &str) -> Error {
    let mut problem = Problem::new(Code::Forbidden, format!("{detail}: `{}`", part.rule()));
    problem.rule = Some(part.rule().into());
    problem.hint("nobody hands out or takes away more than he holds; `whoami` shows a key's scope").into()
}

/// A scope as audit entries tell it.
fn said(scope: &Scope) -> serde_json::Value {
    serde_json::to_value(scope).unwrap_or_default()
}

/// One resource of each kind that the key could reach: policies speak of kinds and owners, never of single objects.
fn within_reach(key: &Key) -> Vec<Resource> {
    let mut places = vec![Resource::cloud()];
    let Some(organisation) = key.organisation else {
        places.push(Resource::organisation(OrganisationId::from_u128(0)));
        return places;
    };
    let project = key.project.unwrap_or(ProjectId::from_u128(0));
    places.push(Resource::organisation(organisation));
    places.push(Resource::project(organisation, project));
    for role in [Role::Inference, Role::Developer, Role::Owner] {
        places.push(Resource::key(organisation, Some(project), KeyId::from_u128(0), role));
        places.push(Resource::member(organisation, key.project, "nobody", role));
    }
    let within = |kind, id: String| Resource::within(kind, organisation, project, id);
    places.push(within(ResourceKind::Dataset, DatasetId::from_u128(0).to_string()));
    places.push(within(ResourceKind::Job, JobId::from_u128(0).to_string()));
    places.push(within(ResourceKind::Model, ModelId::from_u128(0).to_string()));
    places.push(within(ResourceKind::Endpoint, EndpointId::from_u128(0).to_string()));
    places.push(within(ResourceKind::Reservation, ReservationId::from_u128(0).to_string()));
    places
}
