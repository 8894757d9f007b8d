//! Invitations: an offer to whoever proves to hold an address to become a member. Used once, and it expires.

use serde::{Deserialize, Serialize};

use crate::{
    access::Role,
    id::{InvitationId, KeyId, OrganisationId, PersonId, ProjectId, ServiceAccountId},
    time::Time,
};

/// The longest an invitation may stand, in seconds: 30 days.
pub const INVITATION_S_MAX: u32 = 30 * 24 * 3600;
/// How long it stands if nothing else is said, in seconds: 7 days.
pub const INVITATION_S_DEFAULT: u32 = 7 * 24 * 3600;
/// What the text shown once begins with, so that scanners find leaked ones.
pub const INVITATION_PREFIX: &str = "gi_";

/// An offer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// The organisation that offers.
    pub organisation: OrganisationId,
    /// To whom: an address in lower case; empty once it is over.
    pub email: String,
    /// What they would be.
    pub role: Role,
    /// The one project they would reach.
    pub project: Option<ProjectId>,
    /// Who invites, if a person does: it stands as long as they may invite so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_person: Option<PersonId>,
    /// The program's key that invites, if one does: it stands as long as that is not revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_key: Option<KeyId>,
    /// The service account whose key invites, if one's does: it stands as long as that is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_account: Option<ServiceAccountId>,
    /// Whether whoever holds the text may take it up with a passkey, with nobody who vouches for the address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passkey: bool,
    /// SHA-256 of the text shown once, hex.
    pub digest: String,
    /// When it was made.
    pub created_at: Time,
    /// When it stops standing by itself.
    pub expires_at: Time,
    /// When it was taken up or taken back.
    pub ended_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

// An address must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Invitation {
    /// Whether it can still be taken up.
    pub fn stands_at(&self, now: Time) -> bool {
        self.ended_at.is_none() && now < self.expires_at
    }

    /// Whether the holder of this verified address may take it up now.
    pub fn is_for(&self, email: &str, now: Time) -> bool {
        self.stands_at(now) && !email.is_empty() && self.email == email
    }

    /// The same offer, over: it keeps no address.
    #[must_use]
    pub fn ended(self, now: Time) -> Self {
        Self { email: String::new(), ended_at: Some(now), version: self.version + 1, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_for_one_address_once_and_not_for_ever() {
        let at = Time::from_millis;
        let offer = Invitation {
            id: InvitationId::from_u128(1),
            organisation: OrganisationId::from_u128(1),
            email: "ada@example.eu".into(),
            role: Role::Viewer,
            project: None,
            by_person: None,
            by_key: None,
            by_account: None,
            passkey: false,
            digest: "00".into(),
            created_at: at(0),
            expires_at: at(1_000),
            ended_at: None,
            version: 1,
        };
        assert!(offer.is_for("ada@example.eu", at(999)));
        assert!(!offer.is_for("ada@example.eu", at(1_000)));
        assert!(!offer.is_for("eve@example.eu", at(1)) && !offer.is_for("", at(1)));
        let over = offer.ended(at(5));
        assert!(!over.is_for("ada@example.eu", at(6)) && !over.is_for("", at(6)));
        assert_eq!((over.email.as_str(), over.version), ("", 2));
    }
}
