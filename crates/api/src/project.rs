//! Projects on the wire.

use gregal_core::{
    id::{OrganisationId, ProjectId},
    organisation::Project,
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectCreate {
    /// Its name: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter.
    pub name: String,
}

/// A project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ProjectId,
    /// The organisation that pays.
    #[schema(value_type = String)]
    pub organisation: OrganisationId,
    /// Its name.
    pub name: String,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Time,
}

impl From<&Project> for ProjectView {
    fn from(project: &Project) -> Self {
        Self {
            id: project.id,
            organisation: project.organisation,
            name: project.name.clone(),
            created_at: project.created_at,
        }
    }
}
