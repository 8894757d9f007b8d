//! The shape of an object on disk.
//!
//! ```text
//! head   magic 8 | name of the site key 8 | plain length 8 | nonce 24 | wrapped object key 32 + tag 16
//! chunk  up to 64 KiB of plain bytes, encrypted, + tag 16; the last one may be shorter, and is always there
//! ```
//!
//! XChaCha20-Poly1305. The object key is random and used for one object only, so a chunk's nonce can be its number. It is
//! wrapped with the space, digest and length as associated data, which binds every chunk to them; a chunk's own
//! associated data is its number and whether it is the last. So chunks that were changed, swapped, dropped, appended or
//! taken from another object do not open.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{AeadInOut as _, Buffer},
};

use super::SiteKey;

/// Plain bytes in a chunk.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// What encryption adds to a chunk.
pub(super) const TAG_BYTES: usize = 16;
/// Size of the head.
pub(super) const HEAD_BYTES: usize = 8 + 8 + 8 + 24 + 32 + TAG_BYTES;

const MAGIC: &[u8; 8] = b"gregobj1";

/// Why something does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsealed {
    Shape,
    WrongKey,
    Forged,
}

/// What an object is bound to.
pub(super) struct Binding<'a> {
    pub(super) space: &'a str,
    pub(super) digest: &'a str,
    pub(super) length: u64,
}

impl Binding<'_> {
    fn bytes(&self) -> Vec<u8> {
        format!("gregal object\n{}\n{}\n{}", self.space, self.digest, self.length).into_bytes()
    }
}

/// Encrypts and decrypts the chunks of one object.
pub(super) struct ObjectCipher {
    cipher: XChaCha20Poly1305,
    raw: [u8; 32],
}

impl ObjectCipher {
    pub(super) fn new(raw: [u8; 32]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(&raw.into()), raw }
    }

    /// The head that carries this object's key to whoever has the site's.
    pub(super) fn head(&self, site: &SiteKey, nonce: [u8; 24], binding: &Binding<'_>) -> Vec<u8> {
        let mut wrapped = self.raw.to_vec();
        XChaCha20Poly1305::new(&(*site.bytes()).into())
            .encrypt_in_place(&XNonce::from(nonce), &binding.bytes(), &mut wrapped)
            .expect("32 bytes are never too many to encrypt");
        [MAGIC.as_slice(), &site.name(), &binding.length.to_le_bytes(), &nonce, &wrapped].concat()
    }

    /// Opens a head: the cipher and the object's plain length.
    pub(super) fn open(head: &[u8], site: &SiteKey, space: &str, digest: &str) -> Result<(Self, u64), Unsealed> {
        let fields: &[u8; HEAD_BYTES] = head.try_into().map_err(|_| Unsealed::Shape)?;
        if &fields[..8] != MAGIC {
            return Err(Unsealed::Shape);
        }
        if fields[8..16] != site.name() {
            return Err(Unsealed::WrongKey);
        }
        let length = u64::from_le_bytes(fields[16..24].try_into().map_err(|_| Unsealed::Shape)?);
        let nonce: [u8; 24] = fields[24..48].try_into().map_err(|_| Unsealed::Shape)?;
        let mut wrapped = fields[48..].to_vec();
        XChaCha20Poly1305::new(&(*site.bytes()).into())
            .decrypt_in_place(&XNonce::from(nonce), &Binding { space, digest, length }.bytes(), &mut wrapped)
            .map_err(|_| Unsealed::Forged)?;
        let raw = wrapped.try_into().map_err(|_| Unsealed::Forged)?;
        Ok((Self::new(raw), length))
    }

    /// Encrypts a chunk in place.
    pub(super) fn seal(&self, number: u64, last: bool, chunk: &mut dyn Buffer) {
        let (nonce, bound) = of_chunk(number, last);
        self.cipher.encrypt_in_place(&nonce, &bound, chunk).expect("a chunk is never too large to encrypt");
    }

    /// Decrypts a chunk in place.
    pub(super) fn unseal(&self, number: u64, last: bool, chunk: &mut dyn Buffer) -> Result<(), Unsealed> {
        let (nonce, bound) = of_chunk(number, last);
        self.cipher.decrypt_in_place(&nonce, &bound, chunk).map_err(|_| Unsealed::Forged)
    }
}

fn of_chunk(number: u64, last: bool) -> (XNonce, [u8; 9]) {
    let mut nonce = [0u8; 24];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    let mut bound = [0u8; 9];
    bound[..8].copy_from_slice(&number.to_le_bytes());
    bound[8] = u8::from(last);
    (XNonce::from(nonce), bound)
}
