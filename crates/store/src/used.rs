//! What organisations used lately, for fair sharing.

use gregal_core::{id::OrganisationId, used::Used};

use crate::{Result, Tx, View, noun};

noun::row!(Used, "used", "use" [changed], |it| Used::id(it.organisation, &it.sku), {
    organisation: String = |it| it.organisation.to_string();
});

impl View {
    /// What an organisation used of a family of SKUs, if it ever did.
    pub async fn used_get(&self, organisation: OrganisationId, sku: &str) -> Result<Option<Used>> {
        self.noun_get(&Used::id(organisation, sku)).await
    }

    /// What was written at a mark or after it ([`View::mark_read`]); 0: all of it.
    pub async fn used_changed(&self, since: u64) -> Result<Vec<Used>> {
        self.nouns_changed(row::Column::Changed, since).await
    }
}

impl Tx {
    /// Writes it: adds the first version, and of a later one the stored one must be one version behind.
    pub async fn used_put(&self, used: &Used) -> Result<()> {
        if used.version == 1 { self.noun_insert(used).await } else { self.noun_update(used).await }
    }
}
