//! Quotas: what organisations and projects have of each SKU.

use gregal_core::{
    id::{OrganisationId, ProjectId},
    quota::{Quota, QuotaId},
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};

use crate::{Error, Result, Tx, View, noun};

noun::row!(Quota, "quotas", "quota" [changed] {
    organisation: String = |it| it.organisation.to_string();
    project: Option<String> = |it| it.project.map(|id| id.to_string());
    sku: String = |it| it.sku.clone();
});

impl View {
    /// The quota of this name.
    pub async fn quota_get(&self, id: &QuotaId) -> Result<Option<Quota>> {
        self.noun_get(&id.to_string()).await
    }

    /// An organisation's quotas and its projects', the organisation's first; by holder, then by SKU.
    pub async fn quotas_of_organisation(&self, organisation: OrganisationId) -> Result<Vec<Quota>> {
        self.nouns_all(Condition::all().add(row::Column::Organisation.eq(organisation.to_string()))).await
    }

    /// A project's quotas, by SKU.
    pub async fn quotas_of_project(&self, project: ProjectId) -> Result<Vec<Quota>> {
        self.nouns_all(Condition::all().add(row::Column::Project.eq(project.to_string()))).await
    }

    /// What an organisation gave its projects of a SKU.
    pub async fn quotas_given(&self, organisation: OrganisationId, sku: &str) -> Result<Vec<Quota>> {
        let of = Condition::all().add(row::Column::Organisation.eq(organisation.to_string()));
        self.nouns_all(of.add(row::Column::Project.is_not_null()).add(row::Column::Sku.eq(sku))).await
    }

    /// What says whether [`View::quotas_all`] is as it was: how many there are, and the newest mark among them. Adding or
    /// changing one moves the mark, and removing one without adding another the number.
    pub async fn quotas_mark(&self) -> Result<(u64, u64)> {
        let found = row::Entity::find()
            .select_only()
            .column_as(row::Column::Id.count(), "rows")
            .column_as(row::Column::Changed.max(), "newest")
            .into_tuple::<(i64, Option<i64>)>()
            .one(&self.db())
            .await?;
        let (rows, newest) = found.unwrap_or((0, None));
        Ok((noun::count(rows, "quota")?, noun::count(newest.unwrap_or(0), "quota")?))
    }

    /// Every quota there is: those of organisations, then those of projects; by holder, then by SKU. The same order on every
    /// machine, for the scheduler's snapshot.
    pub async fn quotas_all(&self) -> Result<Vec<Quota>> {
        self.nouns_all(Condition::all()).await
    }
}

impl Tx {
    /// Adds a quota. Its holder must have none of that SKU.
    pub async fn quota_insert(&self, quota: &Quota) -> Result<()> {
        self.noun_insert(quota).await
    }

    /// Writes a changed quota; the stored one must be one version behind.
    pub async fn quota_update(&self, quota: &Quota) -> Result<()> {
        self.noun_update(quota).await
    }

    /// Removes a quota; the stored one must be of this version.
    pub async fn quota_remove(&self, quota: &Quota) -> Result<()> {
        self.guard(async {
            let removed = row::Entity::delete_many()
                .filter(row::Column::Id.eq(quota.id.to_string()))
                .filter(row::Column::Version.eq(noun::int(quota.version, "a version")?))
                .exec(&self.db())
                .await?;
            if removed.rows_affected == 1 {
                return Ok(());
            }
            Err(Error::Conflict { noun: "quota", id: quota.id.to_string() })
        })
        .await
    }
}
