//! Leases: which of several control replicas carries out a loop now.

use gregal_core::time::Time;
use sea_orm::{EntityTrait, Set, sea_query::OnConflict};

use crate::{
    Result, Store, Tx, View,
    noun::{count, int},
};

use row::{ActiveModel, Column, Entity};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "leases")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub holder: String,
        pub until: i64,
        pub fence: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Who may carry out a loop, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which loop.
    pub name: String,
    /// Which replica.
    pub holder: String,
    /// Until when it may.
    pub until: Time,
    /// Grows by one with every change of holder: whoever shows an older one was overtaken.
    pub fence: u64,
}

impl View {
    /// The lease of a loop as it stands, run out or not.
    pub async fn lease_get(&self, name: &str) -> Result<Option<Lease>> {
        let found = Entity::find_by_id(name.to_owned()).one(&self.db()).await?;
        found
            .map(|row| {
                Ok(Lease {
                    name: row.name,
                    holder: row.holder,
                    until: Time::from_millis(row.until),
                    fence: count(row.fence, "lease")?,
                })
            })
            .transpose()
    }
}

impl Store {
    /// Takes or prolongs a lease until `until`, in a transaction of its own. None: another holder has it beyond `now`.
    /// Time comes from the caller, as this room has no clock: leave room for clocks that disagree.
    pub async fn lease_take(&self, name: &str, holder: &str, now: Time, until: Time) -> Result<Option<Lease>> {
        let tx = self.begin().await?;
        let fence = match tx.lease_get(name).await? {
            None => 1,
            Some(lease) if lease.holder == holder => lease.fence,
            Some(lease) if lease.until <= now => lease.fence + 1,
            Some(_) => return Ok(None),
        };
        let lease = Lease { name: name.to_owned(), holder: holder.to_owned(), until, fence };
        tx.lease_put(&lease).await?;
        tx.commit_observation().await?;
        Ok(Some(lease))
    }

    /// Gives a lease back early, for a clean end; another holder's is left alone.
    pub async fn lease_give_back(&self, name: &str, holder: &str) -> Result<()> {
        let tx = self.begin().await?;
        if let Some(lease) = tx.lease_get(name).await?.filter(|lease| lease.holder == holder) {
            tx.lease_put(&Lease { until: Time::from_millis(i64::MIN), ..lease }).await?;
            tx.commit_observation().await?;
        }
        Ok(())
    }
}

impl Tx {
    async fn lease_put(&self, lease: &Lease) -> Result<()> {
        self.guard(async {
            let row = ActiveModel {
                name: Set(lease.name.clone()),
                holder: Set(lease.holder.clone()),
                until: Set(lease.until.as_millis()),
                fence: Set(int(lease.fence, "a lease's fence")?),
            };
            let over = OnConflict::column(Column::Name)
                .update_columns([Column::Holder, Column::Until, Column::Fence])
                .to_owned();
            Entity::insert(row).on_conflict(over).exec_without_returning(&self.db()).await?;
            Ok(())
        })
        .await
    }
}
