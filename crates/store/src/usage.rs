//! Usage: what was counted, once. Rows are added and never edited; the database itself refuses.

use std::ops::ControlFlow;

use gregal_core::{
    id::{OrganisationId, ProjectId},
    meter::{Meter, UsageEvent},
    money::Nano,
    time::Time,
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set, TryInsertResult,
    sea_query::{Expr, ExprTrait},
};

use crate::{
    Error, LIST_MAX, Listed, Page, Result, Tx, View,
    noun::{count, decode, encode, int},
};

use row::ActiveModel;
pub(crate) use row::{Column, Entity, Model};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "usage_events")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub id: String,
        pub organisation: String,
        pub project: String,
        pub site: String,
        pub meter: String,
        pub item: String,
        pub quantity: i64,
        pub ended_at: i64,
        pub rated: i64,
        pub arrived_at: i64,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Events that [`View::usage_each`] holds in memory at a time.
const USAGE_CHUNK: u64 = 2_000;

/// What became of a usage event that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageInserted {
    /// It is new and counts.
    Inserted,
    /// It was here before, with the same facts: acknowledge it, count nothing.
    Duplicate,
    /// Its id was here before with other facts: nothing was written; someone must look.
    Conflict,
}

/// A usage event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUsage {
    /// Its place in the order of arrival.
    pub sequence: u64,
    /// What was used.
    pub event: UsageEvent,
    /// What it was rated at when it arrived.
    pub rated: Nano,
    /// When it arrived.
    pub arrived_at: Time,
}

/// All use of one thing on one meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSum {
    /// What is counted.
    pub meter: Meter,
    /// The SKU or model class.
    pub item: String,
    /// Sum of the quantities, in the meter's unit.
    pub quantity: u64,
    /// Sum of what the events were rated at.
    pub rated: Nano,
    /// How many events are summed.
    pub records: u64,
}

impl Model {
    pub(crate) fn stored(self) -> Result<StoredUsage> {
        Ok(StoredUsage {
            sequence: count(self.sequence, "usage event")?,
            event: decode(&self.document, "usage event")?,
            rated: Nano::new(self.rated),
            arrived_at: Time::from_millis(self.arrived_at),
        })
    }
}

/// Events that ended within `from` (inclusive) and `until` (exclusive).
fn period(organisation: OrganisationId, from: Time, until: Time, project: Option<ProjectId>) -> Condition {
    Condition::all()
        .add(Column::Organisation.eq(organisation.to_string()))
        .add(Column::EndedAt.gte(from.as_millis()))
        .add(Column::EndedAt.lt(until.as_millis()))
        .add_option(project.map(|project| Column::Project.eq(project.to_string())))
}

impl View {
    /// The usage event with this id.
    pub async fn usage_get(&self, id: &str) -> Result<Option<StoredUsage>> {
        let found = Entity::find().filter(Column::Id.eq(id)).one(&self.db()).await?;
        found.map(Model::stored).transpose()
    }

    /// An organisation's events that ended within `from` (inclusive) and `until` (exclusive), in the order of their
    /// arrival: what comes in later is on a later page.
    pub async fn usage_list(
        &self,
        organisation: OrganisationId,
        from: Time,
        until: Time,
        project: Option<ProjectId>,
        page: &Page,
    ) -> Result<Listed<StoredUsage>> {
        let after = page.after.as_deref().map(sequence_of).transpose()?;
        let found = Entity::find()
            .filter(
                period(organisation, from, until, project).add_option(after.map(|after| Column::Sequence.gt(after))),
            )
            .order_by_asc(Column::Sequence)
            .limit(page.rows())
            .all(&self.db())
            .await?;
        let items = found.into_iter().map(Model::stored).collect::<Result<Vec<_>>>()?;
        Ok(Listed::cut(items, page, |item| item.sequence.to_string()))
    }

    /// Every event of an organisation that ended within a period, in the order of arrival; for recomputing an invoice.
    /// Beyond [`LIST_MAX`] events it is [`Error::TooMany`]: take pages, sums or [`View::usage_each`].
    pub async fn usage_all(&self, organisation: OrganisationId, from: Time, until: Time) -> Result<Vec<StoredUsage>> {
        let found = Entity::find()
            .filter(period(organisation, from, until, None))
            .order_by_asc(Column::Sequence)
            .limit(LIST_MAX + 1)
            .all(&self.db())
            .await?;
        if found.len() as u64 > LIST_MAX {
            return Err(Error::TooMany { what: "usage events", limit: LIST_MAX });
        }
        found.into_iter().map(Model::stored).collect()
    }

    /// Shows every event of an organisation that ended within a period to `see`, until that breaks. They come in no
    /// order worth relying on, a chunk of them in memory at a time; what arrives meanwhile is not among them.
    pub async fn usage_each<B: Send>(
        &self,
        organisation: OrganisationId,
        from: Time,
        until: Time,
        mut see: impl FnMut(&UsageEvent) -> ControlFlow<B> + Send,
    ) -> Result<ControlFlow<B>> {
        // With one writer at a time, what is numbered up to here is all that was there.
        let newest = Entity::find()
            .filter(Column::Organisation.eq(organisation.to_string()))
            .select_only()
            .column_as(Column::Sequence.max(), "newest")
            .into_tuple::<Option<i64>>()
            .one(&self.db())
            .await?
            .flatten();
        let Some(newest) = newest else { return Ok(ControlFlow::Continue(())) };
        let (mut from, mut after) = (from, 0);
        loop {
            // The order of the index over periods, so that a chunk is found and not sorted out of everything.
            let beyond = Condition::any().add(Column::EndedAt.gt(from.as_millis())).add(Column::Sequence.gt(after));
            let chunk = Entity::find()
                .filter(period(organisation, from, until, None).add(beyond).add(Column::Sequence.lte(newest)))
                .order_by_asc(Column::EndedAt)
                .order_by_asc(Column::Sequence)
                .limit(USAGE_CHUNK)
                .all(&self.db())
                .await?;
            let is_last = (chunk.len() as u64) < USAGE_CHUNK;
            for row in chunk {
                (from, after) = (Time::from_millis(row.ended_at), row.sequence);
                if let ControlFlow::Break(why) = see(&row.stored()?.event) {
                    return Ok(ControlFlow::Break(why));
                }
            }
            if is_last {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    /// Use within a period, summed by meter and item, in that order.
    pub async fn usage_sums(
        &self,
        organisation: OrganisationId,
        from: Time,
        until: Time,
        project: Option<ProjectId>,
    ) -> Result<Vec<UsageSum>> {
        // PostgreSQL sums 64 bit numbers to decimals; the cast brings them back, or fails where they no longer fit.
        let sum = |column: Column| Expr::col(column).sum().cast_as("bigint");
        let found = Entity::find()
            .filter(period(organisation, from, until, project))
            .select_only()
            .column(Column::Meter)
            .column(Column::Item)
            .column_as(sum(Column::Quantity), "quantity_sum")
            .column_as(sum(Column::Rated), "rated_sum")
            .column_as(Column::Sequence.count(), "records")
            .group_by(Column::Meter)
            .group_by(Column::Item)
            .into_tuple::<(String, String, i64, i64, i64)>()
            .all(&self.db())
            .await?;
        let mut sums = found
            .into_iter()
            .map(|(meter, item, quantity, rated, records)| {
                Ok(UsageSum {
                    meter: meter_of(&meter)?,
                    item,
                    quantity: count(quantity, "usage event")?,
                    rated: Nano::new(rated),
                    records: count(records, "usage event")?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        // Sorted here: two databases may disagree on how words sort.
        sums.sort_by(|a, b| (a.meter, &a.item).cmp(&(b.meter, &b.item)));
        Ok(sums)
    }
}

impl Tx {
    /// Takes in a usage event once: looking for it and writing it are one statement, so two copies that arrive
    /// together cannot both count.
    pub async fn usage_insert(&self, event: &UsageEvent, rated: Nano, arrived_at: Time) -> Result<UsageInserted> {
        self.guard(async {
            let row = ActiveModel {
                sequence: sea_orm::NotSet,
                id: Set(event.id.clone()),
                organisation: Set(event.organisation.to_string()),
                project: Set(event.project.to_string()),
                site: Set(event.site.to_string()),
                meter: Set(event.meter.as_str().to_owned()),
                item: Set(event.item.clone()),
                quantity: Set(int(event.quantity, "a quantity")?),
                ended_at: Set(event.ended_at.as_millis()),
                rated: Set(rated.get()),
                arrived_at: Set(arrived_at.as_millis()),
                document: Set(encode(event, "usage event", &event.id)?),
            };
            let once = Entity::insert(row).on_conflict_do_nothing_on([Column::Id]);
            match once.exec_without_returning(&self.db()).await? {
                TryInsertResult::Inserted(1) => return Ok(UsageInserted::Inserted),
                TryInsertResult::Inserted(_) | TryInsertResult::Conflicted | TryInsertResult::Empty => {}
            }
            let before = self.usage_get(&event.id).await?;
            let same = before.is_some_and(|before| before.event == *event);
            Ok(if same { UsageInserted::Duplicate } else { UsageInserted::Conflict })
        })
        .await
    }
}

fn meter_of(word: &str) -> Result<Meter> {
    let found = Meter::ALL.iter().find(|meter| meter.as_str() == word);
    found.copied().ok_or_else(|| Error::Unreadable { noun: "usage event", why: format!("there is no meter `{word}`") })
}

/// A cursor over an order of arrival.
pub(crate) fn sequence_of(cursor: &str) -> Result<i64> {
    cursor.parse().map_err(|_| Error::Missing { what: "page at this cursor".to_owned() })
}
