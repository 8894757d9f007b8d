//! The progress of jobs over time: a curve of bounded length.
//!
//! A job's planned steps are cut into [`PROGRESS_POINTS_MAX`] slots of equal length, and each slot keeps its newest
//! report. The curve is therefore evenly thinned however long a training runs, its last point is always the newest
//! report, and a report sent twice changes nothing. A job that resumes from a checkpoint writes over its own past.

use gregal_core::{id::JobId, job::Progress};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set, sea_query::OnConflict};

use crate::{
    Result, Tx, View,
    noun::{decode, encode, int},
};

/// The most points kept of one job.
pub const PROGRESS_POINTS_MAX: u64 = 2_000;

use row::{ActiveModel, Column, Entity};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "job_progress")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub job: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub slot: i64,
        pub step: i64,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Which slot a report belongs to. A job that does not know how many steps it will take fills one slot a step and then
/// keeps only its newest in the last one.
fn slot_of(progress: &Progress) -> u64 {
    let last = PROGRESS_POINTS_MAX - 1;
    if progress.steps <= PROGRESS_POINTS_MAX {
        return progress.step.min(last);
    }
    let slot = u128::from(progress.step) * u128::from(PROGRESS_POINTS_MAX) / u128::from(progress.steps);
    u64::try_from(slot).unwrap_or(last).min(last)
}

impl View {
    /// A job's points with a step beyond `after_step` (all without one), in the order of their steps.
    pub async fn job_progress_list(&self, job: JobId, after_step: Option<u64>, limit: u32) -> Result<Vec<Progress>> {
        let mut found = Entity::find().filter(Column::Job.eq(job.to_string()));
        if let Some(step) = after_step {
            found = found.filter(Column::Step.gt(i64::try_from(step).unwrap_or(i64::MAX)));
        }
        let documents = found
            .order_by_asc(Column::Step)
            .limit(u64::from(limit).min(PROGRESS_POINTS_MAX))
            .select_only()
            .column(Column::Document)
            .into_tuple::<String>()
            .all(&self.db())
            .await?;
        documents.iter().map(|document| decode(document, "progress")).collect()
    }
}

impl Tx {
    /// Adds reports of a job that exists. May be ended with [`Tx::commit_observation`].
    pub async fn job_progress_append(&self, job: JobId, reports: &[Progress]) -> Result<()> {
        self.guard(async {
            for progress in reports {
                let row = ActiveModel {
                    job: Set(job.to_string()),
                    slot: Set(int(slot_of(progress), "a step")?),
                    step: Set(int(progress.step, "a step")?),
                    document: Set(encode(progress, "progress", &job.to_string())?),
                };
                let newest_wins = OnConflict::columns([Column::Job, Column::Slot])
                    .update_columns([Column::Step, Column::Document])
                    .to_owned();
                Entity::insert(row).on_conflict(newest_wins).exec_without_returning(&self.db()).await?;
            }
            Ok(())
        })
        .await
    }
}
