//! What is remembered of a cloud's audit log between two looks at it, so that it cannot be exchanged or cut unnoticed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gregal_api::audit::checkpoint_open;
use gregal_core::{
    audit::{Checkpoint, VerifierKey},
    merkle,
};
use serde::{Deserialize, Serialize};

use super::{
    file::Log,
    proof::{self, Proved},
};
use crate::{failure::Failure, files};

/// What is known of one cloud's log.
#[derive(Debug)]
pub(crate) struct Memory {
    path: Option<PathBuf>,
    known: Option<(Known, Checkpoint)>,
}

/// The file: the cloud, the log's key, its last signed checkpoint, and where each view ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    url: String,
    log_key: String,
    checkpoint: String,
    /// How many entries views had, as versions before 0.2 kept it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    entries: BTreeMap<String, u64>,
    #[serde(default)]
    views: BTreeMap<String, Seen>,
}

/// Where a view ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    entries: u64,
    newest: Option<String>,
}

impl Memory {
    /// What is remembered of the cloud at `url`. A file that does not read back is an error: passing it over would be the
    /// same as trusting anyone.
    pub(crate) fn of(state_dir: Option<&Path>, url: &str) -> Result<Self, Failure> {
        let Some(state_dir) = state_dir else { return Ok(Self { path: None, known: None }) };
        let origin = origin(url);
        let name: String =
            origin.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
        let path = state_dir.join("audit").join(format!("{name}.json"));
        let known = if path.exists() { Some(known(&path)?) } else { None };
        Ok(Self { path: Some(path), known })
    }

    /// What is remembered of a log by its key, wherever it was met; else of a log that calls itself the same.
    pub(crate) fn of_log(state_dir: Option<&Path>, log: &VerifierKey) -> Result<Self, Failure> {
        let mut found = Self { path: None, known: None };
        let folder = state_dir.map(|state_dir| state_dir.join("audit"));
        let Some(files) = folder.and_then(|folder| std::fs::read_dir(folder).ok()) else { return Ok(found) };
        let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        for path in paths {
            let (known, checkpoint) = known(&path)?;
            let is_same = known.log_key == hex::encode(log.public);
            if is_same || (found.known.is_none() && checkpoint.origin == log.name) {
                found = Self { path: Some(path), known: Some((known, checkpoint)) };
            }
            if is_same {
                break;
            }
        }
        Ok(found)
    }

    /// The key that was trusted before.
    pub(crate) fn key(&self) -> Option<String> {
        self.known.as_ref().map(|(known, _)| known.log_key.clone())
    }

    /// How many entries the log had.
    pub(crate) fn size(&self) -> Option<u64> {
        self.known.as_ref().map(|(_, checkpoint)| checkpoint.size)
    }

    /// Says of a log under another key what that can mean.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        match (&self.path, &self.known) {
            (Some(path), Some(_)) if failure.code.as_deref() == Some("audit_key") => failure.hint(format!(
                "its key is not the one seen before. If this cloud was made anew on purpose, remove `{}` and verify again; \
                 if not, somebody exchanged the log",
                path.display()
            )),
            _ => failure,
        }
    }

    /// Refuses a checkpoint that is not of the log seen before, grown.
    pub(crate) fn follows(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.known.as_ref().map_or(Ok(()), |(_, before)| proof::follows(before, checkpoint))
    }

    /// Refuses a log that is not the one seen before, grown.
    pub(crate) fn accept(&self, log: &Log, proved: &Proved) -> Result<(), Failure> {
        let Some((known, before)) = &self.known else { return Ok(()) };
        self.follows(&proved.checkpoint)?;
        match proved.past.get(&before.size) {
            Some(root) if *root != before.root => {
                return Err(proof::broken(&format!(
                    "its first {} entries are not those seen before: its past was changed",
                    before.size
                )));
            }
            None if before.size > 0 => {
                let why = format!("it does not show that it continues the {} entries seen before", before.size);
                let hint = format!("`gregal audit export --from {}` makes an export that shows it", before.size);
                return Err(proof::broken(&why).hint(hint));
            }
            _ => {}
        }
        if let Some(count) = known.entries.get(&log.basis.view) {
            shown_before(*count, proved)?;
        }
        let Some(seen) = known.views.get(&log.basis.view) else { return Ok(()) };
        shown_before(seen.entries, proved)?;
        let last = usize::try_from(seen.entries).ok().and_then(|entries| log.items.get(entries.checked_sub(1)?));
        let last = last.map(|record| hex::encode(merkle::leaf_hash(record.body.as_bytes())));
        if last == seen.newest {
            return Ok(());
        }
        Err(proof::broken(&format!("the first {} entries of this view are not those seen before", seen.entries)))
    }

    /// Remembers what was proved.
    pub(crate) fn remember(&self, url: &str, log: &Log, proved: &Proved) -> Result<(), Failure> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut views = self.known.as_ref().map(|(known, _)| known.views.clone()).unwrap_or_default();
        let mut entries = self.known.as_ref().map(|(known, _)| known.entries.clone()).unwrap_or_default();
        entries.remove(&log.basis.view);
        let seen = Seen { entries: proved.entries, newest: proved.newest.map(hex::encode) };
        views.insert(log.basis.view.clone(), seen);
        let log_key = hex::encode(proved.key.public);
        let known = Known { url: origin(url), log_key, checkpoint: log.basis.checkpoint.clone(), entries, views };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, &error))?;
        }
        let text = serde_json::to_string_pretty(&known).map_err(|error| Failure::ours(error.to_string()))?;
        files::write(path, &text)
    }
}

fn known(path: &Path) -> Result<(Known, Checkpoint), Failure> {
    let damaged = |failure: Failure| {
        failure.or_hint(format!("what was remembered is damaged; remove `{}` to trust the log anew", path.display()))
    };
    let known: Known = files::json(path).map_err(damaged)?;
    let checkpoint = checkpoint_open(&known.checkpoint, &known.log_key)
        .map_err(|error| damaged(Failure::yours(format!("`{}`: {error}", path.display()))))?;
    Ok((known, checkpoint))
}

fn shown_before(count: u64, proved: &Proved) -> Result<(), Failure> {
    if count <= proved.entries {
        return Ok(());
    }
    let why = format!("{count} entries of this view were shown before, {} now: entries never go away", proved.entries);
    Err(proof::broken(&why))
}

/// A cloud's address without path or user: what one cloud is remembered by.
fn origin(url: &str) -> String {
    reqwest::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}
