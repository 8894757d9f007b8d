//! Support accesses: looks that operators asked for into what a tenant owns.

use gregal_core::{
    id::{AccessId, KeyId, OrganisationId},
    support::SupportAccess,
};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(SupportAccess, "accesses", "access" {
    organisation: String = |it| it.organisation.to_string();
    requested: String = |it| it.requested.key.to_string();
    closed: i64 = |it| i64::from(it.is_closed);
});

fn open() -> Condition {
    Condition::all().add(row::Column::Closed.eq(0))
}

impl View {
    /// The access with this id.
    pub async fn access_get(&self, id: AccessId) -> Result<Option<SupportAccess>> {
        self.noun_get(&id.to_string()).await
    }

    /// An organisation's accesses, oldest first; without one, those of all.
    pub async fn accesses_list(
        &self,
        organisation: Option<OrganisationId>,
        page: &Page,
    ) -> Result<Listed<SupportAccess>> {
        let of = organisation.map(|id| row::Column::Organisation.eq(id.to_string()));
        self.nouns_page(Condition::all().add_option(of), page).await
    }

    /// What a key asked for and is not closed. Whether it is active is for the caller to see.
    pub async fn accesses_open_of(&self, key: KeyId) -> Result<Vec<SupportAccess>> {
        self.nouns_all(open().add(row::Column::Requested.eq(key.to_string()))).await
    }

    /// Every access that is not closed.
    pub async fn accesses_open(&self) -> Result<Vec<SupportAccess>> {
        self.nouns_all(open()).await
    }
}

impl Tx {
    /// Adds an access.
    pub async fn access_insert(&self, access: &SupportAccess) -> Result<()> {
        self.noun_insert(access).await
    }

    /// Writes a changed access; the stored one must be one version behind.
    pub async fn access_update(&self, access: &SupportAccess) -> Result<()> {
        self.noun_update(access).await
    }
}
