//! Idempotency: the answer to a request, kept so that its repetition is the same act.

use gregal_core::{id::KeyId, time::Time};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};

use crate::{Error, Result, Tx, View};

use row::{ActiveModel, Column, Entity};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "idempotency")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub key_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub idem_key: String,
        pub request_digest: String,
        pub status: i64,
        #[sea_orm(column_type = "Text")]
        pub body: String,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What was answered to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// Whose request it was; nobody sees another key's answers.
    pub key_id: KeyId,
    /// The idempotency key the client made.
    pub idem_key: String,
    /// A digest of the request: the same key with another request is a mistake of the client.
    pub request_digest: String,
    /// The HTTP status that was answered.
    pub status: u16,
    /// The body that was answered. It is kept as it is: leave secrets out of it.
    pub body: String,
    /// When.
    pub at: Time,
}

impl View {
    /// What was answered to this key's request before, if it was.
    pub async fn idempotency_get(&self, key_id: KeyId, idem_key: &str) -> Result<Option<IdempotencyRecord>> {
        let found = Entity::find_by_id((key_id.to_string(), idem_key.to_owned())).one(&self.db()).await?;
        let unreadable = |why: String| Error::Unreadable { noun: "idempotency record", why };
        found
            .map(|row| {
                Ok(IdempotencyRecord {
                    key_id,
                    idem_key: row.idem_key,
                    request_digest: row.request_digest,
                    status: u16::try_from(row.status).map_err(|_| unreadable(format!("status {}", row.status)))?,
                    body: row.body,
                    at: Time::from_millis(row.at),
                })
            })
            .transpose()
    }
}

impl Tx {
    /// Keeps an answer, in the transaction of what it answers. [`Error::Taken`] when the key was used before.
    pub async fn idempotency_put(&self, record: &IdempotencyRecord) -> Result<()> {
        self.guard(async {
            let row = ActiveModel {
                key_id: Set(record.key_id.to_string()),
                idem_key: Set(record.idem_key.clone()),
                request_digest: Set(record.request_digest.clone()),
                status: Set(i64::from(record.status)),
                body: Set(record.body.clone()),
                at: Set(record.at.as_millis()),
            };
            Entity::insert(row).exec_without_returning(&self.db()).await?;
            Ok(())
        })
        .await
    }

    /// Forgets answers given before a time; answers how many. May be ended with [`Tx::commit_observation`].
    pub async fn idempotency_forget(&self, before: Time) -> Result<u64> {
        self.guard(async {
            let gone = Entity::delete_many().filter(Column::At.lt(before.as_millis())).exec(&self.db()).await?;
            Ok(gone.rows_affected)
        })
        .await
    }
}
