//! What is remembered of a cloud's audit log between two looks at it, so that it cannot be exchanged or cut unnoticed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gregal_api::audit::checkpoint_open;
use gregal_core::{audit::Checkpoint, merkle};
use serde::{Deserialize, Serialize};

use super::{
    Export,
    proof::{self, Proved},
};
use crate::{failure::Failure, files};

/// What is known of one cloud's log.
#[derive(Debug)]
pub(crate) struct Memory {
    path: Option<PathBuf>,
    known: Option<(Known, Checkpoint)>,
}

/// The file: the cloud, the log's key, its last signed checkpoint, and how many entries each view had.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    url: String,
    log_key: String,
    checkpoint: String,
    entries: BTreeMap<String, u64>,
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
        if !path.exists() {
            return Ok(Self { path: Some(path), known: None });
        }
        let damaged = |failure: Failure| {
            failure
                .or_hint(format!("what was remembered is damaged; remove `{}` to trust the log anew", path.display()))
        };
        let known: Known = files::json(&path).map_err(damaged)?;
        let checkpoint = checkpoint_open(&known.checkpoint, &known.log_key)
            .map_err(|error| damaged(Failure::yours(format!("`{}`: {error}", path.display()))))?;
        Ok(Self { path: Some(path), known: Some((known, checkpoint)) })
    }

    /// The key that was trusted before.
    pub(crate) fn key(&self) -> Option<String> {
        self.known.as_ref().map(|(known, _)| known.log_key.clone())
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

    /// Refuses a log that is not the one seen before, grown.
    pub(crate) fn accept(&self, log: &Export, proved: &Proved) -> Result<(), Failure> {
        let Some((known, before)) = &self.known else { return Ok(()) };
        proof::follows(before, &proved.checkpoint)?;
        self.same_history(log, proved)?;
        match known.entries.get(&log.view) {
            Some(count) if *count > proved.entries => Err(proof::broken(&format!(
                "{} entries of this view were shown before, {} now: entries never go away",
                count, proved.entries
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses another past, as far as the entries at hand can tell: at the remembered size the root must be the same.
    pub(crate) fn same_history(&self, log: &Export, proved: &Proved) -> Result<(), Failure> {
        let Some((_, before)) = &self.known else { return Ok(()) };
        if before.origin != proved.checkpoint.origin {
            return proof::follows(before, &proved.checkpoint);
        }
        if before.size == proved.checkpoint.size && before.root != proved.checkpoint.root {
            return proof::follows(before, &proved.checkpoint);
        }
        let size = usize::try_from(before.size).unwrap_or(usize::MAX);
        let then = proved.leaves.as_ref().and_then(|leaves| leaves.get(..size));
        match then {
            Some(then) if merkle::root(then) != before.root => Err(proof::broken(&format!(
                "its first {} entries are not those seen before at `{}`: its past was changed",
                before.size, log.url
            ))),
            _ => Ok(()),
        }
    }

    /// Remembers what was proved.
    pub(crate) fn remember(&self, log: &Export, proved: &Proved) -> Result<(), Failure> {
        let Some(path) = &self.path else { return Ok(()) };
        let newest = log.pages.last().map(|page| page.checkpoint.clone()).unwrap_or_default();
        let mut entries = self.known.as_ref().map(|(known, _)| known.entries.clone()).unwrap_or_default();
        entries.insert(log.view.clone(), proved.entries);
        let known = Known { url: log.url.clone(), log_key: proved.log_key.clone(), checkpoint: newest, entries };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, &error))?;
        }
        let text = serde_json::to_string_pretty(&known).map_err(|error| Failure::ours(error.to_string()))?;
        files::write(path, &text)
    }
}

/// A cloud's address without path or user: what one cloud is remembered by.
pub(crate) fn origin(url: &str) -> String {
    reqwest::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}
