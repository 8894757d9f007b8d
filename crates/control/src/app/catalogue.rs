//! What can be rented, and what it costs.

use gregal_api::problem::Code;
use gregal_core::{
    access::Action,
    price::{self, PriceBook},
    sku::Sku,
};
use gregal_policy::Resource;

use crate::{Control, Cx, Error, Result};

impl Control {
    /// What can be rented.
    pub(crate) async fn skus_list(&self, cx: &Cx) -> Result<&[Sku]> {
        self.authorize(cx, Action::CatalogueRead, &Resource::cloud()).await?;
        Ok(self.skus())
    }

    /// The prices that hold now.
    pub(crate) async fn prices_list(&self, cx: &Cx) -> Result<PriceBook> {
        self.authorize(cx, Action::CatalogueRead, &Resource::cloud()).await?;
        let books = self.store().price_books_all().await?;
        price::at(&books, cx.now).cloned().ok_or_else(|| Error::Broken("no price book holds now".into()))
    }

    /// A SKU by name.
    pub(crate) fn sku(&self, name: &str) -> Option<&Sku> {
        self.skus().iter().find(|sku| sku.name == name)
    }

    /// Whether the store answers.
    pub(crate) async fn health_ready(&self) -> Result<()> {
        let answered = self.store().audit_head().await;
        answered.map(drop).map_err(|error| {
            // Whatever is wrong with it, what others need to know is that it is not now.
            Error::from(error).log(None, "the store was asked whether it answers");
            Error::refused(Code::Unavailable, "the store does not answer")
        })
    }
}
