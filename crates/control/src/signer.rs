//! The cloud's signing key: intents, grants and audit checkpoints are signed with it. It never leaves this file.

use ed25519_dalek::SigningKey;
use gregal_api::{
    audit::note_seal,
    grant::{GRANT_PURPOSE, GrantBody},
    protocol::{INTENT_PURPOSE, Intent},
    signed::Signed,
};
use gregal_core::audit::{Checkpoint, ViewHead};

use crate::{Error, Result};

/// Signs for the cloud.
pub(crate) struct Signer(SigningKey);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Signer").field(&self.public_hex()).finish()
    }
}

impl Signer {
    /// From the key's 32 bytes.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The public key, hex.
    pub(crate) fn public_hex(&self) -> String {
        hex::encode(self.0.verifying_key().to_bytes())
    }

    /// An intent, signed.
    pub(crate) fn intent(&self, intent: &Intent) -> Signed {
        Signed::seal(&self.0, INTENT_PURPOSE, intent)
    }

    /// A grant, signed, as one line for a header.
    pub(crate) fn grant(&self, body: &GrantBody) -> String {
        Signed::seal(&self.0, GRANT_PURPOSE, body).to_line()
    }

    /// A checkpoint as a C2SP signed note. Notes hold no zero byte and the other purposes do, so that no signature of one
    /// kind can pass for another.
    pub(crate) fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<String> {
        note_seal(&checkpoint.origin, checkpoint.to_text(), &self.0).map_err(|error| Error::Broken(error.to_string()))
    }

    /// The head of an organisation's view as a signed note. Its first lines are no checkpoint's.
    pub(crate) fn view_head(&self, head: &ViewHead) -> Result<String> {
        note_seal(&head.origin, head.to_text(), &self.0).map_err(|error| Error::Broken(error.to_string()))
    }
}
