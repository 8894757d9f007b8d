//! Roots of the log's full tiles, written when an entry completes them and never changed.

use std::ops::Range;

use gregal_core::merkle::{Hash, TILE_WIDTH, root};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Set};

use super::{AUDIT_LEAVES_MAX, WRITE_MAX, hash_of};
use crate::{Error, Result, Store, View, noun::int};

/// The highest level: 2^56 entries in one hash.
const LEVEL_MAX: u8 = 7;

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_nodes")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub level: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub place: i64,
        pub hash: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Writes roots of full tiles: level, place in the level, hash.
pub(super) async fn insert(view: &View, nodes: &[(u8, u64, Hash)]) -> Result<()> {
    let mut rows = Vec::with_capacity(nodes.len());
    for (level, place, hash) in nodes {
        rows.push(row::ActiveModel {
            level: Set(i64::from(*level)),
            place: Set(int(*place, "the audit log")?),
            hash: Set(hash.to_vec()),
        });
    }
    for chunk in rows.chunks(WRITE_MAX) {
        row::Entity::insert_many(chunk.to_vec()).exec_without_returning(&view.db()).await?;
    }
    Ok(())
}

impl View {
    /// Hashes of a level of the log's tiles, in order: leaf hashes at level 0, roots of full tiles above. A range beyond the
    /// end is cut short.
    pub async fn audit_hashes(&self, level: u8, range: Range<u64>) -> Result<Vec<Hash>> {
        if level == 0 {
            return self.audit_leaves(range).await;
        }
        if range.end.saturating_sub(range.start) > AUDIT_LEAVES_MAX {
            return Err(Error::TooMany { what: "audit hashes", limit: AUDIT_LEAVES_MAX });
        }
        let rows = row::Entity::find()
            .filter(row::Column::Level.eq(i64::from(level)))
            .filter(row::Column::Place.gte(int(range.start, "an index")?))
            .filter(row::Column::Place.lt(int(range.end, "an index")?))
            .order_by_asc(row::Column::Place)
            .select_only()
            .column(row::Column::Hash)
            .into_tuple::<Vec<u8>>()
            .all(&self.db())
            .await?;
        rows.iter().map(|hash| hash_of(hash)).collect()
    }
}

impl Store {
    /// Writes the roots of full tiles that are not there: a log that an older program wrote has none. Answers with how many
    /// were missing. Done when the store opens, before anybody can
    /// write.
    pub(crate) async fn audit_nodes_fill(&self) -> Result<u64> {
        let mut filled = 0;
        for level in 1..=LEVEL_MAX {
            // One tile's root at a time, each in a short transaction, so that another replica may do the same beside us.
            while let Some(place) = self.node_missing(level).await? {
                let tx = self.begin().await?;
                if tx.nodes_at(level).await? == place {
                    let below = tx.audit_hashes(level - 1, place * TILE_WIDTH..(place + 1) * TILE_WIDTH).await?;
                    if below.len() as u64 != TILE_WIDTH {
                        return Err(Error::Unreadable { noun: "audit log", why: format!("tile {place} has holes") });
                    }
                    insert(&tx, &[(level, place, root(&below))]).await?;
                    tx.commit_observation().await?;
                }
                filled += 1;
            }
        }
        Ok(filled)
    }

    /// The first place of a level that has no hash and should.
    async fn node_missing(&self, level: u8) -> Result<Option<u64>> {
        let due = self.mark_read().await? >> (8 * u32::from(level));
        let there = self.nodes_at(level).await?;
        Ok((there < due).then_some(there))
    }
}

impl View {
    async fn nodes_at(&self, level: u8) -> Result<u64> {
        Ok(row::Entity::find().filter(row::Column::Level.eq(i64::from(level))).count(&self.db()).await?)
    }
}
