//! Witnesses: whoever saw a checkpoint, and that it continues the one before, signs it too (C2SP `tlog-cosignature`). A
//! log that shows two histories would have to show one of them to no witness.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use gregal_core::audit::{KeyKind, NoteError, NoteSignature, SignedNote, VerifierKey, cosigned};

/// What a private key begins with, as Go's `note` package writes it.
const PRIVATE: &str = "PRIVATE+KEY+";

/// The key of a witness. It shows itself nowhere but in [`WitnessKey::to_private`].
pub struct WitnessKey {
    name: String,
    key: SigningKey,
}

impl std::fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WitnessKey").field(&self.verifier().to_string()).finish()
    }
}

impl WitnessKey {
    /// From a name and 32 random bytes.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let made = Self { name: name.into(), key: SigningKey::from_bytes(seed) };
        // A name that cannot be read back is no name.
        made.verifier().to_string().parse::<VerifierKey>()?;
        Ok(made)
    }

    /// Reads what [`WitnessKey::to_private`] wrote.
    pub fn from_private(text: &str) -> Result<Self, NoteError> {
        let wrong = || NoteError { why: "it is no private key of a witness" };
        let mut parts = text.trim_end().strip_prefix(PRIVATE).ok_or_else(wrong)?.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        let bytes = BASE64.decode(key).map_err(|_| wrong())?;
        let Some((0x04, seed)) = bytes.split_first() else { return Err(wrong()) };
        let read = Self::new(name, seed.try_into().map_err(|_| wrong())?)?;
        if hex::encode(read.verifier().hash()) == hash { Ok(read) } else { Err(wrong()) }
    }

    /// The key itself, as a line for a file only its owner reads.
    pub fn to_private(&self) -> String {
        let mut key = vec![0x04];
        key.extend_from_slice(&self.key.to_bytes());
        format!("{PRIVATE}{}+{}+{}\n", self.name, hex::encode(self.verifier().hash()), BASE64.encode(key))
    }

    /// What others verify its cosignatures with.
    pub fn verifier(&self) -> VerifierKey {
        let public = self.key.verifying_key().to_bytes();
        VerifierKey { name: self.name.clone(), kind: KeyKind::Witness, public }
    }

    /// Adds this witness's cosignature to a signed checkpoint, in place of an earlier one of its own.
    pub fn cosign(&self, note: &str, at_seconds: u64) -> Result<String, NoteError> {
        let mut note = SignedNote::from_text(note)?;
        let verifier = self.verifier();
        note.signatures.retain(|line| line.name != verifier.name || line.key_hash != verifier.hash());
        let mut signature = at_seconds.to_be_bytes().to_vec();
        signature.extend_from_slice(&self.key.sign(cosigned(at_seconds, &note.text).as_bytes()).to_bytes());
        note.signatures.push(NoteSignature { name: verifier.name.clone(), key_hash: verifier.hash(), signature });
        note.to_text()
    }
}

/// When a witness cosigned this checkpoint, in Unix seconds; none if it did not.
pub fn cosigned_at(note: &str, witness: &VerifierKey) -> Option<u64> {
    let note = SignedNote::from_text(note).ok()?;
    let key = VerifyingKey::from_bytes(&witness.public).ok().filter(|_| witness.kind == KeyKind::Witness)?;
    let of_it = note.signatures.iter().filter(|line| line.name == witness.name && line.key_hash == witness.hash());
    of_it.filter_map(|line| line.signature.split_first_chunk::<8>()).find_map(|(time, signature)| {
        let at_seconds = u64::from_be_bytes(*time);
        let signature = Signature::from_slice(signature).ok()?;
        key.verify_strict(cosigned(at_seconds, &note.text).as_bytes(), &signature).ok().map(|()| at_seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_vouches_for_the_checkpoint_it_saw_and_no_other() {
        let witness = WitnessKey::new("witness.example/w1", &[9; 32]).unwrap();
        let note = "log\n1\nAAAA\n\n\u{2014} log AAAAAAA=\n";
        let signed = witness.cosign(&witness.cosign(note, 5).unwrap(), 77).unwrap();
        assert_eq!(signed.matches("witness.example").count(), 1);
        assert_eq!(cosigned_at(&signed, &witness.verifier()), Some(77));
        assert_eq!(cosigned_at(note, &witness.verifier()), None);
        assert_eq!(cosigned_at(&signed.replacen("log\n1\n", "log\n2\n", 1), &witness.verifier()), None);
        let other = WitnessKey::new("witness.example/w1", &[8; 32]).unwrap();
        assert_eq!(cosigned_at(&signed, &other.verifier()), None);
        let as_log = VerifierKey { kind: KeyKind::Log, ..witness.verifier() };
        assert_eq!(cosigned_at(&signed, &as_log), None);
    }

    #[test]
    fn a_witnesss_key_reads_back_and_shows_itself_nowhere_else() {
        let witness = WitnessKey::new("w", &[9; 32]).unwrap();
        let text = witness.to_private();
        let read = WitnessKey::from_private(&text).unwrap();
        assert_eq!(read.verifier(), witness.verifier());
        assert!(!format!("{witness:?}").contains(&BASE64.encode([9; 32])[4..30]));
        for damaged in ["", "PRIVATE+KEY+w", &text.replacen("+w+", "+v+", 1), &text.replacen("BAkJ", "AQkJ", 1)] {
            assert!(WitnessKey::from_private(damaged).is_err(), "{damaged}");
        }
        assert!(WitnessKey::new("a b", &[9; 32]).is_err());
    }
}
