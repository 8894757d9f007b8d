//! SKUs: what can be rented, retired ones included. A row is never removed: what was billed goes on naming it.

use gregal_core::sku::{Catalogue, Offer};
use sea_orm::Condition;

use crate::{Result, Tx, View, noun};

noun::row!(Offer, "skus", "sku", |it| it.sku.name.clone(), {});

impl View {
    /// The SKU of this name, retired or not.
    pub async fn sku_get(&self, name: &str) -> Result<Option<Offer>> {
        self.noun_get(name).await
    }

    /// Every SKU there is or was.
    pub async fn skus_all(&self) -> Result<Catalogue> {
        Ok(Catalogue::new(self.nouns_all(Condition::all()).await?))
    }
}

impl Tx {
    /// Adds a SKU. Its name must be new.
    pub async fn sku_insert(&self, offer: &Offer) -> Result<()> {
        self.noun_insert(offer).await
    }

    /// Writes a SKU that was retired; the stored one must be one version behind, and of the same shape.
    pub async fn sku_update(&self, offer: &Offer) -> Result<()> {
        self.noun_update(offer).await
    }
}
