//! A model folder in Hugging Face layout: `config.json`, `tokenizer.json`, `*.safetensors` and their companions.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::{Error, Kind, Loaded, Place, number};
use crate::config::ModelConfig;

/// Largest JSON file read, bytes. The biggest tokenizers are below 40 MB.
const JSON_BYTES_MAX: u64 = 128 << 20;
/// Largest safetensors header, bytes; the format's own limit.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Most files one model is split into.
const SHARDS_MAX: usize = 1024;

pub(crate) fn load(folder: &Path) -> Result<Loaded, Error> {
    let config_path = folder.join("config.json");
    let raw_config = json_file(&config_path)?;
    let config = config_of(&config_path, raw_config)?;

    let tokenizer_path = folder.join("tokenizer.json");
    let tokenizer =
        tokenizer_of(json_file(&tokenizer_path)?).map_err(|what| Error::Malformed { path: tokenizer_path, what })?;

    let mut eos: BTreeSet<u32> = config.eos_token_id.iter().copied().collect();
    if let Some(generation) = json_file_if_there(&folder.join("generation_config.json"))? {
        eos.extend(ids(&generation["eos_token_id"]));
    }
    let about_tokens = json_file_if_there(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
    if let Some(id) = special(&about_tokens["eos_token"]).and_then(|text| tokenizer.token_to_id(text)) {
        eos.insert(id);
    }
    let bos = config
        .bos_token_id
        .or_else(|| special(&about_tokens["bos_token"]).and_then(|text| tokenizer.token_to_id(text)));
    let chat_template = match template_in(&about_tokens["chat_template"]) {
        Some(template) => Some(template),
        None => text_file_if_there(&folder.join("chat_template.jinja"))?,
    };

    let (files, places) = tensors(folder)?;
    let name = folder.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    Ok(Loaded { config, tokenizer, chat_template, eos: eos.into_iter().collect(), bos, name, files, places })
}

/// The `tokenizers` crate panics on some files that are JSON but no tokenizer (its decoders expect their fields), so the
/// panic is caught here: the file is a stranger's.
fn tokenizer_of(json: Value) -> Result<Tokenizer, String> {
    let parsed = std::panic::catch_unwind(|| serde_json::from_value::<Tokenizer>(json));
    parsed.map_err(|_| "it is not a tokenizer".to_owned())?.map_err(|error| error.to_string())
}

/// Fills what older and newer writers leave out, and refuses what this engine would run wrongly.
fn config_of(path: &Path, mut raw: Value) -> Result<ModelConfig, Error> {
    let malformed = |what: String| Error::Malformed { path: path.to_owned(), what };
    let unsupported = |what: String| Error::Unsupported { path: path.to_owned(), what };
    let Some(fields) = raw.as_object_mut() else { return Err(malformed("expected a JSON object".to_owned())) };
    if let Some(kind) = fields.get("model_type").and_then(Value::as_str)
        && kind != "llama"
    {
        return Err(unsupported(format!("`model_type` is `{kind}`, only `llama` is known")));
    }
    if fields.get("hidden_act").and_then(Value::as_str).is_some_and(|name| name != "silu") {
        return Err(unsupported("its activation is not `silu`".to_owned()));
    }
    for bias in ["attention_bias", "mlp_bias"] {
        if fields.get(bias) == Some(&Value::Bool(true)) {
            return Err(unsupported(format!("`{bias}` is set")));
        }
    }
    // transformers 5 moved the rotary settings into one object.
    let rope = fields.get("rope_parameters").cloned().unwrap_or(Value::Null);
    for scaling in [&rope, fields.get("rope_scaling").unwrap_or(&Value::Null)] {
        let kind = scaling["rope_type"].as_str().or_else(|| scaling["type"].as_str()).unwrap_or("default");
        if kind != "default" {
            return Err(unsupported(format!("rotary scaling `{kind}`")));
        }
    }
    if !fields.contains_key("rope_theta") {
        let theta = rope["rope_theta"].as_f64().unwrap_or(10_000.0);
        fields.insert("rope_theta".to_owned(), json!(theta));
    }
    if fields.get("num_key_value_heads").is_none_or(Value::is_null)
        && let Some(heads) = fields.get("num_attention_heads").cloned()
    {
        fields.insert("num_key_value_heads".to_owned(), heads);
    }
    let head_dim = fields.get("head_dim").and_then(Value::as_u64);
    let config: ModelConfig = serde_json::from_value(raw).map_err(|error| malformed(error.to_string()))?;
    if config.num_attention_heads > 0 && head_dim.is_some_and(|dim| dim != config.head_dim() as u64) {
        return Err(unsupported("`head_dim` is not `hidden_size / num_attention_heads`".to_owned()));
    }
    Ok(config)
}

type Tensors = (Vec<(PathBuf, File)>, HashMap<String, Place>);

fn tensors(folder: &Path) -> Result<Tensors, Error> {
    let (mut files, mut places) = (Vec::new(), HashMap::new());
    for path in shards(folder)? {
        let mut file = File::open(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let (data_at, header) = header(&path, &mut file)?;
        for (name, info) in header.tensors() {
            let kind = match info.dtype {
                Dtype::F32 => Kind::F32,
                Dtype::F16 => Kind::F16,
                Dtype::BF16 => Kind::Bf16,
                other => {
                    let what = format!("tensor `{name}` is stored as {other:?}; F32, F16 and BF16 are known");
                    return Err(Error::Unsupported { path, what });
                }
            };
            let (start, end) = info.data_offsets;
            let count = info.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
            if count.and_then(|count| number::bytes_of(kind, count)) != Some(end - start) {
                let what = format!("tensor `{name}` of shape {:?} has {} bytes", info.shape, end - start);
                return Err(Error::Malformed { path, what });
            }
            let place = Place {
                file: files.len(),
                offset: data_at + start as u64,
                bytes: end - start,
                kind,
                shape: info.shape.clone(),
                interleaved_heads: None,
            };
            places.insert(name, place);
        }
        files.push((path, file));
    }
    Ok((files, places))
}

/// The weight files: one, or those that the index names.
fn shards(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if single.is_file() || !index.is_file() {
        return Ok(vec![single]);
    }
    let listed = json_file(&index)?;
    let malformed = |what: &str| Error::Malformed { path: index.clone(), what: what.to_owned() };
    let map = listed["weight_map"].as_object().ok_or_else(|| malformed("expected an object `weight_map`"))?;
    let names: Option<BTreeSet<&str>> = map.values().map(Value::as_str).collect();
    let names = names.ok_or_else(|| malformed("a value in `weight_map` is not a file name"))?;
    if names.len() > SHARDS_MAX || names.iter().any(|name| name.contains('/') || *name == "..") {
        return Err(malformed("`weight_map` names too many files, or one outside the folder"));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Reads the header only. Returns where the data begins, and what lies there.
fn header(path: &Path, file: &mut File) -> Result<(u64, Metadata), Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let malformed = |what: String| Error::Malformed { path: path.to_owned(), what };
    let total = file.metadata().map_err(read)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(read)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX || length + 8 > total {
        return Err(malformed(format!("its header claims {length} bytes of {total}")));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(read)?;
    let header: Metadata = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    for (name, info) in header.tensors() {
        let (start, end) = info.data_offsets;
        if start > end || (length + 8).checked_add(end as u64).is_none_or(|end| end > total) {
            return Err(malformed(format!("tensor `{name}` lies at bytes {start} to {end} of {total}")));
        }
    }
    Ok((length + 8, header))
}

fn bytes_file(path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    let mut bytes = Vec::new();
    file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > JSON_BYTES_MAX {
        let what = format!("larger than {JSON_BYTES_MAX} bytes");
        return Err(Error::Malformed { path: path.to_owned(), what });
    }
    Ok(bytes)
}

fn json_file(path: &Path) -> Result<Value, Error> {
    serde_json::from_slice(&bytes_file(path)?)
        .map_err(|error| Error::Malformed { path: path.to_owned(), what: error.to_string() })
}

fn json_file_if_there(path: &Path) -> Result<Option<Value>, Error> {
    if path.is_file() { json_file(path).map(Some) } else { Ok(None) }
}

fn text_file_if_there(path: &Path) -> Result<Option<String>, Error> {
    if !path.is_file() {
        return Ok(None);
    }
    String::from_utf8(bytes_file(path)?)
        .map(Some)
        .map_err(|error| Error::Malformed { path: path.to_owned(), what: error.to_string() })
}

/// One id or a list of ids.
fn ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(all) => all.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

/// A special token is written as a string, or as an object with `content`.
fn special(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// A template is one string, or a list of named ones among which `default` is ours.
fn template_in(value: &Value) -> Option<String> {
    match value {
        Value::String(template) => Some(template.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}
