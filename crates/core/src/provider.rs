//! Providers: who vouches for people (`OpenID` Connect), for everybody or for the domains of one organisation.

use serde::{Deserialize, Serialize};

use crate::{id::OrganisationId, time::Time};

/// A domain of an organisation, whose people sign in with the organisation's own provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// The domain, in lower case: what stands behind the `@`.
    pub name: String,
    /// The organisation it belongs to, by the operator's word.
    pub organisation: OrganisationId,
    /// The provider's issuer address.
    pub issuer: String,
    /// What the cloud is called there. It has no secret there: PKCE stands in for it.
    pub client_id: String,
    /// When it was made.
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}
