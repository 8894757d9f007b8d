//! A model of some kilobytes with random weights, written to disk as Hugging Face writes one, and as GGUF.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use gregal_lm::config::ModelConfig;
use gregal_lm::weights::expected_shapes;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

pub(crate) const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}\
    {% endif %}";

/// Names, shapes and numbers of all weights.
pub(crate) type Weights = Vec<(String, Vec<usize>, Vec<f32>)>;

pub(crate) fn config() -> ModelConfig {
    serde_json::from_value(json!({
        "vocab_size": 259, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "eos_token_id": 257,
    }))
    .unwrap()
}

pub(crate) fn weights() -> Weights {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 8_388_608.0 - 1.0) * 0.5
    };
    let shapes = expected_shapes(&config());
    let mut random = |count| (0..count).map(|_| next()).collect::<Vec<f32>>();
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let mut numbers = random(shape.iter().product());
            if shape.len() == 1 {
                for number in &mut numbers {
                    *number += 1.0;
                }
            }
            if name == "lm_head.weight" {
                // The end always scores 0: never the likeliest, so that a greedy answer goes on as long as it may.
                numbers[257 * shape[1]..258 * shape[1]].fill(0.0);
            }
            (name, shape, numbers)
        })
        .collect()
}

/// The letters that stand for the 256 bytes, then two control tokens, then the only merge.
fn tokens() -> Vec<String> {
    let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let letters = letters.iter().map(ToString::to_string);
    letters.chain(["<|im_start|>", "<|im_end|>", "ab"].map(str::to_owned)).collect()
}

fn tokenizer() -> Tokenizer {
    let vocab: Vocab = tokens().into_iter().zip(0..).collect();
    let bpe = BPE::builder().vocab_and_merges(vocab, vec![("a".to_owned(), "b".to_owned())]).build().unwrap();
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    let special = ["<|im_start|>", "<|im_end|>"].map(|text| AddedToken::from(text, true));
    tokenizer.add_special_tokens(special).unwrap();
    tokenizer
}

/// Writes the model as a Hugging Face folder.
pub(crate) fn folder(at: &Path) {
    std::fs::write(at.join("config.json"), serde_json::to_vec(&config()).unwrap()).unwrap();
    tokenizer().save(at.join("tokenizer.json"), false).unwrap();
    let about = json!({"chat_template": CHATML, "eos_token": "<|im_end|>"});
    std::fs::write(at.join("tokenizer_config.json"), about.to_string()).unwrap();
    let weights = weights();
    let bytes: Vec<Vec<u8>> = weights
        .iter()
        .map(|(_, _, numbers)| numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
        .collect();
    let views = weights
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    let file = safetensors::serialize(views.collect::<HashMap<_, _>>(), None).unwrap();
    std::fs::write(at.join("model.safetensors"), file).unwrap();
}

/// Writes the same model as GGUF, matrices as `kind`, with the row order llama.cpp's converter gives queries and keys.
pub(crate) fn gguf(at: &Path, kind: GgmlDType) {
    let config = config();
    let tokens = tokens();
    let texts = |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
    let whole = |number: usize| Value::U32(u32::try_from(number).unwrap());
    let mut kinds = vec![Value::I32(1); 256];
    kinds.extend([Value::I32(3), Value::I32(3), Value::I32(1)]);
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", whole(config.num_hidden_layers)),
        ("llama.context_length", whole(config.max_position_embeddings)),
        ("llama.embedding_length", whole(config.hidden_size)),
        ("llama.feed_forward_length", whole(config.intermediate_size)),
        ("llama.attention.head_count", whole(config.num_attention_heads)),
        ("llama.attention.head_count_kv", whole(config.num_key_value_heads)),
        ("llama.rope.freq_base", Value::F32(config.rope_theta)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(config.rms_norm_eps as f32)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        ("tokenizer.ggml.tokens", texts(&tokens)),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", texts(&["a b".into()])),
        ("tokenizer.ggml.eos_token_id", Value::U32(257)),
        ("tokenizer.chat_template", Value::String(CHATML.into())),
    ];
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> =
        weights().into_iter().map(|(name, shape, numbers)| tensor(&config, kind, &name, shape, numbers)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = std::fs::File::create(at).unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
}

fn tensor(
    config: &ModelConfig,
    kind: GgmlDType,
    name: &str,
    shape: Vec<usize>,
    numbers: Vec<f32>,
) -> (String, QTensor) {
    let numbers = if name.contains("q_proj") {
        interleaved(&numbers, config.num_attention_heads, shape[1])
    } else if name.contains("k_proj") {
        interleaved(&numbers, config.num_key_value_heads, shape[1])
    } else {
        numbers
    };
    let renamed = [
        ("model.embed_tokens", "token_embd"),
        ("model.layers", "blk"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let name = renamed.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
    let kind = if shape.len() == 1 { GgmlDType::F32 } else { kind };
    let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
    (name, QTensor::quantize(&tensor, kind).unwrap())
}

/// What llama.cpp's converter does, word for word: `reshape(heads, 2, rows / heads / 2, columns).swapaxes(1, 2)`.
fn interleaved(numbers: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let half = numbers.len() / columns / heads / 2;
    let mut out = Vec::new();
    for head in 0..heads {
        for within in 0..half {
            for side in 0..2 {
                out.extend_from_slice(&numbers[((head * 2 + side) * half + within) * columns..][..columns]);
            }
        }
    }
    out
}
