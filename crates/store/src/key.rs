//! Keys: credentials, known by their digest alone.

use std::collections::BTreeSet;

use gregal_core::{
    id::{KeyId, OrganisationId, PersonId, ProjectId, ServiceAccountId},
    key::{Key, KeyKind},
    time::Time,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::{Listed, PAGE_MAX, Page, Result, Tx, View, noun};

noun::row!(Key, "keys", "key" {
    organisation: Option<String> = |it| it.organisation.map(|id| id.to_string());
    project: Option<String> = |it| it.project.map(|id| id.to_string());
    digest: String = |it| it.digest.clone();
    person: Option<String> = |it| it.person.map(|id| id.to_string());
    account: Option<String> = |it| it.account.map(|id| id.to_string());
    revoked_at: Option<i64> = |it| crate::noun::millis(it.revoked_at);
});

fn not_revoked(organisation: OrganisationId, project: Option<ProjectId>) -> Condition {
    Condition::all()
        .add(row::Column::Organisation.eq(organisation.to_string()))
        .add_option(project.map(|project| row::Column::Project.eq(project.to_string())))
        .add(row::Column::RevokedAt.is_null())
}

impl View {
    /// The key with this id.
    pub async fn key_get(&self, id: KeyId) -> Result<Option<Key>> {
        self.noun_get(&id.to_string()).await
    }

    /// The key whose secret has this SHA-256, hex. Whether it still works is for the caller to see.
    pub async fn key_by_digest(&self, digest: &str) -> Result<Option<Key>> {
        self.noun_where(Condition::all().add(row::Column::Digest.eq(digest))).await
    }

    /// An organisation's keys, oldest first; with a project, only those bound to it.
    pub async fn keys_list(
        &self,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        page: &Page,
    ) -> Result<Listed<Key>> {
        let of = row::Column::Organisation.eq(organisation.to_string());
        let within = project.map(|project| row::Column::Project.eq(project.to_string()));
        self.nouns_page(Condition::all().add(of).add_option(within), page).await
    }

    /// The keys that a person's sign-ins made, ended ones among them.
    pub async fn keys_of_person(&self, person: PersonId) -> Result<Vec<Key>> {
        self.nouns_all(Condition::all().add(row::Column::Person.eq(person.to_string()))).await
    }

    /// A service account's keys, ended ones among them, oldest first.
    pub async fn account_keys_list(&self, account: ServiceAccountId, page: &Page) -> Result<Listed<Key>> {
        self.nouns_page(Condition::all().add(row::Column::Account.eq(account.to_string())), page).await
    }

    /// Every key of a service account that was not revoked, expired ones among them.
    pub async fn account_keys_kept(&self, account: ServiceAccountId) -> Result<Vec<Key>> {
        let of = row::Column::Account.eq(account.to_string());
        self.nouns_all(Condition::all().add(of).add(row::Column::RevokedAt.is_null())).await
    }

    /// Operators' keys, which belong to no organisation, oldest first.
    pub async fn operator_keys_list(&self, page: &Page) -> Result<Listed<Key>> {
        self.nouns_page(Condition::all().add(row::Column::Organisation.is_null()), page).await
    }

    /// An organisation's keys that work at `now`, oldest first; with a project, only those bound to it. Read page by
    /// page, so that any number of expired ones costs time and not the answer.
    pub async fn keys_working(
        &self,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        now: Time,
    ) -> Result<Vec<Key>> {
        let (mut working, mut page) = (Vec::new(), Page::first(PAGE_MAX));
        loop {
            let listed = self.nouns_page::<Key>(not_revoked(organisation, project), &page).await?;
            working.extend(listed.items.into_iter().filter(|key| key.works_at(now)));
            match listed.next {
                Some(next) => page = Page::after(next, PAGE_MAX),
                None => return Ok(working),
            }
        }
    }

    /// The keys of these organisations that were revoked at a time or after it, in the order of their ids.
    pub async fn keys_revoked_since(&self, of: &BTreeSet<OrganisationId>, since: Time) -> Result<Vec<KeyId>> {
        let theirs = row::Column::Organisation.is_in(of.iter().map(ToString::to_string));
        let late = row::Column::RevokedAt.gte(since.as_millis());
        let (mut revoked, mut page) = (Vec::new(), Page::first(PAGE_MAX));
        loop {
            let condition = Condition::all().add(theirs.clone()).add(late.clone());
            let listed = self.nouns_page::<Key>(condition, &page).await?;
            revoked.extend(listed.items.iter().map(|key| key.id));
            match listed.next {
                Some(next) => page = Page::after(next, PAGE_MAX),
                None => return Ok(revoked),
            }
        }
    }

    /// How many keys of a project were not revoked, expired ones among them: at least as many as work.
    pub async fn keys_kept_count(&self, organisation: OrganisationId, project: ProjectId) -> Result<u64> {
        self.nouns_count::<Key>(not_revoked(organisation, Some(project))).await
    }
}

impl Tx {
    /// Adds a key. Its digest must be new.
    pub async fn key_insert(&self, key: &Key) -> Result<()> {
        self.noun_insert(key).await
    }

    /// Forgets a key that a sign-in made and that works no more: the log keeps what it did under its person's name there.
    pub async fn key_forget(&self, key: &Key) -> Result<()> {
        self.guard(async {
            let mine = row::Column::Id.eq(key.id.to_string());
            row::Entity::delete_many().filter(mine).filter(row::Column::Person.is_not_null()).exec(&self.db()).await?;
            Ok(())
        })
        .await
    }

    /// Forgets a key that was got for another system's token, and that works no more.
    pub async fn workload_key_forget(&self, key: &Key) -> Result<()> {
        if key.kind != KeyKind::Workload {
            return Ok(());
        }
        self.guard(async {
            row::Entity::delete_many().filter(row::Column::Id.eq(key.id.to_string())).exec(&self.db()).await?;
            Ok(())
        })
        .await
    }

    /// Writes a changed key; the stored one must be one version behind.
    pub async fn key_update(&self, key: &Key) -> Result<()> {
        self.noun_update(key).await
    }
}
