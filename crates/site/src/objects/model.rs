//! A model is a folder of files, some of them in folders of one level (`adapter/`). Its address is the SHA-256 of its
//! manifest: a line `<sha256 of file>  <name>` for each file, in the order of names; the name of a file in a folder is
//! `folder/file`. Manifest and files are objects like any other.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{Error, Keep, is_digest};
use crate::durable;

/// The most files a model has.
const FILES_MAX: usize = 1_000;
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// The largest single file of a model, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 40;

/// A model that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredModel {
    /// SHA-256 of its manifest, hex: the address it is stored under.
    pub digest: String,
    /// Size of its files together.
    pub bytes: u64,
}

/// Stores the files of a folder as a model in a space. Storing the same files again is the same act.
pub fn store_folder(keep: &Keep, space: &str, folder: &Path) -> Result<StoredModel, Error> {
    let mut files = BTreeMap::new();
    let mut subfolders = Vec::new();
    list(folder, "", &mut files, &mut subfolders)?;
    for (name, path) in subfolders {
        let mut deeper = Vec::new();
        list(&path, &format!("{name}/"), &mut files, &mut deeper)?;
        if let Some((name, _)) = deeper.first() {
            return Err(Error::Model(format!("`{name}` is a folder in a folder; one level is stored")));
        }
    }
    if files.is_empty() {
        return Err(Error::Model("it is empty".into()));
    }
    let mut manifest = String::new();
    let mut bytes = 0;
    for (name, path) in &files {
        let stored = store_file(keep, space, path)?;
        manifest += &stored.digest;
        manifest += "  ";
        manifest += name;
        manifest += "\n";
        bytes += stored.bytes;
    }
    let mut writer = keep.write(space, MANIFEST_BYTES_MAX)?;
    writer.write(manifest.as_bytes())?;
    Ok(StoredModel { digest: writer.finish(None)?.digest, bytes })
}

/// Lists what a folder holds: plain files by their names behind `prefix`, and folders apart.
fn list(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, PathBuf>,
    subfolders: &mut Vec<(String, PathBuf)>,
) -> Result<(), Error> {
    let doing = "could not read a model's folder";
    for entry in fs::read_dir(folder).map_err(unreadable(doing))? {
        let entry = entry.map_err(unreadable(doing))?;
        let name = entry.file_name().into_string().map_err(|_| Error::Model("a file's name is no text".into()))?;
        let name = format!("{prefix}{name}");
        // A link would lead out of the sandbox that made the folder.
        let about = fs::symlink_metadata(entry.path()).map_err(unreadable(doing))?;
        if !(about.is_file() || about.is_dir()) || !is_name(&name) {
            return Err(Error::Model(format!("`{name}` is not a plain file")));
        }
        if files.len() + subfolders.len() == FILES_MAX {
            return Err(Error::Model(format!("it has more than {FILES_MAX} files")));
        }
        if about.is_dir() {
            subfolders.push((name, entry.path()));
        } else {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

/// What is not there, or closed to everybody, is the fault of who made the folder; the rest is the disk's.
fn unreadable(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => Error::Model("its folder or a file of it is not there".into()),
        io::ErrorKind::NotADirectory => Error::Model("its folder is no folder".into()),
        io::ErrorKind::PermissionDenied => Error::Model("a file of it may not be read".into()),
        _ => Error::io(doing)(error),
    }
}

fn store_file(keep: &Keep, space: &str, path: &Path) -> Result<super::Stored, Error> {
    let doing = "could not read a model's file";
    let mut file = File::open(path).map_err(unreadable(doing))?;
    let mut writer = keep.write(space, FILE_BYTES_MAX)?;
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(Error::io(doing))?;
        if read == 0 {
            return writer.finish(None);
        }
        writer.write(&buffer[..read])?;
    }
}

/// The files of a model: name and digest.
fn manifest(keep: &Keep, space: &str, digest: &str) -> Result<Vec<(String, String)>, Error> {
    let text = keep.read(space, digest)?.read_all(MANIFEST_BYTES_MAX)?;
    let damaged = || Error::Damaged { digest: digest.to_owned(), what: "it is not the manifest of a model" };
    let text = String::from_utf8(text).map_err(|_| damaged())?;
    let parse = |line: &str| {
        let (file, name) = line.split_once("  ")?;
        (is_digest(file) && is_name(name)).then(|| (name.to_owned(), file.to_owned()))
    };
    let files: Option<Vec<_>> = text.lines().map(parse).collect();
    files.filter(|files| !files.is_empty() && files.len() <= FILES_MAX).ok_or_else(damaged)
}

/// Unpacks a model into a fresh private folder. If anything fails the folder is removed.
pub fn materialise(keep: &Keep, space: &str, digest: &str, folder: &Path) -> Result<(), Error> {
    let doing = "could not make a model's folder";
    durable::remove_folder(folder).map_err(Error::io(doing))?;
    durable::private_folder(folder).map_err(Error::io(doing))?;
    let unpacked = manifest(keep, space, digest).and_then(|files| {
        files.iter().try_for_each(|(name, file)| {
            if let Some((subfolder, _)) = name.split_once('/') {
                durable::private_folder(&folder.join(subfolder)).map_err(Error::io(doing))?;
            }
            keep.read(space, file)?.save(&folder.join(name)).map(drop)
        })
    });
    if unpacked.is_err() {
        let _ = durable::remove_folder(folder);
    }
    unpacked
}

/// A file's name, alone or behind the name of its one folder: nothing that leads anywhere else.
fn is_name(name: &str) -> bool {
    match name.split_once('/') {
        Some((folder, file)) => is_plain(folder) && is_plain(file),
        None => is_plain(name),
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.len() <= 255 && !name.contains(['/', '\n', '\r', '\0'])
}
