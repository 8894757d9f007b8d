//! Models: their facts and lineage; the weights stay at their site.

use gregal_core::{
    id::{ModelId, ProjectId},
    model::Model,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};

use crate::{Error, Listed, Page, Result, Tx, View, noun};

noun::row!(Model, "models", "model" {
    organisation: String = |it| it.organisation.to_string();
    project: String = |it| it.project.to_string();
    site: String = |it| it.site.to_string();
    name: String = |it| it.name.clone();
    number: i64 = |it| i64::from(it.number);
});

fn named(project: ProjectId, name: &str) -> Condition {
    Condition::all().add(row::Column::Project.eq(project.to_string())).add(row::Column::Name.eq(name))
}

impl View {
    /// The model with this id.
    pub async fn model_get(&self, id: ModelId) -> Result<Option<Model>> {
        self.noun_get(&id.to_string()).await
    }

    /// One version of a project's model.
    pub async fn model_by_number(&self, project: ProjectId, name: &str, number: u32) -> Result<Option<Model>> {
        self.noun_where(named(project, name).add(row::Column::Number.eq(i64::from(number)))).await
    }

    /// A project's models, oldest first.
    pub async fn models_list(&self, project: ProjectId, page: &Page) -> Result<Listed<Model>> {
        self.nouns_page(Condition::all().add(row::Column::Project.eq(project.to_string())), page).await
    }

    /// The highest version number a project's models of this name carry; 0 where there is none yet.
    pub async fn model_numbers_max(&self, project: ProjectId, name: &str) -> Result<u32> {
        let max = row::Entity::find()
            .filter(named(project, name))
            .select_only()
            .column_as(row::Column::Number.max(), "number")
            .into_tuple::<Option<i64>>()
            .one(&self.db())
            .await?
            .flatten()
            .unwrap_or(0);
        u32::try_from(max).map_err(|_| Error::Unreadable { noun: "model", why: format!("{max} is no number") })
    }
}

impl Tx {
    /// Adds a model. Its name and number together must be new in the project.
    pub async fn model_insert(&self, model: &Model) -> Result<()> {
        self.noun_insert(model).await
    }

    /// Writes a changed model; the stored one must be one version behind.
    pub async fn model_update(&self, model: &Model) -> Result<()> {
        self.noun_update(model).await
    }
}
