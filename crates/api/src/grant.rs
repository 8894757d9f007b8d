//! Grants: short-lived leave to read or write content at a site. Content never passes through control.

use std::collections::BTreeSet;

use gregal_core::{
    id::{KeyId, OrganisationId, ProjectId, SiteId},
    network::Network,
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Purpose that grants are signed for.
pub const GRANT_PURPOSE: &str = "gregal-grant-v1";
/// The longest a grant lives, in seconds.
pub const GRANT_SECONDS_MAX: i64 = 900;

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantPurpose {
    /// Write a pending dataset's bytes.
    DatasetWrite,
    /// Read a dataset's bytes.
    DatasetRead,
    /// Read and follow a job's log.
    JobLogs,
    /// Read a model's files.
    ModelRead,
    /// Ask a served model, from a browser.
    Infer,
}

/// Asks for a grant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantCreate {
    /// What it should allow.
    pub purpose: GrantPurpose,
    /// The dataset, job, model or endpoint it is about, by id.
    pub object: String,
}

/// A grant.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantCreated {
    /// The credential: `Authorization: Bearer {grant}`.
    pub grant: String,
    /// The site that honours it.
    pub url: String,
    /// When it ends.
    #[schema(value_type = String)]
    pub expires_at: Time,
}

impl std::fmt::Debug for GrantCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrantCreated")
            .field("url", &self.url)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What a grant says, signed by control and checked by the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantBody {
    /// The only site that may honour it.
    pub site: SiteId,
    /// What it allows.
    pub purpose: GrantPurpose,
    /// On which object.
    pub object: String,
    /// Who pays.
    pub organisation: OrganisationId,
    /// In which project.
    pub project: ProjectId,
    /// Who asked.
    pub key: KeyId,
    /// The only networks it works from; none: as any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<BTreeSet<Network>>,
    /// When it ends.
    pub expires_at: Time,
}
