//! When keys were used last. An observation beside the keys: it makes no audit entry and changes no version.

use std::collections::BTreeMap;

use gregal_core::{id::KeyId, time::Time};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};

use crate::{Result, Tx, View};

/// Rows a statement writes at most.
const CHUNK: usize = 200;

mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "key_uses")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl View {
    /// When each of these keys was used last, for those that ever were.
    pub async fn key_uses(&self, keys: &[KeyId]) -> Result<BTreeMap<KeyId, Time>> {
        let mut used = BTreeMap::new();
        for chunk in keys.chunks(CHUNK) {
            let theirs = row::Column::Id.is_in(chunk.iter().map(ToString::to_string));
            let found = row::Entity::find().filter(theirs).all(&self.db()).await?;
            used.extend(found.into_iter().filter_map(|row| Some((row.id.parse().ok()?, Time::from_millis(row.at)))));
        }
        Ok(used)
    }
}

impl Tx {
    /// Writes when keys were used. What is known to be later stays.
    pub async fn key_uses_put(&self, uses: &BTreeMap<KeyId, Time>) -> Result<()> {
        let all: Vec<(&KeyId, &Time)> = uses.iter().collect();
        for chunk in all.chunks(CHUNK) {
            let rows = chunk.iter().map(|(id, at)| row::ActiveModel { id: Set(id.to_string()), at: Set(at.as_millis()) });
            let excluded = Expr::col(("excluded", row::Column::At));
            let stored = Expr::col((row::Entity, row::Column::At));
            let latest = Expr::case(excluded.clone().gt(stored.clone()), excluded).finally(stored);
            let later = OnConflict::column(row::Column::Id).value(row::Column::At, latest).to_owned();
            self.guard(async {
                row::Entity::insert_many(rows).on_conflict(later).exec_without_returning(&self.db()).await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}
