//! What an attempt's run is made of: its inputs unpacked, and the workload the engine is given.

use std::{
    io,
    path::{Path, PathBuf},
};

use gregal_api::protocol::{AttemptRef, WantedAttempt};
use gregal_core::{id::DatasetId, job::Program};
use gregal_engine::{EngineError, Mount, Network, Resources, Trust, Workload, WorkloadId};

use super::{
    state::{AttemptState, JobFolder},
    train,
};
use crate::{
    durable,
    objects::{self, Keep},
    site::SiteOptions,
};

/// Time between the polite and the final signal: a training writes a checkpoint in it.
pub(super) const GRACE_MS: u64 = 10_000;
/// How much longer than its billed time a program may live: data is read and results are written around it.
const UNBILLED_MS: u64 = 600_000;
/// Processes and threads of a job.
const PIDS_MAX: u64 = 512;
const FILE_BYTES_MAX: u64 = 64 << 30;

/// The engine's name for a run. No run of any attempt shares it, which fences late starts.
pub(crate) fn workload_id(of: AttemptRef, run: u32) -> Result<WorkloadId, EngineError> {
    WorkloadId::new(format!("{}.{}.{run}", of.job, of.attempt))
}

/// Why inputs could not be put in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    #[error("the dataset `{0}` is not stored at this site")]
    Missing(DatasetId),
    #[error(transparent)]
    Objects(#[from] objects::Error),
    #[error("could not prepare a job's folder")]
    Io(#[from] io::Error),
}

/// Unpacks the inputs into the job's private folder. Done again after a crash, it begins from nothing.
pub(super) fn prepare(keep: &Keep, folder: &JobFolder, wanted: &WantedAttempt) -> Result<(), PrepareError> {
    durable::private_folder(folder.path())?;
    durable::remove_folder(&folder.input())?;
    durable::private_folder(&folder.input())?;
    durable::private_folder(&folder.work())?;
    let input = folder.input();
    match &wanted.program {
        Program::Train { dataset, heldout, base_model, settings, .. } => {
            unpack(keep, wanted, *dataset, &input.join("data"))?;
            if let Some(heldout) = heldout {
                unpack(keep, wanted, *heldout, &input.join("heldout"))?;
            }
            if let Some(base) = base_model {
                unpack(keep, wanted, *base, &input.join("base.gguf"))?;
            }
            durable::private_folder(&folder.work().join("checkpoints"))?;
            let config = train::config(settings, heldout.is_some(), base_model.is_some(), wanted.seconds_max);
            let config = serde_json::to_vec_pretty(&config).map_err(io::Error::other)?;
            durable::write(&input.join("train.json"), &config)?;
        }
        Program::Command { inputs, .. } => {
            for dataset in inputs {
                unpack(keep, wanted, *dataset, &input.join(dataset.to_string()))?;
            }
        }
    }
    Ok(())
}

fn unpack(keep: &Keep, wanted: &WantedAttempt, dataset: DatasetId, path: &Path) -> Result<(), PrepareError> {
    let digest = digest_of(wanted, dataset).ok_or(PrepareError::Missing(dataset))?;
    match keep.read(&objects::datasets_of(wanted.organisation), &digest) {
        Ok(object) => Ok(object.save(path).map(drop)?),
        Err(objects::Error::NotFound { .. }) => Err(PrepareError::Missing(dataset)),
        Err(error) => Err(error.into()),
    }
}

/// The digest of one of an attempt's datasets.
pub(super) fn digest_of(wanted: &WantedAttempt, dataset: DatasetId) -> Option<String> {
    wanted.inputs.iter().find(|(id, _)| *id == dataset).map(|(_, digest)| digest.clone())
}

/// The workload of the newest run.
pub(super) fn workload(
    options: &SiteOptions,
    state: &AttemptState,
    folder: &JobFolder,
    gpus: Vec<String>,
) -> Result<Workload, EngineError> {
    let wanted = &state.wanted;
    let id = workload_id(state.reference(), state.run)?;
    let (argv, trust, network, stdout) = match &wanted.program {
        Program::Train { .. } => {
            let train = ["train".to_owned(), "--config".to_owned(), format!("{}/train.json", train::INPUT)];
            let argv: Vec<String> = options.lm_program.iter().cloned().chain(train).collect();
            (argv, Trust::Trusted, Network::None, folder.progress(wanted.attempt, state.run))
        }
        Program::Command { network: true, .. } if !options.tuning.network_for_jobs => {
            return Err(EngineError::Refused {
                why: "jobs have no network at this site".into(),
                hint: "submit it without `network`, or ask the site's operator".into(),
            });
        }
        Program::Command { argv, network, .. } => {
            let network = if *network { Network::Host } else { Network::None };
            (argv.clone(), Trust::Untrusted, network, folder.log())
        }
    };
    let left_ms = state.limit_ms().saturating_sub(state.metered.billed_ms);
    Ok(Workload {
        mounts: vec![Mount::read_only(folder.input(), train::INPUT), Mount::writable(folder.work(), train::WORK)],
        workdir: Some(PathBuf::from(train::WORK)),
        resources: Resources {
            cpus_milli: wanted.sku.cpus_milli.into(),
            memory_bytes: wanted.sku.memory_bytes,
            pids_max: PIDS_MAX,
            file_bytes_max: FILE_BYTES_MAX,
            gpus,
        },
        time_limit_ms: Some(left_ms.saturating_add(UNBILLED_MS)),
        network,
        trust,
        stdout,
        grace_ms: GRACE_MS,
        ..Workload::new(id, argv, folder.log())
    })
}
