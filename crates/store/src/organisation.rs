//! Organisations: who pays.

use gregal_core::{id::OrganisationId, organisation::Organisation};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(Organisation, "organisations", "organisation" [changed] {
    name: String = |it| it.name.clone();
});

impl View {
    /// The organisation with this id.
    pub async fn organisation_get(&self, id: OrganisationId) -> Result<Option<Organisation>> {
        self.noun_get(&id.to_string()).await
    }

    /// The organisation with this name.
    pub async fn organisation_by_name(&self, name: &str) -> Result<Option<Organisation>> {
        self.noun_where(Condition::all().add(row::Column::Name.eq(name))).await
    }

    /// Organisations written at a mark or after it ([`View::mark_read`]); at 0, all of them.
    pub async fn organisations_changed(&self, since: u64) -> Result<Vec<Organisation>> {
        self.nouns_changed(row::Column::Changed, since).await
    }

    /// All organisations, oldest first.
    pub async fn organisations_list(&self, page: &Page) -> Result<Listed<Organisation>> {
        self.nouns_page(Condition::all(), page).await
    }
}

impl Tx {
    /// Adds an organisation. Its name must be free.
    pub async fn organisation_insert(&self, organisation: &Organisation) -> Result<()> {
        self.noun_insert(organisation).await
    }

    /// Writes a changed organisation; the stored one must be one version behind.
    pub async fn organisation_update(&self, organisation: &Organisation) -> Result<()> {
        self.noun_update(organisation).await
    }
}
