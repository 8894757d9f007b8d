//! Writes the finished model as a Hugging Face folder that other engines load. The folder appears whole or not at all.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use safetensors::{Dtype, View};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Error;
use super::learner::Learner;
use super::ops;
use crate::checkpoint::{self, hex};
use crate::config::{LoraConfig, ModelConfig};
use crate::tokenizer::Encoder;

const WEIGHTS: &str = "model.safetensors";

/// Precision of written weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    Full,
    /// Half the size; a base model was no finer.
    Brain,
}

/// Refuses a folder that could not be replaced by the finished model without losing something else.
pub(crate) fn check(out: &Path) -> Result<(), Error> {
    let refused = || Error::OutputTaken { path: out.to_owned() };
    let parent = out.parent().ok_or_else(refused)?;
    if out.file_name().is_none() {
        return Err(refused());
    }
    fs::create_dir_all(parent).map_err(checkpoint::failed("create", parent))?;
    match fs::read_dir(out) {
        Ok(mut entries) => {
            let empty = entries.next().is_none();
            if empty || out.join("config.json").is_file() { Ok(()) } else { Err(refused()) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(checkpoint::failed("read", out)(error).into()),
    }
}

/// Writes the model and returns the digest of its files (see [`crate::progress::Progress::Done`]).
pub(crate) fn write(
    out: &Path,
    learner: &Learner,
    encoder: &Encoder,
    lora: &LoraConfig,
    base_name: Option<&str>,
    precision: Precision,
) -> Result<String, Error> {
    let (partial, old) = (beside(out, "partial"), beside(out, "old"));
    for leftover in [&partial, &old] {
        if leftover.exists() {
            fs::remove_dir_all(leftover).map_err(checkpoint::failed("delete", leftover))?;
        }
    }
    fs::create_dir_all(&partial).map_err(checkpoint::failed("create", &partial))?;
    files(&partial, &learner.model.config, encoder, precision).map_err(checkpoint::failed("write", &partial))?;
    let model = &learner.model;
    if let (Some(adapters), false) = (&learner.lora, lora.merge) {
        adapters.remove(model)?;
        weights(&partial, &model.named()?, precision)?;
        adapters.apply(model, &learner.learned)?;
        adapter(&partial.join("adapter"), learner, lora, &adapters.target_modules(), base_name)?;
    } else {
        weights(&partial, &model.named()?, precision)?;
    }
    let digest = digest(&partial).map_err(checkpoint::failed("read", &partial))?;
    if out.exists() {
        fs::rename(out, &old).map_err(checkpoint::failed("rename", out))?;
    }
    fs::rename(&partial, out).map_err(checkpoint::failed("rename", &partial))?;
    if let Some(parent) = out.parent() {
        checkpoint::sync_folder(parent)?;
    }
    if old.exists() {
        fs::remove_dir_all(&old).map_err(checkpoint::failed("delete", &old))?;
    }
    Ok(digest)
}

fn beside(out: &Path, what: &str) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!(".{name}.{what}"))
}

fn files(folder: &Path, config: &ModelConfig, encoder: &Encoder, precision: Precision) -> io::Result<()> {
    let mut config = config.clone();
    config.eos_token_id.clone_from(&encoder.ends);
    if precision == Precision::Full { "float32" } else { "bfloat16" }.clone_into(&mut config.torch_dtype);
    encoder.write(folder, config.max_position_embeddings)?;
    let generation = json!({
        "eos_token_id": config.eos_token_id,
        "pad_token_id": encoder.pad,
        "bos_token_id": config.bos_token_id,
    });
    let mut config = serde_json::to_value(&config)?;
    config["pad_token_id"] = json!(encoder.pad);
    fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    fs::write(folder.join("generation_config.json"), serde_json::to_vec_pretty(&generation)?)
}

fn weights<'a>(
    folder: &Path,
    named: impl IntoIterator<Item = (&'a String, &'a Tensor)>,
    precision: Precision,
) -> Result<(), Error> {
    let views = named.into_iter().map(|(name, tensor)| (name, Written { tensor, precision }));
    // Python's loader asks for this key.
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(about), &folder.join(WEIGHTS)).map_err(checkpoint::Error::from)?;
    Ok(())
}

/// The adapter by itself, as PEFT reads it.
fn adapter(
    folder: &Path,
    learner: &Learner,
    lora: &LoraConfig,
    modules: &[&str],
    base_name: Option<&str>,
) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(checkpoint::failed("create", folder))?;
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "target_modules": modules,
    });
    let text = serde_json::to_vec_pretty(&config).map_err(|e| checkpoint::failed("write", folder)(e.into()))?;
    checkpoint::write_through(&folder.join("adapter_config.json"), &text)?;
    let named: Vec<(String, &Tensor)> =
        learner.learned.iter().map(|l| (format!("base_model.model.{}", l.name), &l.value)).collect();
    let views = named.iter().map(|(name, tensor)| (name, Written { tensor, precision: Precision::Full }));
    let path = folder.join("adapter_model.safetensors");
    safetensors::serialize_to_file(views, None, &path).map_err(checkpoint::Error::from)?;
    Ok(())
}

/// Makes sure every file is on disk, and digests them in the order of their names.
fn digest(folder: &Path) -> io::Result<String> {
    let mut all = Sha256::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for inner in fs::read_dir(entry.path())? {
                names.push(format!("{}/{}", entry.file_name().to_string_lossy(), inner?.file_name().to_string_lossy()));
            }
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    for name in names {
        let mut file = File::open(folder.join(&name))?;
        file.sync_all()?;
        let mut one = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            let read = io::Read::read(&mut file, &mut block)?;
            if read == 0 {
                break;
            }
            one.update(&block[..read]);
        }
        all.update(format!("{}  {name}\n", hex(&one.finalize())));
    }
    Ok(format!("sha256:{}", hex(&all.finalize())))
}

/// A tensor turned into bytes only when its turn to be written comes.
struct Written<'a> {
    tensor: &'a Tensor,
    precision: Precision,
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        if self.precision == Precision::Full { Dtype::F32 } else { Dtype::BF16 }
    }

    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = ops::floats(self.tensor).expect("weights of a learner are contiguous f32 rows in main memory");
        match self.precision {
            Precision::Full => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Precision::Brain => values.iter().flat_map(|v| brain(*v).to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        self.tensor.elem_count() * if self.precision == Precision::Full { 4 } else { 2 }
    }
}

/// The upper half of a float, rounded to nearest, ties to even.
fn brain(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}
