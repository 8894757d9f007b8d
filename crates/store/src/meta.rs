//! Facts about the cloud itself, by name: its signing key, its name in the audit log, and the like.
//!
//! Values may be secrets. They are read by name only: nothing lists them, and no error or log line carries one.

use sea_orm::{EntityTrait, Set, sea_query::OnConflict};

use crate::{Result, Tx, View};

use row::{ActiveModel, Column, Entity};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "meta")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub value: Vec<u8>,
    }

    impl std::fmt::Debug for Model {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Model").field("name", &self.name).finish_non_exhaustive()
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl View {
    /// The value under a name.
    pub async fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(Entity::find_by_id(name.to_owned()).one(&self.db()).await?.map(|row| row.value))
    }
}

impl Tx {
    /// Puts a value under a name, over what was there.
    pub async fn meta_put(&self, name: &str, value: &[u8]) -> Result<()> {
        self.guard(async {
            let row = ActiveModel { name: Set(name.to_owned()), value: Set(value.to_vec()) };
            let over = OnConflict::column(Column::Name).update_column(Column::Value).to_owned();
            Entity::insert(row).on_conflict(over).exec_without_returning(&self.db()).await?;
            Ok(())
        })
        .await
    }
}
