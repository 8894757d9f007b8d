//! Datasets: examples to learn from. Control knows their digest and size; the bytes stay at their site.

use serde::{Deserialize, Serialize};

use crate::{
    id::{DatasetId, OrganisationId, ProjectId, SiteId},
    time::Time,
};

/// Where a dataset stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetState {
    /// Announced; its bytes are awaited at the site.
    Pending,
    /// Stored at the site, digest known.
    Stored,
    /// Removed; the row remains for lineage.
    Deleted,
}

/// A dataset's facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its id.
    pub id: DatasetId,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Who shares it.
    pub project: ProjectId,
    /// Where it is.
    pub site: SiteId,
    /// Its name, unique in the project.
    pub name: String,
    /// Where it stands.
    pub state: DatasetState,
    /// SHA-256 of its bytes, hex, once stored.
    pub digest: Option<String>,
    /// Its size, once stored.
    pub bytes: Option<u64>,
    /// When it was announced.
    pub created_at: Time,
    /// When it was removed.
    #[serde(default)]
    pub deleted_at: Option<Time>,
    /// Whether its site has let go of its bytes, and nobody has leave to write them any more.
    #[serde(default)]
    pub is_gone: bool,
    /// Grows by one with every change.
    pub version: u64,
}
