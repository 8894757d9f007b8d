//! A small Llama decoder for the CPU: many sequences in one step, each with its own cache, prompts in pieces between the
//! steps of those that are already writing. A sequence's numbers do not depend on what else is in the step.

use pulp::Arch;

use crate::config::ModelConfig;
use crate::weights::number::Nibbles;
use crate::weights::{self, Loaded};

pub use cache::Cache;

mod attention;
mod cache;
pub(crate) mod kernel;
mod layer;
pub(crate) mod matrix;
mod vector;

use kernel::PANEL;
use layer::Layer;
use matrix::Matrix;

/// Unquantised models up to this many parameters keep their floats; larger ones are rounded to 8 bits, which reads a
/// quarter of the memory for each token.
pub const EXACT_PARAMETERS_MAX: u64 = 64_000_000;

/// Longest piece of a prompt in one step, tokens: long enough to spread the reading of weights, short enough that those
/// who are writing hardly wait.
pub const PIECE_TOKENS: usize = 128;

/// A model in memory, ready to run.
pub struct Model {
    config: ModelConfig,
    context: usize,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `None` when the embedding is used both ways.
    head: Option<Matrix>,
    /// Cosines and sines of the rotary embedding: for each position, half a head of each.
    rotary: Vec<f32>,
    arch: Arch,
    pool: Option<rayon::ThreadPool>,
}

/// One sequence's part of a step: the tokens that follow what its cache holds.
pub struct Part<'a> {
    /// What came before, extended by the step.
    pub cache: &'a mut Cache,
    /// One token when writing, a piece of the prompt when reading. Never empty.
    pub tokens: &'a [u32],
    /// Whether the scores of the token after the last one are wanted.
    pub wanted: bool,
}

impl Model {
    /// Brings the weights of `loaded` into memory. `context` bounds the length of a sequence, in tokens; `threads` is the
    /// number of worker threads of a step (1: the caller's own). `progress` is told layers done and layers in all.
    pub fn new(
        loaded: &Loaded,
        context: usize,
        threads: usize,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, weights::Error> {
        let config = loaded.config.clone();
        let exact = config.parameters() <= EXACT_PARAMETERS_MAX;
        let total = config.num_hidden_layers + 1;
        progress(0, total);
        let embedding = matrix(loaded, &["model.embed_tokens.weight"], exact)?;
        let head = if config.tie_word_embeddings { None } else { Some(matrix(loaded, &["lm_head.weight"], exact)?) };
        let (norm, _) = loaded.tensor_f32("model.norm.weight")?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            progress(index + 1, total);
            layers.push(Layer::new(loaded, index, exact)?);
        }
        progress(total, total);
        let pool = if threads > 1 {
            // A pool that cannot be had (no more threads allowed) costs speed, not answers.
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok()
        } else {
            None
        };
        let rotary = rotary(&config, context);
        Ok(Self { config, context, embedding, layers, norm, head, rotary, arch: Arch::new(), pool })
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Longest sequence, in tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Memory the weights take, bytes.
    pub fn bytes_held(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes_held).sum();
        self.embedding.bytes_held() + self.head.as_ref().map_or(0, Matrix::bytes_held) + layers
    }

    /// The processor's instructions that were chosen when the program started.
    pub fn instructions(&self) -> &'static str {
        match self.arch {
            Arch::Scalar => "plain instructions",
            #[cfg(target_arch = "x86_64")]
            Arch::V3(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Arch::V4(_) => "AVX-512",
            _ => "vector instructions",
        }
    }

    /// An empty cache for a new sequence.
    pub fn cache(&self) -> Cache {
        Cache::new(&self.config)
    }

    /// Runs one step: extends every part's cache by its tokens, and returns for every part that wants them the scores
    /// (logits) of each vocabulary entry as next token.
    ///
    /// # Panics
    ///
    /// When a part is empty, holds an id outside the vocabulary, or grows past [`Model::context`]: the caller checks.
    pub fn step(&self, parts: &mut [Part<'_>]) -> Vec<Option<Vec<f32>>> {
        let width = self.config.hidden_size;
        let rows: usize = parts.iter().map(|part| part.tokens.len()).sum();
        let mut stream = vec![0.0; rows * width];
        let ids = parts.iter().flat_map(|part| part.tokens);
        for (row, id) in stream.chunks_exact_mut(width).zip(ids) {
            assert!((*id as usize) < self.config.vocab_size, "a token id lies outside the vocabulary");
            self.embedding.row(*id as usize, row);
        }
        for part in &*parts {
            assert!(!part.tokens.is_empty(), "a part without tokens has no last one");
            assert!(part.cache.length() + part.tokens.len() <= self.context, "a sequence outgrew the context");
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer.run(self, index, &mut stream, parts);
        }
        for part in &mut *parts {
            part.cache.advance(part.tokens.len());
        }
        self.scores(&stream, parts)
    }

    /// Only the last token of a part is scored: the vocabulary is the widest matrix of all.
    fn scores(&self, stream: &[f32], parts: &[Part<'_>]) -> Vec<Option<Vec<f32>>> {
        let width = self.config.hidden_size;
        let mut lasts = Vec::new();
        let mut row = 0;
        for part in parts {
            row += part.tokens.len();
            if part.wanted {
                lasts.extend_from_slice(&stream[(row - 1) * width..row * width]);
            }
        }
        if lasts.is_empty() {
            return parts.iter().map(|_| None).collect();
        }
        let count = lasts.len() / width;
        let normed = self.normed(&lasts, &self.norm);
        let scores = self.multiply(self.head.as_ref().unwrap_or(&self.embedding), &normed);
        let mut scores = scores.chunks_exact(scores.len() / count).map(<[f32]>::to_vec);
        parts.iter().map(|part| if part.wanted { scores.next() } else { None }).collect()
    }

    /// Rows of activations times a matrix, row after row.
    fn multiply(&self, matrix: &Matrix, rows: &[f32]) -> Vec<f32> {
        let count = rows.len() / matrix.columns;
        let mut out = vec![[0.0; PANEL]; matrix.panel_count() * count];
        kernel::product(self.arch, self.pool.as_ref(), rows, matrix.columns, matrix.panels(), &mut out);
        let mut flat = vec![0.0; count * matrix.rows];
        for (panel, out) in out.chunks_exact(count).enumerate() {
            let first = panel * PANEL;
            let take = PANEL.min(matrix.rows - first);
            for (row, out) in out.iter().enumerate() {
                flat[row * matrix.rows + first..][..take].copy_from_slice(&out[..take]);
            }
        }
        flat
    }

    fn normed(&self, rows: &[f32], weights: &[f32]) -> Vec<f32> {
        vector::normed(self.arch, rows, weights, self.config.rms_norm_eps as f32)
    }

    /// Cosines, then sines, of this position.
    fn rotation(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.config.head_dim() / 2;
        self.rotary[position * 2 * half..][..2 * half].split_at(half)
    }
}

/// Reads matrices with equal inputs as one, so that they are multiplied in one go. Four-bit numbers stay what they are,
/// other quantised ones become 8-bit, floats stay floats if `exact`.
fn matrix(loaded: &Loaded, names: &[&str], exact: bool) -> Result<Matrix, weights::Error> {
    if let Some(matrix) = nibble_matrix(loaded, names)? {
        return Ok(matrix);
    }
    let (mut all, mut rows, mut columns) = (Vec::new(), 0, 0);
    let mut quantized = false;
    for name in names {
        quantized |= loaded.kind(name)?.is_quantized();
        let (values, shape) = loaded.tensor_f32(name)?;
        rows += shape[0];
        columns = shape[1];
        all.extend(values);
    }
    Ok(if exact && !quantized { Matrix::exact(&all, rows, columns) } else { Matrix::bytes(&all, rows, columns) })
}

fn nibble_matrix(loaded: &Loaded, names: &[&str]) -> Result<Option<Matrix>, weights::Error> {
    let (mut all, mut rows, mut columns) = (Nibbles::default(), 0, 0);
    for name in names {
        let Some((mut next, next_rows, next_columns)) = loaded.nibbles(name)? else { return Ok(None) };
        all.quants.append(&mut next.quants);
        all.scales.append(&mut next.scales);
        all.floors.append(&mut next.floors);
        rows += next_rows;
        columns = next_columns;
    }
    Ok(Some(Matrix::nibbles(&all, rows, columns)))
}

fn rotary(config: &ModelConfig, context: usize) -> Vec<f32> {
    let half = config.head_dim() / 2;
    let mut table = Vec::with_capacity(context * 2 * half);
    for position in 0..context {
        let angle = |index: usize| {
            let exponent = index as f64 / half as f64;
            position as f64 / f64::from(config.rope_theta).powf(exponent)
        };
        table.extend((0..half).map(|index| angle(index).cos() as f32));
        table.extend((0..half).map(|index| angle(index).sin() as f32));
    }
    table
}
