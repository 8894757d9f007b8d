//! Sites on the wire.

use gregal_core::{
    id::SiteId,
    site::{Capacity, GridFactor, Site},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Registers a site.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteCreate {
    /// Its name: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter.
    pub name: String,
    /// The law its machines stand under, a country code.
    #[schema(example = "FR")]
    pub jurisdiction: String,
    /// Who runs it.
    pub operator_name: String,
    /// Where the operator is established.
    pub operator_jurisdiction: String,
    /// Where the operator's ultimate parent is established.
    pub operator_parent_jurisdiction: String,
    /// Certifications it holds.
    #[serde(default)]
    pub certifications: Vec<String>,
    /// What its energy comes from.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub grid: Option<GridFactor>,
}

/// A site.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SiteView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: SiteId,
    /// Its name.
    pub name: String,
    /// The law its machines stand under.
    pub jurisdiction: String,
    /// Who runs it.
    pub operator_name: String,
    /// Where the operator is established.
    pub operator_jurisdiction: String,
    /// Where the operator's ultimate parent is established.
    pub operator_parent_jurisdiction: String,
    /// Certifications it holds.
    pub certifications: Vec<String>,
    /// Where its gateway and content are reached.
    pub url: Option<String>,
    /// Whether it answered lately.
    pub alive: bool,
    /// What it has for rent.
    #[schema(value_type = Option<Object>)]
    pub capacity: Option<Capacity>,
    /// What its energy comes from.
    #[schema(value_type = Option<Object>)]
    pub grid: Option<GridFactor>,
}

impl SiteView {
    /// The site as it looks at this time.
    pub fn at(site: &Site, now: Time) -> Self {
        Self {
            id: site.id,
            name: site.name.clone(),
            jurisdiction: site.jurisdiction.to_string(),
            operator_name: site.operator.name.clone(),
            operator_jurisdiction: site.operator.jurisdiction.to_string(),
            operator_parent_jurisdiction: site.operator.parent_jurisdiction.to_string(),
            certifications: site.certifications.iter().cloned().collect(),
            url: site.url.clone(),
            alive: site.alive_at(now),
            capacity: site.capacity.clone(),
            grid: site.grid.clone(),
        }
    }
}

/// A new site with the secret it dials in with.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SiteCreated {
    /// The site.
    pub site: SiteView,
    /// The secret, shown only here.
    pub secret: Option<String>,
}

impl std::fmt::Debug for SiteCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteCreated").field("site", &self.site).field("secret", &"[hidden]").finish()
    }
}
