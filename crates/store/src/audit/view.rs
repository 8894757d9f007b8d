//! Where the views of organisations end, so that each new entry gets its number in its view.

use std::collections::{BTreeMap, BTreeSet};

use gregal_core::{
    audit::{AuditEntry, ViewPlace},
    id::OrganisationId,
    merkle::{self, Hash},
};
use sea_orm::{
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Set, sea_query::OnConflict,
};

use super::{WRITE_MAX, entry, hash_of};
use crate::{
    Result, View,
    noun::{count, int},
};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_views")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organisation: String,
        pub entries: i64,
        pub newest: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The ends of the views that a transaction's entries belong to, read while the head's row is locked.
pub(super) struct Ends(BTreeMap<OrganisationId, (u64, Option<Hash>)>);

impl Ends {
    pub(super) async fn of(view: &View, entries: &[AuditEntry]) -> Result<Self> {
        let concerned: BTreeSet<OrganisationId> = entries.iter().filter_map(|entry| entry.organisation).collect();
        let names: Vec<String> = concerned.iter().map(ToString::to_string).collect();
        let mut ends: BTreeMap<_, _> = concerned.into_iter().map(|organisation| (organisation, (0, None))).collect();
        for chunk in names.chunks(WRITE_MAX) {
            let some = row::Entity::find().filter(row::Column::Organisation.is_in(chunk));
            for found in some.all(&view.db()).await? {
                let end = (count(found.entries, "audit view")?, Some(hash_of(&found.newest)?));
                ends.extend(found.organisation.parse().map(|organisation| (organisation, end)));
            }
        }
        Ok(Self(ends))
    }

    /// Where an entry goes in its view.
    pub(super) fn place(&self, entry: &AuditEntry) -> Option<ViewPlace> {
        let (number, newest) = self.0.get(&entry.organisation?)?;
        Some(ViewPlace { number: *number, before: newest.map(hex::encode) })
    }

    /// Takes in the entry that went there.
    pub(super) fn push(&mut self, entry: &AuditEntry, leaf: Hash) {
        if let Some((entries, newest)) = entry.organisation.and_then(|organisation| self.0.get_mut(&organisation)) {
            *entries += 1;
            *newest = Some(leaf);
        }
    }

    pub(super) async fn write(self, view: &View) -> Result<()> {
        let mut rows = Vec::with_capacity(self.0.len());
        for (organisation, (entries, newest)) in self.0 {
            let Some(newest) = newest else { continue };
            rows.push(row::ActiveModel {
                organisation: Set(organisation.to_string()),
                entries: Set(int(entries, "the audit log")?),
                newest: Set(newest.to_vec()),
            });
        }
        let moved = OnConflict::column(row::Column::Organisation)
            .update_columns([row::Column::Entries, row::Column::Newest])
            .to_owned();
        for chunk in rows.chunks(WRITE_MAX) {
            let written = row::Entity::insert_many(chunk.to_vec()).on_conflict(moved.clone());
            written.exec_without_returning(&view.db()).await?;
        }
        Ok(())
    }
}

impl View {
    /// How many entries an organisation's view has among the first `size` of the log, and the newest one's leaf hash (that
    /// of the empty tree if there is none).
    pub async fn audit_view(&self, organisation: OrganisationId, size: u64) -> Result<(u64, Hash)> {
        let of_it = entry::Entity::find()
            .filter(entry::Column::Organisation.eq(organisation.to_string()))
            .filter(entry::Column::Place.lt(i64::try_from(size).unwrap_or(i64::MAX)));
        let newest = of_it.clone().order_by_desc(entry::Column::Place).limit(1).one(&self.db()).await?;
        let Some(newest) = newest.map(entry::Model::logged).transpose()? else {
            return Ok((0, merkle::empty_root()));
        };
        let place = serde_json::from_str::<AuditEntry>(&newest.body).ok().and_then(|entry| entry.view);
        let entries = match place {
            Some(place) => place.number + 1,
            // Entries of before views were numbered are counted.
            None => of_it.count(&self.db()).await?,
        };
        Ok((entries, newest.leaf))
    }
}
