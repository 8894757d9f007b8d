//! Keys: made once, shown once, revoked everywhere.

use gregal_api::{
    key::{KeyCreate, KeyCreated, WhoAmI},
    problem::Code,
};
use gregal_core::{
    access::{Action, Role},
    id::{DatasetId, EndpointId, JobId, KeyId, ModelId, OrganisationId, ProjectId, ReservationId},
    key::{self, Key},
};
use gregal_policy::{Resource, ResourceKind};
use gregal_store::{Listed, Page};

use crate::{Control, Cx, Error, Result, app::limit, context::Facts as _, names, wakes::Wake};

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
        if wanted.expires_in_s == Some(0) {
            return Err(Error::invalid("`expires_in_s` is 0: expected at least 1, or none for a key without an end"));
        }
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
            scope: key::Scope::default(),
            created_at: cx.now,
            expires_at: wanted.expires_in_s.map(|seconds| cx.now.plus_seconds(i64::from(seconds))),
            revoked_at: None,
            version: 1,
        };
        let tx = self.begin(cx).await?;
        // Counting is quick; only who comes near the limit waits for a look at which of them still work.
        if tx.keys_kept_count(organisation, project).await? >= limit::KEYS_WORKING_MAX {
            let there = tx.keys_working(organisation, Some(project), cx.now).await?.len() as u64;
            let working = (Code::Conflict, "keys that work");
            limit::one_more(there, limit::KEYS_WORKING_MAX, working, "revoke one that is not needed")?;
        }
        tx.key_insert(&key).await?;
        let answer = |secret: Option<String>| KeyCreated { key: (&key).into(), secret };
        let entry = cx
            .done(Some(organisation), Action::KeyCreate.as_str(), id)
            .by(&policies)
            .fact("role", key.role.as_str())
            .fact("project", project.to_string());
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
        let tx = self.begin(cx).await?;
        let before = tx.key_get(id).await?.ok_or_else(missing)?;
        if before.revoked_at.is_some() {
            return Ok(before);
        }
        let after = Key { revoked_at: Some(cx.now), version: before.version + 1, ..before };
        tx.key_update(&after).await?;
        let entry = cx.done(Some(organisation), Action::KeyRevoke.as_str(), id).by(&policies);
        self.finish(cx, tx, &[entry], Wake::Sites).await?;
        Ok(after)
    }

    /// Whom the key acts for, and what it may do somewhere within its reach.
    pub(crate) fn whoami(&self, cx: &Cx) -> Result<WhoAmI> {
        let key = cx.key()?;
        let places = within_reach(key);
        let may = |action: &&Action| places.iter().any(|place| self.verdict(cx, **action, place).is_allowed());
        let actions = Action::ALL.iter().filter(may).map(|action| action.as_str().to_owned()).collect();
        Ok(WhoAmI { key: key.into(), actions })
    }
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
    }
    let within = |kind, id: String| Resource::within(kind, organisation, project, id);
    places.push(within(ResourceKind::Dataset, DatasetId::from_u128(0).to_string()));
    places.push(within(ResourceKind::Job, JobId::from_u128(0).to_string()));
    places.push(within(ResourceKind::Model, ModelId::from_u128(0).to_string()));
    places.push(within(ResourceKind::Endpoint, EndpointId::from_u128(0).to_string()));
    places.push(within(ResourceKind::Reservation, ReservationId::from_u128(0).to_string()));
    places
}
