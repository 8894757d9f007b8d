//! Datasets: their facts; the bytes stay at their site.

use gregal_core::{
    dataset::{Dataset, DatasetState},
    id::{DatasetId, ProjectId, SiteId},
};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(Dataset, "datasets", "dataset" {
    organisation: String = |it| it.organisation.to_string();
    project: String = |it| it.project.to_string();
    site: String = |it| it.site.to_string();
    name: String = |it| it.name.clone();
    state: String = |it| state_word(it).to_owned();
});

/// The words of what was removed; the table's unique index speaks of them.
const DELETED: &str = "deleted";
const GONE: &str = "gone";

/// The word the table knows a state by.
const fn state_word(dataset: &Dataset) -> &'static str {
    match dataset.state {
        DatasetState::Pending => "pending",
        DatasetState::Stored => "stored",
        DatasetState::Deleted if dataset.is_gone => GONE,
        DatasetState::Deleted => DELETED,
    }
}

impl View {
    /// The dataset with this id, removed or not.
    pub async fn dataset_get(&self, id: DatasetId) -> Result<Option<Dataset>> {
        self.noun_get(&id.to_string()).await
    }

    /// A project's dataset with this name that was not removed.
    pub async fn dataset_by_name(&self, project: ProjectId, name: &str) -> Result<Option<Dataset>> {
        let within = row::Column::Project.eq(project.to_string());
        let kept = row::Column::State.is_not_in([DELETED, GONE]);
        self.noun_where(Condition::all().add(within).add(row::Column::Name.eq(name)).add(kept)).await
    }

    /// A project's datasets, oldest first, removed ones among them.
    pub async fn datasets_list(&self, project: ProjectId, page: &Page) -> Result<Listed<Dataset>> {
        self.nouns_page(Condition::all().add(row::Column::Project.eq(project.to_string())), page).await
    }

    /// How many datasets of a project were not removed.
    pub async fn datasets_kept_count(&self, project: ProjectId) -> Result<u64> {
        let within = row::Column::Project.eq(project.to_string());
        let kept = row::Column::State.is_not_in([DELETED, GONE]);
        self.nouns_count::<Dataset>(Condition::all().add(within).add(kept)).await
    }

    /// Every dataset at a site, by id. Removed ones are among them until they are gone: the site is told to let their bytes
    /// go.
    pub async fn datasets_at_site(&self, site: SiteId) -> Result<Vec<Dataset>> {
        let there = row::Column::State.ne(GONE);
        self.nouns_all(Condition::all().add(row::Column::Site.eq(site.to_string())).add(there)).await
    }
}

impl Tx {
    /// Adds a dataset. Its name must be free among the project's datasets that were not removed.
    pub async fn dataset_insert(&self, dataset: &Dataset) -> Result<()> {
        self.noun_insert(dataset).await
    }

    /// Writes a changed dataset; the stored one must be one version behind.
    pub async fn dataset_update(&self, dataset: &Dataset) -> Result<()> {
        self.noun_update(dataset).await
    }
}
