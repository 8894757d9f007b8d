//! Texts signed by the control plane (Ed25519), which sites check without asking anyone.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Why a signed text is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// It does not have the shape of a signed text.
    #[error("not a signed text")]
    Malformed,
    /// The signature is not the expected signer's, or the text was changed.
    #[error("the signature does not verify")]
    Forged,
    /// It was made for another purpose.
    #[error("signed for another purpose")]
    Purpose,
}

/// A body and its signature. The purpose is signed too, so that one kind can never pass for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The exact text that was signed, JSON.
    pub body: String,
    /// Signature over `purpose`, a zero byte and the body; URL-safe base64.
    pub signature: String,
}

impl Signed {
    /// Signs a value for a purpose.
    pub fn seal<T: Serialize>(key: &SigningKey, purpose: &str, value: &T) -> Self {
        let body = serde_json::to_string(value).expect("wire types always serialise");
        let signature = URL_SAFE_NO_PAD.encode(key.sign(&message(purpose, &body)).to_bytes());
        Self { body, signature }
    }

    /// Checks the signature and reads the value.
    pub fn open<T: DeserializeOwned>(&self, signer: &VerifyingKey, purpose: &str) -> Result<T, SignedError> {
        let raw = URL_SAFE_NO_PAD.decode(&self.signature).map_err(|_| SignedError::Malformed)?;
        let signature = Signature::from_slice(&raw).map_err(|_| SignedError::Malformed)?;
        signer.verify(&message(purpose, &self.body), &signature).map_err(|_| SignedError::Forged)?;
        serde_json::from_str(&self.body).map_err(|_| SignedError::Malformed)
    }

    /// One line, fit for a header: `base64url(body).signature`.
    pub fn to_line(&self) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&self.body), self.signature)
    }

    /// Reads a line back; says nothing yet about who signed it.
    pub fn from_line(line: &str) -> Result<Self, SignedError> {
        let (body, signature) = line.split_once('.').ok_or(SignedError::Malformed)?;
        let raw = URL_SAFE_NO_PAD.decode(body).map_err(|_| SignedError::Malformed)?;
        let body = String::from_utf8(raw).map_err(|_| SignedError::Malformed)?;
        Ok(Self { body, signature: signature.to_owned() })
    }
}

/// A verifying key from its hex text.
pub fn verifying_key(hex_text: &str) -> Option<VerifyingKey> {
    let raw: [u8; 32] = hex::decode(hex_text).ok()?.try_into().ok()?;
    VerifyingKey::from_bytes(&raw).ok()
}

fn message(purpose: &str, body: &str) -> Vec<u8> {
    [purpose.as_bytes(), &[0], body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_text_another_purpose_or_another_signer_is_not_believed() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let sealed = Signed::seal(&key, "grant", &"read");
        assert_eq!(sealed.open::<String>(&key.verifying_key(), "grant"), Ok("read".into()));
        assert_eq!(sealed.open::<String>(&key.verifying_key(), "intent"), Err(SignedError::Forged));
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(sealed.open::<String>(&other, "grant"), Err(SignedError::Forged));
        let changed = Signed { body: "\"write\"".into(), ..sealed.clone() };
        assert_eq!(changed.open::<String>(&key.verifying_key(), "grant"), Err(SignedError::Forged));
        assert_eq!(Signed::from_line(&sealed.to_line()), Ok(sealed));
    }
}
