//! The keys that verify notes, as C2SP `signed-note` and `tlog-cosignature` write them. Verifying itself needs a signature
//! scheme, which never comes to this room.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};

use super::note::{self, NoteError};

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Notes of its own: the log's Ed25519 key.
    Log,
    /// Checkpoints of others, with the time: a witness's Ed25519 key (`cosignature/v1`).
    Witness,
}

impl KeyKind {
    /// The byte that names the kind in key hashes and keys.
    const fn byte(self) -> u8 {
        match self {
            Self::Log => 0x01,
            Self::Witness => 0x04,
        }
    }
}

/// A public key with its name, written `NAME+HASH+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Whose it is: no white space, no plus sign.
    pub name: String,
    /// What it signs.
    pub kind: KeyKind,
    /// The Ed25519 public key.
    pub public: [u8; 32],
}

impl VerifierKey {
    /// Tells keys of one name apart: the first four bytes of SHA-256 over name, a line end, the kind's byte and the key.
    pub fn hash(&self) -> [u8; 4] {
        let said = Sha256::new().chain_update(&self.name).chain_update([b'\n', self.kind.byte()]);
        let digest = said.chain_update(self.public).finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind.byte()];
        key.extend_from_slice(&self.public);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.hash()), BASE64.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let wrong = |why| NoteError { why };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("a key is not `NAME+HASH+BASE64`"));
        };
        note::check_name(name)?;
        let bytes = BASE64.decode(key).map_err(|_| wrong("a key is not base64"))?;
        let (kind, public) = match bytes.split_first() {
            Some((0x01, public)) => (KeyKind::Log, public),
            Some((0x04, public)) => (KeyKind::Witness, public),
            _ => return Err(wrong("a key is of a kind this program does not know")),
        };
        let public = public.try_into().map_err(|_| wrong("a key has not 32 bytes"))?;
        let key = Self { name: name.into(), kind, public };
        if hex::encode(key.hash()) == hash { Ok(key) } else { Err(wrong("a key's hash is not that of the key")) }
    }
}

/// The bytes a witness signs: that it saw this checkpoint, and nothing else of that size, by that time (Unix seconds).
pub fn cosigned(at_seconds: u64, checkpoint: &str) -> String {
    format!("cosignature/v1\ntime {at_seconds}\n{checkpoint}")
}
