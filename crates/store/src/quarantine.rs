//! Quarantine: usage records that cannot be counted, kept whole so that they can be looked at and counted later.

use gregal_core::{id::SiteId, meter::UsageEvent, time::Time};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set, TryInsertResult};
use sha2::{Digest, Sha256};

use crate::{
    Listed, Page, Result, Tx, View,
    noun::{count, decode, encode},
    usage::sequence_of,
};

use row::{ActiveModel, Column, Entity};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "usage_quarantine")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub digest: String,
        pub site: String,
        pub reason: String,
        pub arrived_at: i64,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A usage record in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its place in the order of arrival.
    pub sequence: u64,
    /// The record as the site sent it; nothing in it can be taken for true.
    pub event: UsageEvent,
    /// Why it could not be counted.
    pub reason: String,
    /// When it arrived.
    pub arrived_at: Time,
}

impl View {
    /// What a site sent and nobody could count, in the order of arrival.
    pub async fn usage_quarantine_list(&self, site: SiteId, page: &Page) -> Result<Listed<Quarantined>> {
        let mut wanted = Entity::find().filter(Column::Site.eq(site.to_string()));
        if let Some(after) = page.after.as_deref().map(sequence_of).transpose()? {
            wanted = wanted.filter(Column::Sequence.gt(after));
        }
        let rows = wanted.order_by_asc(Column::Sequence).limit(page.rows()).all(&self.db()).await?;
        let kept = |row: row::Model| {
            Ok(Quarantined {
                sequence: count(row.sequence, "usage record in quarantine")?,
                event: decode(&row.document, "usage record in quarantine")?,
                reason: row.reason,
                arrived_at: Time::from_millis(row.arrived_at),
            })
        };
        let items = rows.into_iter().map(kept).collect::<Result<Vec<_>>>()?;
        Ok(Listed::cut(items, page, |item| item.sequence.to_string()))
    }
}

impl Tx {
    /// Keeps a record that a site sent and that cannot be counted. Answers whether it is new: the same record from the
    /// same site is kept once.
    pub async fn usage_quarantine(
        &self,
        site: SiteId,
        event: &UsageEvent,
        reason: &str,
        arrived_at: Time,
    ) -> Result<bool> {
        self.guard(async {
            let document = encode(event, "usage record in quarantine", &event.id)?;
            let row = ActiveModel {
                sequence: sea_orm::NotSet,
                digest: Set(hex::encode(Sha256::digest(&document))),
                site: Set(site.to_string()),
                reason: Set(reason.to_owned()),
                arrived_at: Set(arrived_at.as_millis()),
                document: Set(document),
            };
            let once = Entity::insert(row).on_conflict_do_nothing_on([Column::Site, Column::Digest]);
            Ok(matches!(once.exec_without_returning(&self.db()).await?, TryInsertResult::Inserted(1)))
        })
        .await
    }
}
