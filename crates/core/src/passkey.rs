//! Passkeys: what people sign in with who have no provider (`WebAuthn`). A public key and a counter; nothing here is a secret.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    id::{PasskeyId, PersonId},
    person::Subject,
    time::Time,
};

/// Who vouches for people with passkeys: this cloud itself. No provider can be called so, because theirs are web addresses.
pub const PASSKEY_ISSUER: &str = "urn:gregal:passkey";
/// The most passkeys of one person.
pub const PASSKEYS_MAX: usize = 10;

/// A passkey of a person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkey {
    /// Its id.
    pub id: PasskeyId,
    /// Whose it is.
    pub person: PersonId,
    /// What they call it.
    pub name: String,
    /// SHA-256 of what the authenticator calls it, hex.
    pub digest: String,
    /// Its public key, counter and what was said of it, as the library that checks it keeps that.
    pub credential: String,
    /// When it was made.
    pub created_at: Time,
    /// When somebody last signed in with it.
    pub used_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

// What people call their things must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Passkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passkey").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

/// What a passkey is found by: the SHA-256, hex, of what its authenticator calls it.
pub fn credential_digest(id: &[u8]) -> String {
    hex::encode(Sha256::digest(id))
}

/// Who somebody with passkeys is: the 16 random bytes that their authenticators were told.
pub fn subject_of(handle: &[u8; 16]) -> Subject {
    Subject { issuer: PASSKEY_ISSUER.into(), subject: hex::encode(handle) }
}

/// The bytes of [`subject_of`]; none for somebody a provider vouches for.
pub fn handle_of(subject: &Subject) -> Option<[u8; 16]> {
    if subject.issuer != PASSKEY_ISSUER {
        return None;
    }
    hex::decode(&subject.subject).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_clouds_own_people_have_a_handle() {
        let handle = [7; 16];
        assert_eq!(handle_of(&subject_of(&handle)), Some(handle));
        let of = |issuer: &str, subject: &str| handle_of(&Subject { issuer: issuer.into(), subject: subject.into() });
        assert_eq!(of("https://id.example.eu", &"07".repeat(16)), None);
        assert_eq!(of(PASSKEY_ISSUER, "07"), None);
        assert_eq!(of(PASSKEY_ISSUER, "no hex"), None);
    }
}
