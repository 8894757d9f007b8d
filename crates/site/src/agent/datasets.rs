//! Which datasets are stored here. A record is written once the bytes are durable, and told to control until it knows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gregal_api::protocol::{Intent, ObservedDataset};
use gregal_core::id::{DatasetId, OrganisationId};
use serde::{Deserialize, Serialize};

use crate::{durable, error::Error, site::Shared};

/// A dataset whose bytes are here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatasetRecord {
    pub(crate) dataset: DatasetId,
    pub(crate) organisation: OrganisationId,
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    pub(crate) acknowledged: bool,
}

/// Every dataset of this site.
#[derive(Debug)]
pub(crate) struct Datasets {
    folder: PathBuf,
    table: Mutex<BTreeMap<DatasetId, DatasetRecord>>,
}

impl Datasets {
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let load = || -> std::io::Result<BTreeMap<DatasetId, DatasetRecord>> {
            durable::private_folder(folder)?;
            let mut table = BTreeMap::new();
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "json") {
                    let record: DatasetRecord = serde_json::from_slice(&std::fs::read(&path)?)?;
                    table.insert(record.dataset, record);
                }
            }
            Ok(table)
        };
        let table = load().map_err(Error::io("could not read", folder))?;
        Ok(Self { folder: folder.to_owned(), table: Mutex::new(table) })
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<DatasetId, DatasetRecord>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: DatasetId) -> Option<DatasetRecord> {
        self.table().get(&id).cloned()
    }

    /// Notes a dataset, durably. What was noted first stays: the record that holds is answered.
    pub(crate) fn note(&self, record: DatasetRecord) -> std::io::Result<DatasetRecord> {
        let mut table = self.table();
        if let Some(known) = table.get(&record.dataset) {
            return Ok(known.clone());
        }
        self.save(&record)?;
        table.insert(record.dataset, record.clone());
        Ok(record)
    }

    fn save(&self, record: &DatasetRecord) -> std::io::Result<()> {
        durable::write(&self.path(record.dataset), &serde_json::to_vec(record)?)
    }

    fn path(&self, id: DatasetId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// What control is told.
    pub(crate) fn observed(&self) -> Vec<ObservedDataset> {
        let table = self.table();
        let untold = table.values().filter(|record| !record.acknowledged);
        let observe = |record: &DatasetRecord| ObservedDataset {
            dataset: record.dataset,
            digest: record.digest.clone(),
            bytes: record.bytes,
        };
        untold.map(observe).collect()
    }

    /// Control knows of these.
    pub(crate) fn acknowledge(&self, ids: &[DatasetId]) {
        let mut table = self.table();
        for id in ids {
            if let Some(record) = table.get_mut(id).filter(|record| !record.acknowledged) {
                record.acknowledged = true;
                // A restart would tell control once more, which is harmless.
                if let Err(error) = self.save(record) {
                    tracing::warn!(%error, dataset.id = %id, "could not note that control knows of a dataset");
                }
            }
        }
    }
}

/// Removes the bytes of datasets that should be gone. Bytes that another dataset of the organisation also has stay.
pub(crate) async fn apply(shared: &Arc<Shared>, intent: &Intent) {
    for wanted in intent.datasets.iter().filter(|wanted| wanted.delete) {
        let Some(record) = shared.datasets.get(wanted.dataset) else { continue };
        let shared = Arc::clone(shared);
        let removed = tokio::task::spawn_blocking(move || {
            let has_same_bytes = |other: &DatasetRecord| {
                other.dataset != record.dataset
                    && other.organisation == record.organisation
                    && other.digest == record.digest
            };
            let mut table = shared.datasets.table();
            if !table.values().any(has_same_bytes) {
                shared.keep.remove(&record.organisation.to_string(), &record.digest)?;
            }
            let path = shared.datasets.path(record.dataset);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(crate::objects::Error::io("could not forget a dataset")(error));
                }
                _ => {}
            }
            table.remove(&record.dataset);
            Ok(())
        });
        if let Ok(Err(error)) = removed.await {
            tracing::error!(error = &error as &dyn std::error::Error, dataset.id = %wanted.dataset, "a dataset could not be removed; trying again with the next intent");
        }
    }
}
