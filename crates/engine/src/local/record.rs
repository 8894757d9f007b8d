//! What is kept on disk about one workload: small files in a folder of its own, each written whole or not at all.
//!
//! `spec` says which workload it is (a digest: environments hold secrets), `began`, `counted` and `exit` say how it
//! went, `lock` is held by stage 1 for as long as anything of it lives.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Exit;
use crate::cgroup::Group;

/// What was counted last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub cpu_ms: u64,
    pub memory_peak_bytes: u64,
    pub at_ms: u64,
}

/// What was decided when it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// SHA-256 of the workload as JSON.
    pub digest: String,
    pub accepted_ms: u64,
    pub group: Option<Group>,
    #[serde(default)]
    pub gpus: Vec<Granted>,
}

/// A GPU that a workload was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    pub uuid: String,
    /// The most it was allowed to draw then, in milliwatts.
    pub limit_mw: Option<u64>,
}

/// The folder of one workload.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    dir: PathBuf,
}

impl Record {
    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the stages write what went wrong with themselves.
    pub(crate) fn complaints(&self) -> PathBuf {
        self.dir.join("complaints")
    }

    /// Takes the lock for good, for stage 1.
    pub(crate) fn lock(&self) -> io::Result<File> {
        let file = self.lock_file()?;
        file.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "something of it still lives"),
        })?;
        Ok(file)
    }

    /// Whether stage 1 lives. It holds the lock, which no other process can have got by chance, unlike a process id.
    pub(crate) fn is_alive(&self) -> io::Result<bool> {
        if !self.dir.join("lock").exists() {
            return Ok(false);
        }
        match self.lock_file()?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        fs::OpenOptions::new().create(true).truncate(false).write(true).read(true).open(self.dir.join("lock"))
    }

    pub(crate) fn write_spec(&self, spec: &Spec) -> io::Result<()> {
        self.write("spec", spec, Durable::Yes)
    }

    pub(crate) fn spec(&self) -> io::Result<Option<Spec>> {
        self.read("spec")
    }

    pub(crate) fn write_began(&self, at_ms: u64) -> io::Result<()> {
        self.write("began", &at_ms, Durable::Yes)
    }

    pub(crate) fn began(&self) -> io::Result<Option<u64>> {
        self.read("began")
    }

    pub(crate) fn write_counted(&self, counted: &Counted) -> io::Result<()> {
        // Several times a second: the last one before a power cut may be missing, and is then older.
        self.write("counted", counted, Durable::No)
    }

    pub(crate) fn counted(&self) -> io::Result<Option<Counted>> {
        self.read("counted")
    }

    pub(crate) fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        self.write("exit", exit, Durable::Yes)
    }

    pub(crate) fn exit(&self) -> io::Result<Option<Exit>> {
        self.read("exit")
    }

    pub(crate) fn write_gpu_energy(&self, part: &crate::EnergyPart) -> io::Result<()> {
        self.write("gpu_energy", part, Durable::Yes)
    }

    pub(crate) fn gpu_energy(&self) -> io::Result<Option<crate::EnergyPart>> {
        self.read("gpu_energy")
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, durable: Durable) -> io::Result<()> {
        let (path, new) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        let mut file = File::create(&new)?;
        file.write_all(serde_json::to_string(value)?.as_bytes())?;
        if matches!(durable, Durable::Yes) {
            file.sync_all()?;
        }
        fs::rename(&new, &path)?;
        if matches!(durable, Durable::Yes) { File::open(&self.dir)?.sync_all() } else { Ok(()) }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[derive(Clone, Copy)]
enum Durable {
    Yes,
    No,
}

/// The time in Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_written_halfway_is_an_error_and_one_that_was_not_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::at(dir.path());
        assert_eq!(record.began().unwrap(), None);
        record.write_began(7).unwrap();
        assert_eq!(record.began().unwrap(), Some(7));
        fs::write(dir.path().join("began"), "").unwrap();
        assert!(record.began().is_err(), "a broken record is never taken for none");
    }

    #[test]
    fn whoever_holds_the_lock_lives_and_nobody_else_can_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::at(dir.path());
        assert!(!record.is_alive().unwrap(), "no lock was ever taken");
        let held = record.lock().unwrap();
        assert!(record.is_alive().unwrap());
        assert!(record.lock().is_err());
        drop(held);
        assert!(!record.is_alive().unwrap());
    }
}
