//! The shape of a Llama-style model, as Hugging Face's `config.json` spells it, and the settings of a training run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Shape and constants of a Llama-style decoder, field names as in Hugging Face's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Always `["LlamaForCausalLM"]`: tells other engines which module loads these weights.
    #[serde(default = "llama_architecture")]
    pub architectures: Vec<String>,
    /// Always `llama`.
    #[serde(default = "llama_model_type")]
    pub model_type: String,
    /// Entries in the vocabulary (rows of the embedding).
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated feed-forward layer.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides the query heads (grouped-query attention).
    pub num_key_value_heads: usize,
    /// Longest sequence, in tokens, the positions are meant for.
    pub max_position_embeddings: usize,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary position embedding.
    pub rope_theta: f32,
    /// Whether the output projection shares the embedding's weights.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Id of the begin-of-text token, if the model uses one.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// Ids that end a generation. Hugging Face writes one number or a list.
    #[serde(default, deserialize_with = "one_or_many")]
    pub eos_token_id: Vec<u32>,
    /// Precision the weights are stored in.
    #[serde(default = "float32")]
    pub torch_dtype: String,
}

impl ModelConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Number of trainable parameters (tied embeddings counted once).
    pub fn parameters(&self) -> u64 {
        let (width, vocab) = (self.hidden_size, self.vocab_size);
        let kv = self.num_key_value_heads * self.head_dim();
        let layer = 2 * width * width + 2 * width * kv + 3 * width * self.intermediate_size + 2 * width;
        let embeddings = if self.tie_word_embeddings { vocab * width } else { 2 * vocab * width };
        (embeddings + self.num_hidden_layers * layer + width) as u64
    }
}

fn llama_architecture() -> Vec<String> {
    vec!["LlamaForCausalLM".into()]
}

fn llama_model_type() -> String {
    "llama".into()
}

fn float32() -> String {
    "float32".into()
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(u32),
        Many(Vec<u32>),
    }
    Ok(match Option::<OneOrMany>::deserialize(from)? {
        None => Vec::new(),
        Some(OneOrMany::One(id)) => vec![id],
        Some(OneOrMany::Many(ids)) => ids,
    })
}

/// What to train, on what, and within which limits: the file given to `lm train --config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// JSON lines (chat or prompt/completion) or plain text: see [`crate::data`].
    pub data: PathBuf,
    /// Questions never trained on, in the same JSON lines; asked when training ends.
    #[serde(default)]
    pub heldout: Option<PathBuf>,
    /// A model to fine-tune (GGUF file or Hugging Face folder) instead of starting from nothing.
    #[serde(default)]
    pub base_model: Option<PathBuf>,
    /// Folder of the finished model. Must not exist, be empty, or hold an earlier model.
    pub out: PathBuf,
    /// Folder of checkpoints. Work found there goes on.
    pub checkpoints: PathBuf,
    /// Shape of a model made from nothing; not looked at with `base_model`.
    #[serde(default)]
    pub model: ModelShape,
    /// Adapter used with `base_model`; not looked at without.
    #[serde(default)]
    pub lora: LoraConfig,
    /// Examples a step.
    #[serde(default = "TrainConfig::default_batch")]
    pub batch: usize,
    /// Highest learning rate.
    #[serde(default = "TrainConfig::default_learning_rate")]
    pub learning_rate: f64,
    /// Steps to make. Without `steps` and `epochs`, chosen from the size of the data.
    #[serde(default)]
    pub steps: Option<u64>,
    /// Passes over the data to make.
    #[serde(default)]
    pub epochs: Option<u64>,
    /// Most seconds of training, checkpoints included; the learning rate is planned for whichever limit comes first.
    #[serde(default)]
    pub seconds_max: Option<u64>,
    /// Share of a prompt's tokens replaced by random ones in training, so that questions in other words are understood;
    /// only for conversations and a model made from nothing.
    #[serde(default = "TrainConfig::default_prompt_noise")]
    pub prompt_noise: f64,
    /// Where all chance comes from.
    #[serde(default = "TrainConfig::default_seed")]
    pub seed: u64,
    /// Threads that compute. More than one pays only on idle cores.
    #[serde(default = "TrainConfig::default_threads")]
    pub threads: usize,
    /// Seconds between checkpoints.
    #[serde(default = "TrainConfig::default_checkpoint_every_s")]
    pub checkpoint_every_s: u64,
}

/// Shape of a model made from nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub width: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of the gated feed-forward layer.
    pub feed_forward: usize,
    /// Most entries in the vocabulary; little data may fill fewer.
    pub vocab: usize,
    /// Longest sequence, in tokens; chosen from the data when absent.
    pub context: Option<usize>,
}

/// A low-rank adapter (Hu and others 2021): what is learned when a finished model is fine-tuned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank of each update.
    pub rank: usize,
    /// Scale of the update is `alpha / rank`.
    pub alpha: f64,
    /// Which projections learn: of `q`, `k`, `v`, `o`, `gate`, `up`, `down`.
    pub targets: Vec<String>,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Examples a step.
    pub batch: usize,
    /// Whether the adapter is added into the model's weights. Otherwise it is written beside them, in PEFT's layout.
    pub merge: bool,
}

impl Default for ModelShape {
    fn default() -> Self {
        Self { width: 192, layers: 4, heads: 6, kv_heads: 2, feed_forward: 512, vocab: 640, context: None }
    }
}

impl Default for LoraConfig {
    fn default() -> Self {
        let targets = ["q", "v", "o"].map(str::to_owned).to_vec();
        Self { rank: 8, alpha: 16.0, targets, learning_rate: 1e-3, batch: 4, merge: true }
    }
}

/// A setting that cannot be used: which one, and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` must be {expected}")]
pub struct SettingError {
    /// Path of the setting in the file.
    pub setting: &'static str,
    /// What it may be.
    pub expected: &'static str,
}

impl TrainConfig {
    /// A configuration with every default.
    pub fn new(data: impl Into<PathBuf>, out: impl Into<PathBuf>, checkpoints: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            heldout: None,
            base_model: None,
            out: out.into(),
            checkpoints: checkpoints.into(),
            model: ModelShape::default(),
            lora: LoraConfig::default(),
            batch: Self::default_batch(),
            learning_rate: Self::default_learning_rate(),
            steps: None,
            epochs: None,
            seconds_max: None,
            prompt_noise: Self::default_prompt_noise(),
            seed: Self::default_seed(),
            threads: Self::default_threads(),
            checkpoint_every_s: Self::default_checkpoint_every_s(),
        }
    }

    /// Refuses settings that could not work, before any data is read.
    pub fn check(&self) -> Result<(), SettingError> {
        let (model, lora) = (&self.model, &self.lora);
        let head = model.width.checked_div(model.heads).unwrap_or(0);
        let rate = |rate: f64| rate.is_finite() && rate > 0.0 && rate <= 1.0;
        let known = |target: &String| ["q", "k", "v", "o", "gate", "up", "down"].contains(&target.as_str());
        let rules = [
            ("model.layers", (1..=256).contains(&model.layers), "between 1 and 256"),
            ("model.heads", model.heads > 0 && model.width.is_multiple_of(model.heads), "a divisor of `model.width`"),
            (
                "model.width",
                model.width <= 16_384 && head >= 2 && head.is_multiple_of(2),
                "an even number a head, at most 16384",
            ),
            (
                "model.kv_heads",
                model.kv_heads > 0 && model.heads.is_multiple_of(model.kv_heads),
                "a divisor of `model.heads`",
            ),
            ("model.feed_forward", (1..=65_536).contains(&model.feed_forward), "between 1 and 65536"),
            ("model.vocab", (300..=262_144).contains(&model.vocab), "between 300 and 262144 (256 are bytes)"),
            ("model.context", model.context.is_none_or(|c| (8..=CONTEXT_MAX).contains(&c)), "between 8 and 8192"),
            ("lora.rank", (1..=256).contains(&lora.rank), "between 1 and 256"),
            ("lora.alpha", lora.alpha.is_finite() && lora.alpha > 0.0, "greater than 0"),
            (
                "lora.targets",
                !lora.targets.is_empty() && lora.targets.iter().all(known),
                "some of `q`, `k`, `v`, `o`, `gate`, `up`, `down`",
            ),
            ("lora.learning_rate", rate(lora.learning_rate), "between 0 and 1"),
            ("lora.batch", (1..=4096).contains(&lora.batch), "between 1 and 4096"),
            ("batch", (1..=4096).contains(&self.batch), "between 1 and 4096"),
            ("learning_rate", rate(self.learning_rate), "between 0 and 1"),
            ("steps", self.steps.is_none_or(|n| (1..=STEPS_MAX).contains(&n)), "between 1 and 100000000"),
            ("epochs", self.epochs.is_none_or(|n| (1..=1_000_000).contains(&n)), "between 1 and 1000000"),
            ("epochs", self.epochs.is_none() || self.steps.is_none(), "absent when `steps` is given"),
            ("seconds_max", self.seconds_max != Some(0), "greater than 0"),
            ("prompt_noise", (0.0..=0.5).contains(&self.prompt_noise), "between 0 and 0.5"),
            ("threads", (1..=1024).contains(&self.threads), "between 1 and 1024"),
            ("checkpoint_every_s", self.checkpoint_every_s > 0, "greater than 0"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, expected)) => Err(SettingError { setting, expected }),
            None => Ok(()),
        }
    }

    fn default_batch() -> usize {
        32
    }

    fn default_learning_rate() -> f64 {
        3e-3
    }

    fn default_prompt_noise() -> f64 {
        0.1
    }

    fn default_seed() -> u64 {
        1
    }

    fn default_threads() -> usize {
        1
    }

    fn default_checkpoint_every_s() -> u64 {
        10
    }
}

/// Longest context trained with, in tokens.
pub(crate) const CONTEXT_MAX: usize = 8192;
/// Most steps of one run.
pub(crate) const STEPS_MAX: u64 = 100_000_000;
