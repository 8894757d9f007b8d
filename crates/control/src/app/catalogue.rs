//! What the cloud's prices are, and whether it is there.

use gregal_api::problem::Code;
use gregal_core::{
    access::Action,
    price::{self, PriceBook},
};
use gregal_policy::Resource;

use crate::{Control, Cx, Error, Result};

impl Control {
    /// The prices that hold now.
    pub(crate) async fn prices_list(&self, cx: &Cx) -> Result<PriceBook> {
        self.authorize(cx, Action::CatalogueRead, &Resource::cloud()).await?;
        let books = self.store().price_books_all().await?;
        price::at(&books, cx.now).cloned().ok_or_else(|| Error::Broken("no price book holds now".into()))
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
