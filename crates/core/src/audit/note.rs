//! C2SP `signed-note`: a text, an empty line, and lines of signatures. Here it is only read and written; signing and
//! verifying need keys, which never come to this room.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::{KeyKind, VerifierKey};

/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";
/// The most bytes a note may have.
const NOTE_BYTES_MAX: usize = 65_536;
/// The most signatures a note may carry.
const SIGNATURES_MAX: usize = 64;

/// One signature under a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The signer's key name: no white space, no plus sign.
    pub name: String,
    /// Tells keys of one name apart, see [`key_hash_ed25519`].
    pub key_hash: [u8; 4],
    /// The signature's bytes, 64 for Ed25519.
    pub signature: Vec<u8>,
}

/// A note as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    /// The signed text. Ends with a line end; that, and no more, is what signatures cover.
    pub text: String,
    /// At least one signature.
    pub signatures: Vec<NoteSignature>,
}

/// Why a note cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a signed note: {why}")]
pub struct NoteError {
    /// What is wrong.
    pub why: &'static str,
}

/// The key hash of an Ed25519 key: the first four bytes of SHA-256 over its name, a line end, the byte 1 and the key.
pub fn key_hash_ed25519(name: &str, public_key: &[u8; 32]) -> [u8; 4] {
    VerifierKey { name: name.into(), kind: KeyKind::Log, public: *public_key }.hash()
}

/// How verifiers are told a key: `NAME+HASH+BASE64`, where the last part is the byte 1 and the key.
pub fn verifier_key_ed25519(name: &str, public_key: &[u8; 32]) -> String {
    VerifierKey { name: name.into(), kind: KeyKind::Log, public: *public_key }.to_string()
}

impl SignedNote {
    /// Writes the note, if it can be read back.
    pub fn to_text(&self) -> Result<String, NoteError> {
        check_text(&self.text)?;
        let mut lines = String::new();
        if self.signatures.is_empty() || self.signatures.len() > SIGNATURES_MAX {
            return Err(NoteError { why: "it has no signature, or too many" });
        }
        for signature in &self.signatures {
            check_name(&signature.name)?;
            if signature.signature.is_empty() {
                return Err(NoteError { why: "a signature is empty" });
            }
            let mut bytes = signature.key_hash.to_vec();
            bytes.extend_from_slice(&signature.signature);
            lines.extend([DASH, &signature.name, " ", &BASE64.encode(bytes), "\n"]);
        }
        Ok(format!("{}\n{lines}", self.text))
    }

    /// Reads a note. The text is everything up to the last empty line, so signature lines cannot be smuggled into it.
    pub fn from_text(note: &str) -> Result<Self, NoteError> {
        let wrong = |why| NoteError { why };
        if note.len() > NOTE_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let end = note.rfind("\n\n").ok_or(wrong("it has no empty line before signatures"))?;
        let (text, lines) = (&note[..=end], &note[end + 2..]);
        check_text(text)?;
        let lines = lines.strip_suffix('\n').ok_or(wrong("it has no signature, or the last one no line end"))?;
        let signatures = lines.split('\n').map(read_signature).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(wrong("it has too many signatures"));
        }
        Ok(Self { text: text.into(), signatures })
    }
}

fn read_signature(line: &str) -> Result<NoteSignature, NoteError> {
    let wrong = NoteError { why: "a signature line is not `\u{2014} NAME BASE64`" };
    let (name, body) = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).ok_or(wrong.clone())?;
    check_name(name)?;
    let bytes = BASE64.decode(body).map_err(|_| wrong.clone())?;
    let (key_hash, signature) = bytes.split_first_chunk::<4>().ok_or(wrong.clone())?;
    if signature.is_empty() {
        return Err(wrong);
    }
    Ok(NoteSignature { name: name.into(), key_hash: *key_hash, signature: signature.to_vec() })
}

pub(super) fn check_name(name: &str) -> Result<(), NoteError> {
    if name.is_empty() || name.contains('+') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(NoteError { why: "a key name is empty or has a space or a plus sign" });
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError { why: "its text does not end a line" });
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError { why: "its text has control characters" });
    }
    Ok(())
}
