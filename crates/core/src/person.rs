//! People: who signs in. The audit log knows them by a salted name alone, so that they can be forgotten.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{id::PersonId, time::Time};

/// Who a provider says somebody is: the pair that never changes, unlike an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The provider's issuer address, exactly as it signs it.
    pub issuer: String,
    /// The provider's name for the person (`sub`).
    pub subject: String,
}

impl Subject {
    /// What a person is found by: a digest, so that neither half can be made to look like the other.
    pub fn digest(&self) -> String {
        let issuer = Sha256::digest(self.issuer.as_bytes());
        let subject = Sha256::digest(self.subject.as_bytes());
        hex::encode(Sha256::new().chain_update(issuer).chain_update(subject).finalize())
    }
}

/// Somebody who signs in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Their id.
    pub id: PersonId,
    /// Who their provider says they are; none once they are erased.
    pub subject: Option<Subject>,
    /// The verified address, in lower case; empty once they are erased.
    pub email: String,
    /// What they are called, if their provider says so.
    pub name: Option<String>,
    /// 32 random bytes, hex, that tie the person to their name in the log; empty once they are erased.
    pub salt: String,
    /// When they first signed in.
    pub created_at: Time,
    /// When they were erased.
    pub erased_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

// An address or a name must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Person").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Person {
    /// How the audit log calls them: `person:` and the first 16 bytes, hex, of SHA-256 over salt and id. Without the salt
    /// nobody can tell whom it means, not even by trying all ids. None once they are erased.
    pub fn log_name(&self) -> Option<String> {
        if self.erased_at.is_some() || self.salt.is_empty() {
            return None;
        }
        let id = self.id.to_string();
        let digest = Sha256::new().chain_update(self.salt.as_bytes()).chain_update(id.as_bytes()).finalize();
        Some(format!("person:{}", hex::encode(&digest[..16])))
    }

    /// The same row with nothing left that says who it was.
    #[must_use]
    pub fn erased(self, now: Time) -> Self {
        Self {
            subject: None,
            email: String::new(),
            name: None,
            salt: String::new(),
            erased_at: Some(now),
            version: self.version + 1,
            ..self
        }
    }
}

/// An address in the one spelling it is compared in, or nothing if it is none: one `@`, a name of 1 to 64 characters
/// before it and a domain after it, printable ASCII without blanks, 254 characters at most (RFC 5321, 4.5.3.1).
pub fn email_of(text: &str) -> Option<String> {
    let text = text.trim();
    let (name, host) = text.split_once('@')?;
    let is_plain =
        text.len() <= 254 && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"(),;:\\".contains(&byte));
    let fits = is_plain && (1..=64).contains(&name.len()) && domain_of(host).is_some();
    fits.then(|| text.to_ascii_lowercase())
}

/// A domain in lower case, or nothing if it is none: two labels or more of letters, digits and inner hyphens.
pub fn domain_of(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let fits = text.len() <= 253 && text.contains('.') && text.split('.').all(is_label);
    fits.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(id: u128, salt: &str) -> Person {
        Person {
            id: PersonId::from_u128(id),
            subject: Some(Subject { issuer: "https://id.example".into(), subject: "7".into() }),
            email: "ada@example.eu".into(),
            name: Some("Ada".into()),
            salt: salt.into(),
            created_at: Time::from_millis(0),
            erased_at: None,
            version: 1,
        }
    }

    #[test]
    fn the_log_name_hangs_on_salt_and_id_and_is_gone_with_the_salt() {
        let name = person(1, "aa").log_name().unwrap();
        assert_eq!(name.len(), "person:".len() + 32);
        assert_eq!(Some(&name), person(1, "aa").log_name().as_ref(), "the same person keeps the same name");
        assert_ne!(Some(&name), person(2, "aa").log_name().as_ref());
        assert_ne!(Some(&name), person(1, "ab").log_name().as_ref());
        let gone = person(1, "aa").erased(Time::from_millis(1));
        assert_eq!(gone.log_name(), None);
        let kept = serde_json::to_string(&gone).unwrap();
        for trace in ["ada", "Ada", "aa\"", "id.example"] {
            assert!(!kept.contains(trace), "{trace} in {kept}");
        }
    }

    #[test]
    fn a_person_does_not_show_who_they_are_when_printed() {
        let shown = format!("{:?}", person(1, "aa"));
        assert!(!shown.contains("ada") && !shown.contains("Ada") && !shown.contains("aa"), "{shown}");
    }

    #[test]
    fn addresses_have_one_spelling_and_a_form() {
        assert_eq!(email_of(" Ada@Example.EU ").as_deref(), Some("ada@example.eu"));
        for wrong in [
            "",
            "ada",
            "@example.eu",
            "ada@",
            "ada@eu",
            "a@b@example.eu",
            "a b@example.eu",
            "a@ex ample.eu",
            "a@-x.eu",
            "a@x..eu",
            "ada@example.eu\r\nx: y",
            "adé@example.eu",
            "a,b@example.eu",
        ] {
            assert_eq!(email_of(wrong), None, "{wrong:?}");
        }
        assert_eq!(email_of(&format!("{}@example.eu", "a".repeat(65))), None);
        assert_eq!(domain_of("Example.EU").as_deref(), Some("example.eu"));
    }

    #[test]
    fn the_two_halves_of_a_subject_cannot_be_moved_against_each_other() {
        let of = |issuer: &str, subject: &str| Subject { issuer: issuer.into(), subject: subject.into() }.digest();
        assert_ne!(of("https://a", "bc"), of("https://ab", "c"));
        assert_eq!(of("https://a", "bc"), of("https://a", "bc"));
    }
}
