//! Price books: added and never edited, because what was used before stays rated by them.

use gregal_core::price::PriceBook;
use sea_orm::{EntityTrait, QueryOrder, Set};

use crate::{
    Result, Tx, View,
    noun::{decode, encode},
};

use row::{ActiveModel, Column, Entity};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "price_books")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: i64,
        pub valid_from: i64,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl View {
    /// Every price book, oldest version first.
    pub async fn price_books_all(&self) -> Result<Vec<PriceBook>> {
        let found = Entity::find().order_by_asc(Column::Version).all(&self.db()).await?;
        found.iter().map(|row| decode(&row.document, "price book")).collect()
    }
}

impl Tx {
    /// Adds a price book. Its version must be new.
    pub async fn price_book_insert(&self, book: &PriceBook) -> Result<()> {
        self.guard(async {
            let row = ActiveModel {
                version: Set(i64::from(book.version)),
                valid_from: Set(book.from.as_millis()),
                document: Set(encode(book, "price book", &book.version.to_string())?),
            };
            Entity::insert(row).exec_without_returning(&self.db()).await?;
            Ok(())
        })
        .await
    }
}
