//! Asking where content could be, before anything is placed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks about every site, or about one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacementAsk {
    /// A site by id or name; absent: all.
    #[serde(default)]
    pub site: Option<String>,
}

/// What the residency policy says of one site.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SiteVerdict {
    /// The site's id.
    pub site: String,
    /// The site's name.
    pub name: String,
    /// Whether content may be there.
    pub allowed: bool,
    /// The rule that forbids it.
    pub rule: Option<String>,
    /// Why, in words.
    pub because: String,
    /// What would have to change.
    pub would_need: Option<String>,
}

/// What the residency policy says.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlacementAnswer {
    /// One verdict a site.
    pub sites: Vec<SiteVerdict>,
}
