//! Objects: bytes of tenants, found by the digest of what they say, encrypted where they lie.
//!
//! Every object has a random key of its own, wrapped by the site's key. An organisation's objects lie in its own space:
//! equal bytes of two organisations are two objects, so that neither learns of the other's, and erasing one is complete.
//! Its datasets and its models lie apart for the same reason: a dataset that is removed takes no model's file along.

mod keep;
mod keys;
mod model;
mod seal;

pub use keep::{Keep, Reader, Stored, Writer};
pub use keys::SiteKey;
pub use model::{StoredModel, materialise, store_folder};

use std::io;

use gregal_core::id::OrganisationId;

/// The space of an organisation's datasets.
pub fn datasets_of(organisation: OrganisationId) -> String {
    organisation.to_string()
}

/// The space of an organisation's models.
pub fn models_of(organisation: OrganisationId) -> String {
    format!("{organisation}_models")
}

/// Why an object could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object in that space.
    #[error("no object `{digest}` is stored at this site")]
    NotFound {
        /// What was asked for.
        digest: String,
    },
    /// The bytes on disk are not those that were stored.
    #[error("the object `{digest}` is damaged: {what}")]
    Damaged {
        /// Which object.
        digest: String,
        /// What does not fit.
        what: &'static str,
    },
    /// It was stored under another site key.
    #[error("the object `{digest}` was stored under another site key")]
    WrongKey {
        /// Which object.
        digest: String,
    },
    /// What arrived is not what was announced.
    #[error("the bytes have the digest `{found}`, announced was `{expected}`; nothing was stored")]
    DigestMismatch {
        /// What was announced.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// More bytes than an object may have.
    #[error("an object has at most {bytes_max} bytes; nothing was stored")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// The disk has no room.
    #[error("the site's disk has no room; nothing was stored")]
    Full,
    /// The site's key cannot be used.
    #[error("the site key `{path}` cannot be used: {why}")]
    Key {
        /// Where it lies.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A model's files are not what a model is made of.
    #[error("the model's folder cannot be stored: {0}")]
    Model(String),
    /// The disk did not do its part.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What came of it.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::Full,
            _ => Self::Io { doing, source },
        }
    }
}

/// Whether a text is a digest as this room writes it: 64 lower-case hex digits. What is not may not become a path.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
