//! How the log names people: never by name, address or id, only by a hash with a salt that is kept elsewhere.

use sha2::{Digest, Sha256};

use crate::id::PersonId;

/// What the log calls a person: `person:` and the first 16 bytes, in hex, of SHA-256 over a label, the person's salt and
/// the person's id.
///
/// The salt is 32 random bytes of that person alone and stands in their row, not in the log. While it is there, whoever may
/// read the row can tell which entries are theirs. Destroying it is the erasure: nothing that is left leads from an entry to
/// the person, and trying ids does not either, as the salt cannot be guessed. The entries stay, and so do their proofs.
pub fn person_name(salt: &[u8; 32], person: PersonId) -> String {
    let said = Sha256::new().chain_update(b"gregal audit person\0").chain_update(salt).chain_update(person.to_string());
    format!("person:{}", hex::encode(&said.finalize()[..16]))
}
