//! Where objects lie, and how they get in and out. Everything here blocks; async callers use blocking threads.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use gregal_core::world::World;
use sha2::{Digest as _, Sha256};

use super::{
    Error, SiteKey, is_digest,
    seal::{Binding, CHUNK_BYTES, HEAD_BYTES, ObjectCipher, TAG_BYTES, Unsealed},
};
use crate::durable;

/// The site's objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keep {
    folder: PathBuf,
    key: SiteKey,
    world: Arc<dyn World>,
}

/// An object that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of its bytes, hex.
    pub digest: String,
    /// Its size, in bytes.
    pub bytes: u64,
}

impl Keep {
    /// Opens the keep in a folder with a key; what half-made writes left there is removed.
    pub fn open(folder: &Path, key: SiteKey, world: Arc<dyn World>) -> Result<Self, Error> {
        let doing = "could not open the objects' folder";
        let keep = Self { folder: folder.to_owned(), key, world };
        durable::private_folder(folder).map_err(Error::io(doing))?;
        durable::remove_folder(&keep.unfinished()).map_err(Error::io(doing))?;
        durable::private_folder(&keep.unfinished()).map_err(Error::io(doing))?;
        Ok(keep)
    }

    /// Whether a folder holds objects of some key.
    pub fn holds_something(folder: &Path) -> bool {
        let spaces = fs::read_dir(folder).into_iter().flatten().flatten();
        spaces
            .filter(|space| space.file_name() != "unfinished")
            .any(|space| fs::read_dir(space.path()).into_iter().flatten().flatten().next().is_some())
    }

    /// Begins to store an object in an organisation's space.
    pub fn write(&self, space: &str, bytes_max: u64) -> Result<Writer, Error> {
        let mut raw = [0u8; 32];
        self.world.fill(&mut raw);
        let mut name = [0u8; 16];
        self.world.fill(&mut name);
        let path = self.unfinished().join(hex::encode(name));
        let file = File::create_new(&path).map_err(Error::io("could not begin an object"))?;
        Writer::begin(self.clone(), space.to_owned(), bytes_max, path, file, raw)
    }

    /// Begins to read an object of a space.
    pub fn read(&self, space: &str, digest: &str) -> Result<Reader, Error> {
        let not_found = || Error::NotFound { digest: digest.chars().take(64).collect() };
        let path = self.path(space, digest).ok_or_else(not_found)?;
        let file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => not_found(),
            _ => Error::io("could not open an object")(error),
        })?;
        Reader::begin(file, &self.key, space, digest)
    }

    /// Whether an object is there. Says nothing about its health.
    pub fn has(&self, space: &str, digest: &str) -> bool {
        self.path(space, digest).is_some_and(|path| path.is_file())
    }

    /// Removes an object; fine if it is not there.
    pub fn remove(&self, space: &str, digest: &str) -> Result<(), Error> {
        let doing = "could not remove an object";
        let Some(path) = self.path(space, digest) else { return Ok(()) };
        match fs::remove_file(&path) {
            Ok(()) => {
                let folder = path.parent().unwrap_or(&self.folder);
                durable::folder_sync(folder).map_err(Error::io(doing))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(doing)(error)),
        }
    }

    fn unfinished(&self) -> PathBuf {
        self.folder.join("unfinished")
    }

    /// Where an object lies. None if the digest is none, or the space could name another folder.
    fn path(&self, space: &str, digest: &str) -> Option<PathBuf> {
        let plain = !space.is_empty() && space.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (plain && space != "unfinished" && is_digest(digest)).then(|| self.folder.join(space).join(digest))
    }
}

/// An object on its way in. Dropped before [`Writer::finish`], it leaves nothing.
pub struct Writer {
    keep: Keep,
    space: String,
    bytes_max: u64,
    path: PathBuf,
    file: BufWriter<File>,
    cipher: ObjectCipher,
    hash: Sha256,
    chunk: Vec<u8>,
    chunks: u64,
    bytes: u64,
    done: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Writer {
    fn begin(
        keep: Keep,
        space: String,
        bytes_max: u64,
        path: PathBuf,
        file: File,
        raw: [u8; 32],
    ) -> Result<Self, Error> {
        let mut writer = Self {
            keep,
            space,
            bytes_max,
            path,
            file: BufWriter::with_capacity(CHUNK_BYTES + TAG_BYTES, file),
            cipher: ObjectCipher::new(raw),
            hash: Sha256::new(),
            chunk: Vec::with_capacity(CHUNK_BYTES + TAG_BYTES),
            chunks: 0,
            bytes: 0,
            done: false,
        };
        // The head names the digest, which is known last: room for it now, the real one at the end.
        writer.file.write_all(&[0; HEAD_BYTES]).map_err(Error::io("could not begin an object"))?;
        Ok(writer)
    }

    /// Takes the next bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(Error::TooLarge { bytes_max: self.bytes_max });
        }
        self.hash.update(bytes);
        while !bytes.is_empty() {
            // A full chunk is written when more follows: only then is it known not to be the last.
            if self.chunk.len() == CHUNK_BYTES {
                self.flush(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn flush(&mut self, last: bool) -> Result<(), Error> {
        self.cipher.seal(self.chunks, last, &mut self.chunk);
        self.file.write_all(&self.chunk).map_err(Error::io("could not write an object"))?;
        self.chunk.clear();
        self.chunks += 1;
        Ok(())
    }

    /// Makes durable what came so far, so that little is left to do when it ends.
    pub fn sync(&mut self) -> Result<(), Error> {
        let doing = "could not write an object";
        self.file.flush().map_err(Error::io(doing))?;
        self.file.get_ref().sync_data().map_err(Error::io(doing))
    }

    /// Makes the object durable under the digest of its bytes; with `expected`, only if that is the one.
    pub fn finish(mut self, expected: Option<&str>) -> Result<Stored, Error> {
        self.flush(true)?;
        let digest = hex::encode(std::mem::take(&mut self.hash).finalize());
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::DigestMismatch { expected: expected.chars().take(64).collect(), found: digest });
        }
        self.land(&digest)?;
        self.done = true;
        Ok(Stored { digest, bytes: self.bytes })
    }

    fn land(&mut self, digest: &str) -> Result<(), Error> {
        let doing = "could not write an object";
        let path = self.keep.path(&self.space, digest).ok_or_else(|| Error::NotFound { digest: digest.into() })?;
        let mut nonce = [0u8; 24];
        self.keep.world.fill(&mut nonce);
        let binding = Binding { space: &self.space, digest, length: self.bytes };
        let head = self.cipher.head(&self.keep.key, nonce, &binding);
        self.file.seek(SeekFrom::Start(0)).map_err(Error::io(doing))?;
        self.file.write_all(&head).map_err(Error::io(doing))?;
        self.file.flush().map_err(Error::io(doing))?;
        self.file.get_ref().sync_all().map_err(Error::io(doing))?;
        let folder = path.parent().unwrap_or(&self.keep.folder);
        durable::private_folder(folder).map_err(Error::io(doing))?;
        fs::rename(&self.path, &path).map_err(Error::io(doing))?;
        durable::folder_sync(folder).map_err(Error::io(doing))?;
        durable::folder_sync(&self.keep.folder).map_err(Error::io(doing))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is removed when the keep opens next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// An object on its way out. Nothing comes out that does not verify.
pub struct Reader {
    file: BufReader<File>,
    cipher: ObjectCipher,
    digest: String,
    length: u64,
    left: u64,
    number: u64,
    hash: Sha256,
    ended: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("digest", &self.digest).field("left", &self.left).finish_non_exhaustive()
    }
}

impl Reader {
    fn begin(file: File, key: &SiteKey, space: &str, digest: &str) -> Result<Self, Error> {
        let damaged = |what| Error::Damaged { digest: digest.to_owned(), what };
        let on_disk = file.metadata().map_err(Error::io("could not read an object"))?.len();
        let mut file = BufReader::with_capacity(CHUNK_BYTES + TAG_BYTES, file);
        let mut head = [0u8; HEAD_BYTES];
        file.read_exact(&mut head).map_err(|_| damaged("its head is not whole"))?;
        let (cipher, length) = ObjectCipher::open(&head, key, space, digest).map_err(|why| match why {
            Unsealed::WrongKey => Error::WrongKey { digest: digest.to_owned() },
            Unsealed::Shape => damaged("it is no object"),
            Unsealed::Forged => damaged("its head does not verify"),
        })?;
        if on_disk != size_on_disk(length) {
            return Err(damaged("its length does not fit"));
        }
        let digest = digest.to_owned();
        Ok(Self { file, cipher, digest, length, left: length, number: 0, hash: Sha256::new(), ended: false })
    }

    /// Its size, in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The next bytes, verified; none at the end, once the digest of the whole was verified too.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let damaged = |what| Error::Damaged { digest: self.digest.clone(), what };
        if self.ended {
            return Ok(None);
        }
        let plain = self.left.min(CHUNK_BYTES as u64);
        let last = self.left <= CHUNK_BYTES as u64;
        let mut chunk = vec![0u8; plain as usize + TAG_BYTES];
        self.file.read_exact(&mut chunk).map_err(|_| damaged("a part is missing"))?;
        self.cipher.unseal(self.number, last, &mut chunk).map_err(|_| damaged("a part does not verify"))?;
        self.hash.update(&chunk);
        self.number += 1;
        self.left -= plain;
        if last {
            self.ended = true;
            if hex::encode(std::mem::take(&mut self.hash).finalize()) != self.digest {
                return Err(damaged("its digest does not fit"));
            }
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Writes the whole object to a file that only this program's user may read. The file is removed if anything fails.
    pub fn save(mut self, path: &Path) -> Result<u64, Error> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let doing = "could not unpack an object";
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(Error::io(doing))?;
        let copied = (|| {
            while let Some(chunk) = self.next_chunk()? {
                file.write_all(&chunk).map_err(Error::io(doing))?;
            }
            Ok(self.length)
        })();
        if copied.is_err() {
            let _ = fs::remove_file(path);
        }
        copied
    }

    /// The whole object in memory; for small ones.
    pub fn read_all(mut self, bytes_max: u64) -> Result<Vec<u8>, Error> {
        if self.length > bytes_max {
            return Err(Error::TooLarge { bytes_max });
        }
        let mut all = Vec::with_capacity(self.length as usize);
        while let Some(chunk) = self.next_chunk()? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}

/// The size of a file that holds an object of so many plain bytes.
fn size_on_disk(length: u64) -> u64 {
    let chunks = length.div_ceil(CHUNK_BYTES as u64).max(1);
    HEAD_BYTES as u64 + length.saturating_add(chunks.saturating_mul(TAG_BYTES as u64))
}

#[cfg(test)]
mod tests {
    use gregal_core::world::RealWorld;

    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::open(folder.path(), SiteKey::from_bytes([1; 32]), Arc::new(RealWorld)).unwrap();
        // `/dev/full` answers every write as a full disk does; the name beside it stands for the half-made file.
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let name = keep.unfinished().join("x");
        fs::write(&name, "half-made").unwrap();
        let begun = Writer::begin(keep.clone(), "org".into(), u64::MAX, name.clone(), full, [2; 32]);
        let failed = begun.and_then(|mut writer| {
            writer.write(&vec![7; 3 * CHUNK_BYTES])?;
            writer.finish(None)
        });
        assert!(matches!(failed, Err(Error::Full)), "{failed:?}");
        assert!(!name.exists(), "the half-made file is gone");
        assert!(!Keep::holds_something(folder.path()));
    }
}
