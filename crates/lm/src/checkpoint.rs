//! Work in progress on disk: what learns, the optimizer's moments, and where training stood. A checkpoint is written whole
//! under another name and then renamed, and carries a digest, so that one cut short is never mistaken for one that is not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Complete checkpoints kept; older ones are deleted.
const KEPT: usize = 2;
const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.json";
/// Raised when what a checkpoint holds changes its meaning.
const FORMAT: u32 = 1;

/// Why a checkpoint could not be written or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("could not {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The tensors could not be written in their format.
    #[error("could not write the tensors of a checkpoint")]
    Format(#[from] safetensors::SafeTensorError),
    /// The checkpoints were made from other data or with other settings.
    #[error("`{}` holds checkpoints of other work (other data or settings); choose another folder or empty it", folder.display())]
    OtherWork {
        /// The folder.
        folder: PathBuf,
    },
}

/// Where training stood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of this layout.
    pub format: u32,
    /// Digest of the data and settings this work follows from.
    pub work: String,
    /// Steps made. The order of the data follows from this and the seed.
    pub step: u64,
    /// Tokens read, without padding.
    pub tokens: u64,
    /// Seconds of training so far.
    pub elapsed_s: f64,
    /// Learned tokens of the current pass and the sum of their losses: the loss reported goes on from here.
    pub loss: f64,
    /// Digest of the file of tensors.
    pub tensors_sha256: String,
}

/// A tensor of a checkpoint: name, values.
pub(crate) type Tensors = BTreeMap<String, Vec<f32>>;

/// A checkpoint read back.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) state: State,
    pub(crate) tensors: Tensors,
}

/// Writes a checkpoint, then deletes older ones. Returns its folder and size in bytes.
pub(crate) fn write<'a>(
    folder: &Path,
    mut state: State,
    tensors: impl Iterator<Item = (String, &'a [f32])>,
) -> Result<(PathBuf, u64), Error> {
    let finished = folder.join(format!("step-{:010}", state.step));
    let partial = folder.join(format!(".partial-{:010}", state.step));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(failed("delete", &partial))?;
    }
    fs::create_dir_all(&partial).map_err(failed("create", &partial))?;

    let tensors: Vec<(String, Vec<u8>)> =
        tensors.map(|(name, values)| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let mut views = Vec::with_capacity(tensors.len());
    for (name, bytes) in &tensors {
        views.push((name.as_str(), TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?));
    }
    let bytes = safetensors::serialize(views, None)?;
    state.format = FORMAT;
    state.tensors_sha256 = hex(&Sha256::digest(&bytes));
    let state = serde_json::to_vec_pretty(&state).map_err(|e| failed("write", &partial)(e.into()))?;
    write_through(&partial.join(TENSORS), &bytes)?;
    write_through(&partial.join(STATE), &state)?;
    sync_folder(&partial)?;
    if finished.exists() {
        fs::remove_dir_all(&finished).map_err(failed("delete", &finished))?;
    }
    fs::rename(&partial, &finished).map_err(failed("rename", &partial))?;
    sync_folder(folder)?;
    prune(folder, &finished)?;
    Ok((finished, (bytes.len() + state.len()) as u64))
}

/// The newest complete checkpoint in the folder. One that was cut short is passed over, with a warning.
pub(crate) fn newest(folder: &Path, work: &str) -> Result<Option<Checkpoint>, Error> {
    for path in finished(folder)?.into_iter().rev() {
        match read(&path) {
            Ok(checkpoint) if checkpoint.state.work == work => return Ok(Some(checkpoint)),
            Ok(_) => return Err(Error::OtherWork { folder: folder.to_owned() }),
            Err(why) => tracing::warn!(path = %path.display(), why, "a checkpoint is not complete and is passed over"),
        }
    }
    Ok(None)
}

/// Reads one checkpoint, or says in what way it is not one.
fn read(path: &Path) -> Result<Checkpoint, String> {
    let state = fs::read(path.join(STATE)).map_err(|e| format!("{STATE}: {e}"))?;
    let state: State = serde_json::from_slice(&state).map_err(|e| format!("{STATE}: {e}"))?;
    if state.format != FORMAT {
        return Err(format!("its format is {}, this program reads {FORMAT}", state.format));
    }
    let bytes = fs::read(path.join(TENSORS)).map_err(|e| format!("{TENSORS}: {e}"))?;
    if hex(&Sha256::digest(&bytes)) != state.tensors_sha256 {
        return Err(format!("{TENSORS} does not match its digest"));
    }
    let parsed = SafeTensors::deserialize(&bytes).map_err(|e| format!("{TENSORS}: {e}"))?;
    let floats = |view: &TensorView<'_>| {
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let tensors = parsed.iter().map(|(name, view)| (name.to_owned(), floats(&view))).collect();
    Ok(Checkpoint { state, tensors })
}

/// Folders of finished checkpoints, oldest first.
fn finished(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let path = entry.map_err(failed("list", folder))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Keeps the newest and the one before it. One with a later number was not complete when this work went on from an
/// earlier one, or that would not have happened: it goes too.
fn prune(folder: &Path, newest: &Path) -> Result<(), Error> {
    let all = finished(folder)?;
    let later = all.iter().filter(|path| path.as_path() > newest);
    let kept: Vec<&PathBuf> = all.iter().filter(|path| path.as_path() <= newest).collect();
    for path in later.chain(kept.iter().take(kept.len().saturating_sub(KEPT)).copied()) {
        fs::remove_dir_all(path).map_err(failed("delete", path))?;
    }
    Ok(())
}

/// Writes a file and waits until it is on disk.
pub(crate) fn write_through(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(failed("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

/// Waits until the names in a folder are on disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
