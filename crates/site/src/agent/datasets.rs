//! Which datasets are stored here. A record is written once the bytes are durable, and told to control until it knows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gregal_api::protocol::{Intent, ObservedDataset};
use gregal_core::id::{DatasetId, OrganisationId};
use serde::{Deserialize, Serialize};

use crate::{agent::intent::Standing, durable, error::Error, objects, site::Shared};

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
    /// Held while bytes come to be referred to, or cease to be: between the two no other dataset may do either. Always taken
    /// before the table, and only by threads that may block.
    landing: Mutex<()>,
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
        Ok(Self { folder: folder.to_owned(), landing: Mutex::default(), table: Mutex::new(table) })
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<DatasetId, DatasetRecord>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: DatasetId) -> Option<DatasetRecord> {
        self.table().get(&id).cloned()
    }

    fn landing(&self) -> MutexGuard<'_, ()> {
        self.landing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets bytes land and notes the dataset they are of, durably and as one act: the same bytes of a dataset that is
    /// removed meanwhile stay. What was noted first holds: the record that does is answered. Blocks.
    pub(crate) fn land(
        &self,
        land: impl FnOnce() -> Result<DatasetRecord, objects::Error>,
    ) -> Result<DatasetRecord, objects::Error> {
        let _landing = self.landing();
        let record = land()?;
        if let Some(known) = self.get(record.dataset) {
            return Ok(known);
        }
        self.save(&record).map_err(objects::Error::io("could not note a dataset"))?;
        self.table().insert(record.dataset, record.clone());
        Ok(record)
    }

    /// Forgets a dataset; its bytes are removed by `remove` unless another dataset of the organisation has the same ones.
    /// Blocks.
    fn forget(
        &self,
        id: DatasetId,
        remove: impl FnOnce(&DatasetRecord) -> Result<(), objects::Error>,
    ) -> Result<(), objects::Error> {
        let _landing = self.landing();
        let Some(record) = self.get(id) else { return Ok(()) };
        let has_same_bytes = |other: &DatasetRecord| {
            other.dataset != id && other.organisation == record.organisation && other.digest == record.digest
        };
        if !self.table().values().any(has_same_bytes) {
            remove(&record)?;
        }
        let mut table = self.table();
        match std::fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(objects::Error::io("could not forget a dataset")(error));
            }
            _ => drop(table.remove(&id)),
        }
        Ok(())
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
        let id = wanted.dataset;
        if shared.datasets.get(id).is_none() {
            continue;
        }
        let shared = Arc::clone(shared);
        let removed = tokio::task::spawn_blocking(move || {
            let keep =
                |record: &DatasetRecord| shared.keep.remove(&objects::datasets_of(record.organisation), &record.digest);
            shared.datasets.forget(id, keep)
        });
        if let Ok(Err(error)) = removed.await {
            tracing::error!(error = &error as &dyn std::error::Error, dataset.id = %id, "a dataset could not be removed; trying again with the next intent");
        }
    }
}

/// Removed datasets of which nothing is here: neither bytes nor anybody who writes some. Who comes to write one from here
/// on is refused, for as long as the intent names it.
pub(crate) fn gone(shared: &Shared, standing: &Standing) -> Vec<DatasetId> {
    let wanted = standing.intent.iter().flat_map(|intent| &intent.datasets);
    let ids = wanted.filter(|wanted| wanted.delete).map(|wanted| wanted.dataset);
    // In this order: who writes is noted before he stops writing.
    ids.filter(|id| !shared.writing.has(*id) && shared.datasets.get(*id).is_none()).collect()
}
