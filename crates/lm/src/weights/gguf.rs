//! A GGUF file of the llama architecture: its metadata becomes a configuration and a tokenizer, its tensors get
//! Hugging Face names.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use candle_core::quantized::GgmlDType;

use super::{Error, Kind, Loaded, Place, number};
use crate::config::ModelConfig;

mod reader;
mod vocabulary;

use reader::{Header, TensorInfo, Value};

pub(crate) fn load(path: &Path) -> Result<Loaded, Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let header = Header::read(path, &file)?;
    let meta = Meta { path, values: &header.values };
    let config = config_of(&meta, &header)?;
    let places = places(path, &header, &config)?;
    let (tokenizer, eos) = vocabulary::tokenizer(&meta, &config)?;
    let chat_template = meta.text("tokenizer.chat_template").map(str::to_owned);
    let name = path.file_stem().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    let bos = config.bos_token_id;
    let config = ModelConfig { eos_token_id: eos.clone(), ..config };
    Ok(Loaded { config, tokenizer, chat_template, eos, bos, name, files: vec![(path.to_owned(), file)], places })
}

/// The metadata, with typed look-ups.
struct Meta<'a> {
    path: &'a Path,
    values: &'a HashMap<String, Value>,
}

impl Meta<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn whole(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Whole(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    fn id(&self, key: &str) -> Option<u32> {
        self.whole(key).and_then(|id| u32::try_from(id).ok())
    }

    fn real(&self, key: &str) -> Option<f64> {
        match self.values.get(key)? {
            Value::Real(number) => Some(*number),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some(Value::Flag(true)))
    }

    fn malformed(&self, what: impl Into<String>) -> Error {
        Error::Malformed { path: self.path.to_owned(), what: what.into() }
    }

    fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::Unsupported { path: self.path.to_owned(), what: what.into() }
    }
}

fn config_of(meta: &Meta<'_>, header: &Header) -> Result<ModelConfig, Error> {
    let architecture = meta.text("general.architecture").unwrap_or("");
    if architecture != "llama" {
        return Err(meta.unsupported(format!("its architecture is `{architecture}`, only `llama` is known")));
    }
    if let Some(kind) = meta.text("llama.rope.scaling.type").filter(|kind| *kind != "none") {
        return Err(meta.unsupported(format!("rotary scaling `{kind}`")));
    }
    if header.tensors.iter().any(|tensor| tensor.name == "rope_freqs.weight") {
        return Err(meta.unsupported("it scales its rotary frequencies".to_owned()));
    }
    if meta.whole("llama.expert_count").is_some_and(|count| count > 0) {
        return Err(meta.unsupported("it is a mixture of experts".to_owned()));
    }
    let need = |key: &str| {
        let key = format!("llama.{key}");
        let value = meta.whole(&key).ok_or_else(|| meta.malformed(format!("`{key}` is not there")))?;
        usize::try_from(value).map_err(|_| meta.malformed(format!("`{key}` is {value}")))
    };
    let heads = need("attention.head_count")?;
    let embedding = header.tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
    let vocab_size = embedding.and_then(|tensor| tensor.shape.first().copied()).unwrap_or(0);
    let config = ModelConfig {
        architectures: vec!["LlamaForCausalLM".to_owned()],
        model_type: "llama".to_owned(),
        vocab_size,
        hidden_size: need("embedding_length")?,
        intermediate_size: need("feed_forward_length")?,
        num_hidden_layers: need("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: need("attention.head_count_kv").unwrap_or(heads),
        max_position_embeddings: need("context_length")?,
        rms_norm_eps: meta.real("llama.attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
        rope_theta: meta.real("llama.rope.freq_base").unwrap_or(10_000.0) as f32,
        tie_word_embeddings: !header.tensors.iter().any(|tensor| tensor.name == "output.weight"),
        bos_token_id: meta.id("tokenizer.ggml.bos_token_id"),
        eos_token_id: Vec::new(),
        torch_dtype: "float32".to_owned(),
    };
    super::check_config(&config).map_err(|what| meta.malformed(what))?;
    if meta.whole("llama.rope.dimension_count").is_some_and(|dim| dim != config.head_dim() as u64) {
        return Err(meta.unsupported("it rotates only a part of each head".to_owned()));
    }
    Ok(config)
}

fn places(path: &Path, header: &Header, config: &ModelConfig) -> Result<HashMap<String, Place>, Error> {
    let mut places = HashMap::new();
    for tensor in &header.tensors {
        let Some((name, heads)) = hugging_face_name(&tensor.name, config) else { continue };
        let malformed = |what: String| Error::Malformed { path: path.to_owned(), what };
        let kind = kind_of(tensor.kind).ok_or_else(|| {
            let what = format!("tensor `{}` is of ggml type {}", tensor.name, tensor.kind);
            Error::Unsupported { path: path.to_owned(), what }
        })?;
        let bytes = place_bytes(tensor, kind).filter(|bytes| tensor.fits(*bytes, header)).ok_or_else(|| {
            malformed(format!("tensor `{}` {:?} does not fit into the file", tensor.name, tensor.shape))
        })?;
        let offset = header.data_at + tensor.offset;
        let interleaved_heads = heads.filter(|heads| tensor.shape[0].is_multiple_of(heads * 2));
        let place = Place { file: 0, offset, bytes, kind, shape: tensor.shape.clone(), interleaved_heads };
        places.insert(name, place);
    }
    Ok(places)
}

/// Rows must hold whole blocks, so the last dimension decides.
fn place_bytes(tensor: &TensorInfo, kind: Kind) -> Option<usize> {
    let (columns, rows) = tensor.shape.split_last()?;
    let rows = rows.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    number::bytes_of(kind, *columns)?.checked_mul(rows)
}

/// The Hugging Face name of a GGUF tensor and, for queries and keys, the number of heads whose rows are interleaved.
fn hugging_face_name(name: &str, config: &ModelConfig) -> Option<(String, Option<usize>)> {
    let whole = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some((whole.to_owned(), None));
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (part, heads) = match part {
        "attn_norm.weight" => ("input_layernorm", None),
        "attn_q.weight" => ("self_attn.q_proj", Some(config.num_attention_heads)),
        "attn_k.weight" => ("self_attn.k_proj", Some(config.num_key_value_heads)),
        "attn_v.weight" => ("self_attn.v_proj", None),
        "attn_output.weight" => ("self_attn.o_proj", None),
        "ffn_norm.weight" => ("post_attention_layernorm", None),
        "ffn_gate.weight" => ("mlp.gate_proj", None),
        "ffn_up.weight" => ("mlp.up_proj", None),
        "ffn_down.weight" => ("mlp.down_proj", None),
        _ => return None,
    };
    Some((format!("model.layers.{layer}.{part}.weight"), heads))
}

/// ggml's numbers for its types.
fn kind_of(number: u32) -> Option<Kind> {
    Some(match number {
        0 => Kind::F32,
        1 => Kind::F16,
        2 => Kind::Quantized(GgmlDType::Q4_0),
        3 => Kind::Quantized(GgmlDType::Q4_1),
        6 => Kind::Quantized(GgmlDType::Q5_0),
        7 => Kind::Quantized(GgmlDType::Q5_1),
        8 => Kind::Quantized(GgmlDType::Q8_0),
        10 => Kind::Quantized(GgmlDType::Q2K),
        11 => Kind::Quantized(GgmlDType::Q3K),
        12 => Kind::Quantized(GgmlDType::Q4K),
        13 => Kind::Quantized(GgmlDType::Q5K),
        14 => Kind::Quantized(GgmlDType::Q6K),
        30 => Kind::Bf16,
        _ => return None,
    })
}
