//! What the tour remembers between starts, so that after a crash it walks on instead of beginning again.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use gregal_core::id::{DatasetId, EndpointId, JobId, ModelId, OrganisationId, ProjectId};
use serde::{Deserialize, Serialize};

/// Everything a tenant would have written down. Holds secrets: the file is readable by its owner alone.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    /// A name made once: all idempotency keys of this tour begin with it.
    pub tour: String,
    pub owner_secret: Option<String>,
    pub project_secret: Option<String>,
    /// How often a key was asked for: a crash may lose an answer that is shown only once.
    pub keys_asked: u32,
    pub organisation: Option<OrganisationId>,
    pub project: Option<ProjectId>,
    pub dataset: Option<DatasetId>,
    pub heldout: Option<DatasetId>,
    pub base_model: Option<DatasetId>,
    pub job: Option<JobId>,
    pub model: Option<ModelId>,
    pub endpoint: Option<EndpointId>,
}

/// The notes and the file they are kept in.
pub(crate) struct Notebook {
    path: PathBuf,
    /// What is written there.
    pub notes: Notes,
}

impl Notebook {
    /// Opens the notes of a data folder, or begins new ones.
    pub(crate) fn open(data_dir: &Path, name: impl FnOnce() -> String) -> Result<Self> {
        let path = data_dir.join("tour.json");
        let notes = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("`{}` holds no tour notes; move it away to begin anew", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Notes { tour: name(), ..Notes::default() },
            Err(error) => return Err(error).with_context(|| format!("could not read `{}`", path.display())),
        };
        let notebook = Self { path, notes };
        notebook.save()?;
        Ok(notebook)
    }

    /// Writes the notes so that a crash leaves the old ones or the new ones, never half of them.
    pub(crate) fn save(&self) -> Result<()> {
        let fresh = self.path.with_extension("json.new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec_pretty(&self.notes)?)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)
        };
        write().with_context(|| format!("could not write `{}`", self.path.display()))
    }
}
