//! `gregal audit witness`: cosigning checkpoints of a log, never two histories of it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use gregal_api::{
    audit::{AuditConsistency, ConsistencyQuery, WitnessKey, checkpoint_open},
    client::Client,
};
use gregal_core::audit::Checkpoint;
use serde::{Deserialize, Serialize};

use super::proof::{broken, follows};
use crate::{failure::Failure, files, options::Options, surroundings::Surroundings};

/// The most bytes a key file may have.
const KEY_BYTES_MAX: u64 = 1_000;

#[derive(Debug, Args)]
pub struct Witness {
    /// The witness's private key; what it cosigned last is kept beside it, in FILE.seen
    #[arg(long = "key-file", value_name = "FILE")]
    file: PathBuf,
    /// Make the key first, under this name (like `witness.example.eu/audit`)
    #[arg(long, value_name = "NAME")]
    init: Option<String>,
    /// The log's key, got by another way; needed the first time
    #[arg(long, value_name = "KEY")]
    log_key: Option<String>,
    /// Write the cosigned checkpoint into a file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What was cosigned last, by the name of the log.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Seen(BTreeMap<String, Last>);

/// The last checkpoint of one log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    log_key: String,
    checkpoint: String,
}

pub(crate) async fn run(options: Options, here: &mut Surroundings, args: Witness) -> Result<(), Failure> {
    if let Some(name) = &args.init {
        return make(here, &args.file, name);
    }
    let (key, _turn) = open(&args.file)?;
    // Reading checkpoints takes no credential.
    let client = Client::new(&options.url, None)?;
    let note = client.call("audit_checkpoint", &[]).send_text().await?;
    let origin = super::read::unverified(&note)?.origin;
    let path = beside(&args.file);
    let mut seen: Seen = if path.exists() { files::json(&path)? } else { Seen::default() };
    let last = seen.0.get(&origin).cloned();
    let told = args.log_key.as_deref().map(super::log_key).transpose()?;
    let log_key = told.or_else(|| last.as_ref().map(|last| last.log_key.clone())).ok_or_else(|| {
        Failure::yours(format!("nothing is known yet of the log `{origin}`"))
            .hint("`--log-key` says its key the first time; get it by another way than from the cloud itself")
    })?;
    let checkpoint = checkpoint_open(&note, &log_key).map_err(|error| broken(&error.to_string()))?;
    if let Some(last) = &last {
        let before = checkpoint_open(&last.checkpoint, &last.log_key)
            .map_err(|error| Failure::yours(format!("`{}` is damaged: {error}", path.display())))?;
        if last.log_key != log_key {
            return Err(broken("its key is not the one of what was cosigned before"));
        }
        continues(&client, &before, &checkpoint).await?;
    }
    let at = u64::try_from(here.world.now().as_millis() / 1_000).unwrap_or_default();
    let cosigned = key.cosign(&note, at).map_err(|error| Failure::ours(error.to_string()))?;
    // Remembered before it is given away: a crash in between must not let another history be signed.
    seen.0.insert(origin, Last { log_key, checkpoint: note });
    let text = serde_json::to_string_pretty(&seen).map_err(|error| Failure::ours(error.to_string()))?;
    files::write(&path, &text)?;
    match &args.out {
        Some(out) => {
            files::write(out, &cosigned)?;
            here.printer.note(&format!("cosigned {} entries of `{}`", checkpoint.size, checkpoint.origin));
            Ok(())
        }
        None => here.printer.write(&cosigned),
    }
}

/// Demands the proof that a checkpoint continues the last one.
async fn continues(client: &Client, before: &Checkpoint, after: &Checkpoint) -> Result<(), Failure> {
    follows(before, after)?;
    if before.size == 0 || before.size == after.size {
        return Ok(());
    }
    let query = ConsistencyQuery { old: before.size, new: Some(after.size) };
    let shown: AuditConsistency = client.call("audit_consistency", &[]).query(&query).send().await?;
    if shown.old_size == before.size && shown.old_root(after) == Some(before.root) {
        return Ok(());
    }
    Err(broken(&format!("it does not show that it continues the {} entries cosigned before", before.size)))
}

fn make(here: &mut Surroundings, path: &Path, name: &str) -> Result<(), Failure> {
    let mut seed = [0; 32];
    here.world.fill(&mut seed);
    let key = WitnessKey::new(name, &seed).map_err(|error| Failure::yours(error.to_string()))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(key.to_private().as_bytes()));
    written.map_err(|error| Failure::file("make", path, &error))?;
    here.printer.note("give this to whoever verifies the log, as `--witness`:");
    here.printer.write(&format!("{}\n", key.verifier()))
}

/// Reads the key and holds its file, so that two calls at once do not sign two histories.
fn open(path: &Path) -> Result<(WitnessKey, File), Failure> {
    let file = File::open(path).map_err(|error| Failure::file("open", path, &error).hint("`--init NAME` makes one"))?;
    file.lock().map_err(|error| Failure::file("lock", path, &error))?;
    let mut text = String::new();
    let read = (&file).take(KEY_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::file("read", path, &error))?;
    let key = WitnessKey::from_private(&text)
        .map_err(|error| Failure::yours(format!("`{}` cannot be used: {error}", path.display())))?;
    Ok((key, file))
}

fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".seen");
    beside.into()
}
