//! Projects: who shares.

use gregal_core::{
    id::{OrganisationId, ProjectId},
    organisation::Project,
};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(Project, "projects", "project" {
    organisation: String = |it| it.organisation.to_string();
    name: String = |it| it.name.clone();
});

impl View {
    /// The project with this id.
    pub async fn project_get(&self, id: ProjectId) -> Result<Option<Project>> {
        self.noun_get(&id.to_string()).await
    }

    /// An organisation's project with this name.
    pub async fn project_by_name(&self, organisation: OrganisationId, name: &str) -> Result<Option<Project>> {
        let of = row::Column::Organisation.eq(organisation.to_string());
        self.noun_where(Condition::all().add(of).add(row::Column::Name.eq(name))).await
    }

    /// An organisation's projects, oldest first.
    pub async fn projects_list(&self, organisation: OrganisationId, page: &Page) -> Result<Listed<Project>> {
        let of = row::Column::Organisation.eq(organisation.to_string());
        self.nouns_page(Condition::all().add(of), page).await
    }
}

impl Tx {
    /// Adds a project. Its name must be free in its organisation.
    pub async fn project_insert(&self, project: &Project) -> Result<()> {
        self.noun_insert(project).await
    }

    /// Writes a changed project; the stored one must be one version behind.
    pub async fn project_update(&self, project: &Project) -> Result<()> {
        self.noun_update(project).await
    }
}
