//! Shared models: what a site offers everybody by the token, answered by a server that Gregal did not start.

use serde::{Deserialize, Serialize};

/// A shared model as its site offers it. Where it answers is the site's own business and is told to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedModel {
    /// What tenants ask for when they take it, unique at its site.
    pub name: String,
    /// What its tokens are priced as. An endpoint keeps the one it was asked for with: what was agreed holds.
    pub price_item: String,
}
