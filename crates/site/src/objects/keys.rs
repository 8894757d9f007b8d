//! The site's key: wraps the key of every object. Whoever destroys it erases everything the site keeps.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use gregal_core::world::World;
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::durable;

/// 256 bits that never leave the site.
#[derive(Clone)]
pub struct SiteKey([u8; 32]);

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteKey({})", hex::encode(self.name()))
    }
}

impl SiteKey {
    /// A key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the key, or makes one where there is neither a key nor anything stored under one.
    pub fn load(path: &Path, world: &dyn World, something_stored: bool) -> Result<Self, Error> {
        let bad = |why| Error::Key { path: path.display().to_string(), why };
        if let Some(text) = durable::read(path).map_err(Error::io("could not read the site key"))? {
            let mode = fs::metadata(path).map_err(Error::io("could not read the site key"))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(bad("others may read it; `chmod 600` it, and think of it as known"));
            }
            let raw = std::str::from_utf8(&text).ok().and_then(|text| hex::decode(text.trim()).ok());
            let raw = raw.and_then(|raw| raw.try_into().ok());
            return raw.map(Self).ok_or_else(|| bad("it is not 64 hex digits"));
        }
        if something_stored {
            return Err(bad("it is not there, and objects are stored under it; put it back"));
        }
        let mut raw = [0u8; 32];
        world.fill(&mut raw);
        Self::save(path, &raw).map_err(Error::io("could not make the site key"))?;
        Ok(Self(raw))
    }

    fn save(path: &Path, raw: &[u8; 32]) -> io::Result<()> {
        let folder = path.parent().ok_or_else(|| io::Error::other("a file lies in a folder"))?;
        durable::private_folder(folder)?;
        let temporary = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(hex::encode(raw).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        durable::folder_sync(folder)
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the key is called in the head of objects: tells nothing about it.
    pub(super) fn name(&self) -> [u8; 8] {
        let digest = Sha256::new().chain_update(b"gregal site key name\0").chain_update(self.0).finalize();
        let mut name = [0u8; 8];
        name.copy_from_slice(&digest[..8]);
        name
    }
}
