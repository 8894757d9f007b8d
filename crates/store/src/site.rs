//! Sites: machines in one place under one law.

use gregal_core::{id::SiteId, site::Site};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(Site, "sites", "site" [changed] {
    name: String = |it| it.name.clone();
    secret_digest: String = |it| it.secret_digest.clone();
});

impl View {
    /// The site with this id.
    pub async fn site_get(&self, id: SiteId) -> Result<Option<Site>> {
        self.noun_get(&id.to_string()).await
    }

    /// The site with this name.
    pub async fn site_by_name(&self, name: &str) -> Result<Option<Site>> {
        self.noun_where(Condition::all().add(row::Column::Name.eq(name))).await
    }

    /// The site whose secret has this SHA-256, hex.
    pub async fn site_by_secret_digest(&self, digest: &str) -> Result<Option<Site>> {
        self.noun_where(Condition::all().add(row::Column::SecretDigest.eq(digest))).await
    }

    /// Sites, oldest first.
    pub async fn sites_list(&self, page: &Page) -> Result<Listed<Site>> {
        self.nouns_page(Condition::all(), page).await
    }

    /// Sites written at a mark or after it ([`View::mark_read`]).
    pub async fn sites_changed(&self, since: u64) -> Result<Vec<Site>> {
        self.nouns_changed(row::Column::Changed, since).await
    }

    /// Every site.
    pub async fn sites_all(&self) -> Result<Vec<Site>> {
        self.nouns_all(Condition::all()).await
    }
}

impl Tx {
    /// Adds a site. Its name and its secret must be new.
    pub async fn site_insert(&self, site: &Site) -> Result<()> {
        self.noun_insert(site).await
    }

    /// Writes a changed site; the stored one must be one version behind.
    pub async fn site_update(&self, site: &Site) -> Result<()> {
        self.noun_update(site).await
    }
}
