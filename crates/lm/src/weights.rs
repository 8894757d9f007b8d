//! Reads a model from disk: a Hugging Face folder (safetensors) or a GGUF file, under one set of tensor names.
//! Files are somebody else's: every length is bounded before memory is asked for, and a malformed one is an [`Error`].

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::config::ModelConfig;

mod folder;
mod gguf;
pub(crate) mod number;

/// Why a model could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what its format promises.
    #[error("`{}` is malformed: {what}", path.display())]
    Malformed {
        /// The file at fault.
        path: PathBuf,
        /// What was found, and what was expected.
        what: String,
    },
    /// The file is sound, but this engine does not run such a model.
    #[error("this engine does not run `{}`: {what}", path.display())]
    Unsupported {
        /// The file at fault.
        path: PathBuf,
        /// Which property is not supported.
        what: String,
    },
    /// A weight that the configuration asks for is not there.
    #[error("the model has no tensor `{name}`")]
    Missing {
        /// The Hugging Face name of the weight.
        name: String,
    },
    /// A weight has another shape than the configuration says.
    #[error("tensor `{name}` has shape {found:?}, the configuration says {expected:?}")]
    Shape {
        /// The Hugging Face name of the weight.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
    },
}

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// Blocks of small integers with scales, as ggml defines them.
    Quantized(candle_core::quantized::GgmlDType),
}

impl Kind {
    /// Whether reading the tensor as floats and storing it anew with 8 bits loses little: it was quantised before.
    pub fn is_quantized(self) -> bool {
        matches!(self, Self::Quantized(_))
    }
}

/// Numbers that share a scale in ggml's four-bit kinds.
const NIBBLE_BLOCK: usize = 32;

/// Where one tensor lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
    pub(crate) kind: Kind,
    /// Rows first, as Hugging Face writes shapes.
    pub(crate) shape: Vec<usize>,
    /// Heads whose rows GGUF interleaved for its rotary embedding; reading puts them back.
    pub(crate) interleaved_heads: Option<usize>,
}

/// A model on disk: everything but the weights is in memory, weights are read when asked for.
#[derive(Debug)]
pub struct Loaded {
    /// Shape and constants.
    pub config: ModelConfig,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// Jinja template that turns messages into a prompt, when the model carries one.
    pub chat_template: Option<String>,
    /// Ids that end a generation.
    pub eos: Vec<u32>,
    /// Id of the begin-of-text token, when the model has one.
    pub bos: Option<u32>,
    /// The model's own name, from its metadata or its file name.
    pub name: String,
    pub(crate) files: Vec<(PathBuf, File)>,
    pub(crate) places: HashMap<String, Place>,
}

/// Reads the model at `path`: a folder in Hugging Face layout, or a `.gguf` file.
/// All tensors that the configuration asks for are there with the right shape when this returns `Ok`.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded, Error> {
    let path = path.as_ref();
    let about = std::fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let loaded = if about.is_dir() { folder::load(path)? } else { gguf::load(path)? };
    loaded.check(path)?;
    Ok(loaded)
}

impl Loaded {
    /// The tensor of this Hugging Face name as 32-bit floats, rows first, with its shape. Quantised tensors are
    /// dequantised, and rows that GGUF reordered stand in Hugging Face's order again.
    pub fn tensor_f32(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>), Error> {
        let place = self.place(name)?;
        let raw = self.raw(place)?;
        let path = &self.files[place.file].0;
        let count = place.shape.iter().product();
        let values = number::floats(&raw, place.kind, count)
            .map_err(|what| Error::Malformed { path: path.clone(), what: format!("tensor `{name}`: {what}") })?;
        let columns = place.shape.last().copied().unwrap_or(1);
        Ok(match place.interleaved_heads {
            Some(heads) => (number::deinterleave(&values, heads, columns), place.shape.clone()),
            None => (values, place.shape.clone()),
        })
    }

    /// How the tensor of this name is stored.
    pub fn kind(&self, name: &str) -> Result<Kind, Error> {
        Ok(self.place(name)?.kind)
    }

    /// The Hugging Face names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.places.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// A tensor of four-bit numbers as it stands in the file (rows in Hugging Face's order), with rows and columns, or
    /// `None` when it is stored in another way.
    pub(crate) fn nibbles(&self, name: &str) -> Result<Option<(number::Nibbles, usize, usize)>, Error> {
        let place = self.place(name)?;
        let &[rows, columns] = place.shape.as_slice() else { return Ok(None) };
        let Some(read) = number::nibbles(&self.raw(place)?, place.kind) else { return Ok(None) };
        let Some(heads) = place.interleaved_heads else { return Ok(Some((read, rows, columns))) };
        let blocks = columns / NIBBLE_BLOCK;
        let sorted = number::Nibbles {
            quants: number::deinterleave(&read.quants, heads, columns),
            scales: number::deinterleave(&read.scales, heads, blocks),
            floors: number::deinterleave(&read.floors, heads, blocks),
        };
        Ok(Some((sorted, rows, columns)))
    }

    fn raw(&self, place: &Place) -> Result<Vec<u8>, Error> {
        let (path, file) = &self.files[place.file];
        let mut raw = vec![0; place.bytes];
        file.read_exact_at(&mut raw, place.offset).map_err(|source| Error::Read { path: path.clone(), source })?;
        Ok(raw)
    }

    fn place(&self, name: &str) -> Result<&Place, Error> {
        self.places.get(name).ok_or_else(|| Error::Missing { name: name.to_owned() })
    }

    fn check(&self, path: &Path) -> Result<(), Error> {
        check_config(&self.config).map_err(|what| Error::Malformed { path: path.to_owned(), what })?;
        for (name, expected) in expected_shapes(&self.config) {
            let place = self.place(&name)?;
            if place.shape != expected {
                return Err(Error::Shape { name, found: place.shape.clone(), expected });
            }
        }
        let vocab = self.tokenizer.get_vocab_size(true);
        if vocab > self.config.vocab_size {
            let what = format!("the tokenizer has {vocab} entries, the model only {}", self.config.vocab_size);
            return Err(Error::Malformed { path: path.to_owned(), what });
        }
        Ok(())
    }
}

/// Names and shapes (rows first) of every weight a model of this shape has, in the order they are used.
pub fn expected_shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (width, ff) = (config.hidden_size, config.intermediate_size);
    let kv = config.num_key_value_heads * config.head_dim();
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, width])];
    for layer in 0..config.num_hidden_layers {
        for (part, shape) in [
            ("input_layernorm", vec![width]),
            ("self_attn.q_proj", vec![width, width]),
            ("self_attn.k_proj", vec![kv, width]),
            ("self_attn.v_proj", vec![kv, width]),
            ("self_attn.o_proj", vec![width, width]),
            ("post_attention_layernorm", vec![width]),
            ("mlp.gate_proj", vec![ff, width]),
            ("mlp.up_proj", vec![ff, width]),
            ("mlp.down_proj", vec![width, ff]),
        ] {
            all.push((format!("model.layers.{layer}.{part}.weight"), shape));
        }
    }
    all.push(("model.norm.weight".to_owned(), vec![width]));
    if !config.tie_word_embeddings {
        all.push(("lm_head.weight".to_owned(), vec![config.vocab_size, width]));
    }
    all
}

/// Refuses shapes that would divide by zero, overflow or ask for absurd memory later.
fn check_config(config: &ModelConfig) -> Result<(), String> {
    let limits = [
        ("vocab_size", config.vocab_size, 1 << 20),
        ("hidden_size", config.hidden_size, 1 << 16),
        ("intermediate_size", config.intermediate_size, 1 << 18),
        ("num_hidden_layers", config.num_hidden_layers, 1 << 10),
        ("num_attention_heads", config.num_attention_heads, 1 << 10),
        ("num_key_value_heads", config.num_key_value_heads, 1 << 10),
        ("max_position_embeddings", config.max_position_embeddings, 1 << 24),
    ];
    for (name, value, most) in limits {
        if value == 0 || value > most {
            return Err(format!("`{name}` is {value}, expected 1 to {most}"));
        }
    }
    let heads = config.num_attention_heads;
    if !config.hidden_size.is_multiple_of(heads) || !config.head_dim().is_multiple_of(2) {
        return Err(format!("`hidden_size` {} does not split into {heads} even heads", config.hidden_size));
    }
    if !heads.is_multiple_of(config.num_key_value_heads) {
        return Err(format!("{} key/value heads do not divide {heads} query heads", config.num_key_value_heads));
    }
    if !(config.rms_norm_eps > 0.0 && config.rms_norm_eps < 1.0 && config.rope_theta > 1.0) {
        return Err("`rms_norm_eps` or `rope_theta` is out of range".to_owned());
    }
    Ok(())
}
