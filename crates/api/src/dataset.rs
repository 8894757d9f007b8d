//! Datasets on the wire.

use gregal_core::{
    dataset::{Dataset, DatasetState},
    id::{DatasetId, ProjectId, SiteId},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Announces a dataset. Its bytes go to the site itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetCreate {
    /// Its name, unique in the project: 1 to 63 of `a-z`, `0-9`, `-`, `.`, beginning with a letter.
    pub name: String,
    /// The site to store it at, by id or name; absent: a lawful one is chosen.
    #[serde(default)]
    pub site: Option<String>,
}

/// A dataset.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatasetView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: DatasetId,
    /// The project that shares it.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// Where it is.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: DatasetState,
    /// SHA-256 of its bytes, hex.
    pub digest: Option<String>,
    /// Its size.
    pub bytes: Option<u64>,
    /// When it was announced.
    #[schema(value_type = String)]
    pub created_at: Time,
}

impl From<&Dataset> for DatasetView {
    fn from(dataset: &Dataset) -> Self {
        Self {
            id: dataset.id,
            project: dataset.project,
            site: dataset.site,
            name: dataset.name.clone(),
            state: dataset.state,
            digest: dataset.digest.clone(),
            bytes: dataset.bytes,
            created_at: dataset.created_at,
        }
    }
}

/// An announced dataset and where to put its bytes: `PUT {grant.url}/content/v1/datasets/{id}` with the grant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatasetCreated {
    /// The dataset.
    pub dataset: DatasetView,
    /// Leave to write its bytes. None when an idempotent retry asks again: take a fresh one from the grants route.
    pub grant: Option<crate::grant::GrantCreated>,
}
