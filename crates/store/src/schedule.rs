//! Scheduling passes: what each looked at and what it said of whom, so that any of them can be made again.

use std::collections::BTreeMap;

use gregal_core::{
    id::JobId,
    schedule::{
        Decision,
        record::{CHAIN_MAX, Record},
    },
    time::Time,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set};

use crate::{
    Error, Result, Tx, View,
    noun::{count, decode, encode, int},
};

mod pass {
    use sea_orm::entity::prelude::*;

    /// The columns of `schedule_passes`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "schedule_passes")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub base: Option<i64>,
        pub at: i64,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod decision {
    use sea_orm::entity::prelude::*;

    /// The columns of `schedule_decisions`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "schedule_decisions")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub job: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub pass: i64,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Where a pass stands in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassPlace {
    /// Its number, growing; there may be gaps.
    pub sequence: u64,
    /// The number of the pass whose record its chain begins with: its own, if it holds all its inputs.
    pub base: u64,
}

/// What a pass said of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassDecision {
    /// The number of the pass.
    pub pass: u64,
    /// When it was made.
    pub at: Time,
    /// What it said.
    pub decision: Decision,
}

impl View {
    /// The newest pass that was kept.
    pub async fn schedule_pass_newest(&self) -> Result<Option<PassPlace>> {
        let row = pass::Entity::find().order_by_desc(pass::Column::Sequence).limit(1).one(&self.db()).await?;
        row.map(|row| place(&row)).transpose()
    }

    /// The records needed to make a pass again, from one that holds all its inputs to its own.
    pub async fn schedule_pass_chain(&self, sequence: u64) -> Result<Vec<Record>> {
        let number = int(sequence, "the number of a pass")?;
        let own = pass::Entity::find_by_id(number).one(&self.db()).await?;
        let own = own.ok_or_else(|| Error::Missing { what: format!("scheduling pass {sequence}") })?;
        let base = own.base.unwrap_or(own.sequence);
        let rows = pass::Entity::find()
            .filter(
                Condition::any()
                    .add(pass::Column::Sequence.eq(base))
                    .add(Condition::all().add(pass::Column::Base.eq(base)).add(pass::Column::Sequence.lte(number))),
            )
            .order_by_asc(pass::Column::Sequence)
            .limit(CHAIN_MAX as u64 + 1)
            .all(&self.db())
            .await?;
        rows.iter().map(|row| decode(&row.document, "scheduling pass")).collect()
    }

    /// What passes said of a job, the newest first.
    pub async fn schedule_decisions_of(&self, job: JobId, limit: u32) -> Result<Vec<PassDecision>> {
        let rows = decision::Entity::find()
            .filter(decision::Column::Job.eq(job.to_string()))
            .order_by_desc(decision::Column::Pass)
            .limit(u64::from(limit))
            .all(&self.db())
            .await?;
        let passes = pass::Entity::find()
            .filter(pass::Column::Sequence.is_in(rows.iter().map(|row| row.pass)))
            .select_only()
            .columns([pass::Column::Sequence, pass::Column::At])
            .into_tuple::<(i64, i64)>()
            .all(&self.db())
            .await?;
        let times: BTreeMap<i64, i64> = passes.into_iter().collect();
        let said = |row: decision::Model| {
            let at =
                times.get(&row.pass).ok_or_else(|| Error::Missing { what: format!("scheduling pass {}", row.pass) })?;
            Ok(PassDecision {
                pass: count(row.pass, "scheduling pass")?,
                at: Time::from_millis(*at),
                decision: decode(&row.document, "decision")?,
            })
        };
        rows.into_iter().map(said).collect()
    }
}

impl Tx {
    /// Keeps a pass, and what it said that was new. `base` is the pass its chain begins with; none if it holds all its inputs.
    pub async fn schedule_pass_insert(
        &self,
        base: Option<u64>,
        record: &Record,
        said: &[Decision],
    ) -> Result<PassPlace> {
        self.guard(async {
            let base = base.map(|base| int(base, "the number of a pass")).transpose()?;
            let row = pass::ActiveModel {
                sequence: sea_orm::NotSet,
                base: Set(base),
                at: Set(record.at.as_millis()),
                document: Set(encode(record, "scheduling pass", "new")?),
            };
            let row = pass::Entity::insert(row).exec_with_returning(&self.db()).await?;
            for decision in said {
                let mark = decision::ActiveModel {
                    job: Set(decision.job().to_string()),
                    pass: Set(row.sequence),
                    document: Set(encode(decision, "decision", &decision.job().to_string())?),
                };
                decision::Entity::insert(mark).exec_without_returning(&self.db()).await?;
            }
            place(&row)
        })
        .await
    }
}

fn place(row: &pass::Model) -> Result<PassPlace> {
    Ok(PassPlace {
        sequence: count(row.sequence, "scheduling pass")?,
        base: count(row.base.unwrap_or(row.sequence), "scheduling pass")?,
    })
}
