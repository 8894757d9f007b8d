//! The outbox: what is to be carried out after its transaction, and survives a crash in between.

use sea_orm::{
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set,
    sea_query::{Expr, ExprTrait},
};
use serde_json::Value;

use crate::{
    PAGE_MAX, Result, Tx, View,
    noun::{count, decode, encode, int},
};

use row::{ActiveModel, Column, Entity};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub topic: String,
        #[sea_orm(column_type = "Text")]
        pub payload: String,
        pub attempts: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A message that waits to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Its number, in the order of arrival.
    pub id: u64,
    /// What it is about.
    pub topic: String,
    /// Its facts; never content or a secret.
    pub payload: Value,
    /// How often carrying it out has failed.
    pub attempts: u32,
}

impl View {
    /// Messages that wait, those that failed least first, then the oldest. They stay until [`Tx::outbox_done`], so a
    /// crash in between delivers them again: whoever carries them out must bear that, and hold a lease to be the only one.
    pub async fn outbox_take(&self, limit: u32) -> Result<Vec<OutboxMessage>> {
        let rows = Entity::find()
            .order_by_asc(Column::Attempts)
            .order_by_asc(Column::Sequence)
            .limit(u64::from(limit.clamp(1, PAGE_MAX)))
            .all(&self.db())
            .await?;
        rows.into_iter()
            .map(|row| {
                Ok(OutboxMessage {
                    id: count(row.sequence, "outbox message")?,
                    payload: decode(&row.payload, "outbox message")?,
                    topic: row.topic,
                    attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }
}

impl Tx {
    /// Leaves a message to be carried out once the transaction is committed.
    pub async fn outbox_push(&self, topic: &str, payload: &Value) -> Result<()> {
        self.guard(async {
            let row = ActiveModel {
                sequence: sea_orm::NotSet,
                topic: Set(topic.to_owned()),
                payload: Set(encode(payload, "outbox message", topic)?),
                attempts: Set(0),
            };
            Entity::insert(row).exec_without_returning(&self.db()).await?;
            Ok(())
        })
        .await
    }

    /// Takes a message out: it was carried out. One that is gone already is fine. May be ended with
    /// [`Tx::commit_observation`].
    pub async fn outbox_done(&self, id: u64) -> Result<()> {
        self.guard(async {
            Entity::delete_by_id(int(id, "an outbox message")?).exec(&self.db()).await?;
            Ok(())
        })
        .await
    }

    /// Notes that carrying a message out failed, which puts it behind those that failed less often. May be ended with
    /// [`Tx::commit_observation`].
    pub async fn outbox_failed(&self, id: u64) -> Result<()> {
        self.guard(async {
            Entity::update_many()
                .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
                .filter(Column::Sequence.eq(int(id, "an outbox message")?))
                .exec(&self.db())
                .await?;
            Ok(())
        })
        .await
    }
}
