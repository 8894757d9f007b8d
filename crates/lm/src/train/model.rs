//! A Llama-style decoder made for training: weights, forward pass, and a backward pass written out by hand.
//!
//! Why not automatic differentiation: candle's makes a gradient of both sides of every product, of frozen weights too, and
//! sums each through a fresh tensor. Written out, a step computes exactly what is learned from, answers alone go through
//! the last layer's feed-forward and the vocabulary, and the small operations are fused (see [`super::ops`]). The tests
//! check every gradient against finite differences.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::ops::{self, Heads, Rope};
use super::random::Random;
use crate::config::ModelConfig;

/// Which weight of a layer; query/key/value and gate/up are kept as one matrix each, so that one product makes them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Norm1,
    Qkv,
    Out,
    Norm2,
    GateUp,
    Down,
}

/// Names one weight tensor of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Embedding,
    Layer(usize, Part),
    Norm,
    Head,
}

/// One decoder layer.
pub(crate) struct Layer {
    pub(crate) norm1: Tensor,
    pub(crate) qkv: Tensor,
    pub(crate) out: Tensor,
    pub(crate) norm2: Tensor,
    pub(crate) gate_up: Tensor,
    pub(crate) down: Tensor,
    /// Copies of `gate_up` and `down` with inputs first, of a frozen feed-forward: the forward product reads them a third
    /// faster. Weights that learn would have to be copied anew each step, which costs what it saves.
    turned: Option<(Tensor, Tensor)>,
}

/// The decoder: its shape and every weight, rows first (output, input).
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Tensor,
    /// The output projection, when it is not the embedding.
    pub(crate) head: Option<Tensor>,
    rope: Rope,
}

/// Sequences trained on at once, padded on the right to one length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    /// `sequences * length` token ids.
    pub(crate) ids: Vec<u32>,
    pub(crate) sequences: usize,
    /// Rows (`sequence * length + position`) whose next token is learned.
    pub(crate) rows: Vec<u32>,
    /// That next token, one a row.
    pub(crate) targets: Vec<u32>,
}

/// Receives gradients as the backward pass makes them, and says which it wants.
pub(crate) trait Gradients {
    /// A matrix `slot` made `y = x * slot^T`; here are `dy` and `x`.
    fn matrix(&mut self, slot: Slot, dy: &Tensor, x: &Tensor) -> Result<()>;
    /// Whether norms and the embedding are learned.
    fn wants_all(&self) -> bool;
    /// The gradient of a norm's weight.
    fn norm(&mut self, slot: Slot, gradient: &Tensor) -> Result<()>;
    /// The embedding was looked up at `ids`; here is the gradient of what was found.
    fn embedding(&mut self, dy: &Tensor, ids: &[u32]) -> Result<()>;
}

/// What a layer's backward pass needs from its forward pass.
struct Kept {
    x: Tensor,
    h1: Tensor,
    scales1: Vec<f32>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    merged: Tensor,
    middle: Tensor,
    h2: Tensor,
    scales2: Vec<f32>,
    gate_up: Tensor,
    gated: Tensor,
}

/// Keys and values of the positions already read, one pair a layer.
#[derive(Default)]
pub(crate) struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    /// Positions read so far.
    pub(crate) length: usize,
}

impl Model {
    /// A model with random weights drawn from `random`.
    pub(crate) fn random(config: ModelConfig, random: &mut Random) -> Result<Self> {
        let (width, feed, layers) = (config.hidden_size, config.intermediate_size, config.num_hidden_layers);
        let fused = heads(&config).row();
        let queries = config.num_attention_heads * config.head_dim();
        let mut draw = |rows: usize, columns: usize, deviation: f32| {
            ops::tensor((0..rows * columns).map(|_| random.normal() * deviation).collect(), (rows, columns))
        };
        // Inputs of a product are normed to unit size: 1/sqrt(inputs) keeps its output there too. What writes into the
        // residual stream is scaled down by the number of writers.
        let deviation = 1.0 / (width as f32).sqrt();
        let residual = 1.0 / (2.0 * layers as f32).sqrt();
        let ones = |width: usize| ops::tensor(vec![1.0; width], width);
        let embedding = draw(config.vocab_size, width, deviation)?;
        let mut made = Vec::with_capacity(layers);
        for _ in 0..layers {
            made.push(Layer {
                norm1: ones(width)?,
                qkv: draw(fused, width, deviation)?,
                out: draw(width, queries, residual / (queries as f32).sqrt())?,
                norm2: ones(width)?,
                gate_up: draw(2 * feed, width, deviation)?,
                down: draw(width, feed, residual / (feed as f32).sqrt())?,
                turned: None,
            });
        }
        let head = if config.tie_word_embeddings { None } else { Some(draw(config.vocab_size, width, deviation)?) };
        Ok(Self { embedding, layers: made, norm: ones(width)?, head, rope: rope(&config), config })
    }

    /// A model whose weights are fetched by their Hugging Face names.
    pub(crate) fn from_named<E: From<candle_core::Error>>(
        config: ModelConfig,
        fetch: impl Fn(&str) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Self, E> {
        let rows = |names: &[String]| -> std::result::Result<Tensor, E> {
            let parts = names.iter().map(|name| fetch(name)).collect::<std::result::Result<Vec<_>, E>>()?;
            Ok(if let [one] = parts.as_slice() { one.contiguous()? } else { Tensor::cat(&parts, 0)? })
        };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let part = |part: Part| {
                let names: Vec<_> = cuts(&config, part).iter().map(|(name, ..)| layer_name(index, name)).collect();
                rows(&names)
            };
            layers.push(Layer {
                norm1: part(Part::Norm1)?,
                qkv: part(Part::Qkv)?,
                out: part(Part::Out)?,
                norm2: part(Part::Norm2)?,
                gate_up: part(Part::GateUp)?,
                down: part(Part::Down)?,
                turned: None,
            });
        }
        let head = if config.tie_word_embeddings { None } else { Some(rows(&[HEAD.to_owned()])?) };
        Ok(Self {
            embedding: rows(&[EMBEDDING.to_owned()])?,
            norm: rows(&[NORM.to_owned()])?,
            head,
            layers,
            rope: rope(&config),
            config,
        })
    }

    /// Trades memory for speed where the feed-forward does not learn.
    pub(crate) fn freeze_feed_forward(&mut self) -> Result<()> {
        for layer in &mut self.layers {
            layer.turned = Some((layer.gate_up.t()?.contiguous()?, layer.down.t()?.contiguous()?));
        }
        Ok(())
    }

    /// Every weight under its Hugging Face name; fused matrices are cut into their parts (views, nothing is copied).
    pub(crate) fn named(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut all =
            BTreeMap::from([(EMBEDDING.to_owned(), self.embedding.clone()), (NORM.to_owned(), self.norm.clone())]);
        if let Some(head) = &self.head {
            all.insert(HEAD.to_owned(), head.clone());
        }
        for index in 0..self.layers.len() {
            for part in PARTS {
                let whole = self.get(Slot::Layer(index, part));
                for (name, start, rows) in cuts(&self.config, part) {
                    all.insert(layer_name(index, name), whole.narrow(0, start, rows)?);
                }
            }
        }
        Ok(all)
    }

    /// Every slot of this model, in a fixed order.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::Embedding];
        for index in 0..self.layers.len() {
            slots.extend(PARTS.map(|part| Slot::Layer(index, part)));
        }
        slots.push(Slot::Norm);
        if self.head.is_some() {
            slots.push(Slot::Head);
        }
        slots
    }

    /// The weight in a slot. `Head` of a tied model is the embedding.
    pub(crate) fn get(&self, slot: Slot) -> &Tensor {
        match slot {
            Slot::Embedding => &self.embedding,
            Slot::Norm => &self.norm,
            Slot::Head => self.head.as_ref().unwrap_or(&self.embedding),
            Slot::Layer(index, part) => {
                let layer = &self.layers[index];
                match part {
                    Part::Norm1 => &layer.norm1,
                    Part::Qkv => &layer.qkv,
                    Part::Out => &layer.out,
                    Part::Norm2 => &layer.norm2,
                    Part::GateUp => &layer.gate_up,
                    Part::Down => &layer.down,
                }
            }
        }
    }

    /// One forward and backward pass. Returns the summed cross-entropy of the learned tokens; gradients are those of that
    /// sum times `scale`.
    pub(crate) fn learn(&self, batch: &Batch, scale: f32, gradients: &mut dyn Gradients) -> Result<f64> {
        let every: Vec<u32> = (0..batch.ids.len() as u32).collect();
        let mut kept = Vec::with_capacity(self.layers.len());
        let mut x = ops::gather_rows(&self.embedding, &batch.ids)?;
        for index in 0..self.layers.len() {
            let rows = if index + 1 == self.layers.len() { &batch.rows } else { &every };
            let (y, layer) = self.layer(index, &x, batch.sequences, rows, None)?;
            kept.push(layer);
            x = y;
        }
        let eps = self.config.rms_norm_eps;
        let (h, scales) = ops::rms_norm(&x, &self.norm, eps)?;
        let head = self.get(Slot::Head);
        let logits = h.matmul(&head.t()?)?;
        let loss = ops::cross_entropy(&logits, &batch.targets, scale)?;

        gradients.matrix(if self.head.is_some() { Slot::Head } else { Slot::Embedding }, &logits, &h)?;
        let dh = logits.matmul(head)?;
        drop(logits);
        let mut dx = x.zeros_like()?;
        let all = gradients.wants_all();
        if let Some(dw) = ops::rms_norm_backward(&dx, &dh, &x, &self.norm, &scales, all)? {
            gradients.norm(Slot::Norm, &dw)?;
        }
        for index in (0..self.layers.len()).rev() {
            let rows = if index + 1 == self.layers.len() { &batch.rows } else { &every };
            if let Some(layer) = kept.pop() {
                dx = self.layer_backward(index, &layer, &dx, batch.sequences, rows, gradients)?;
            }
        }
        if all {
            gradients.embedding(&dx, &batch.ids)?;
        }
        Ok(loss)
    }

    /// Reads `ids` (`sequences` of one length, after what `cache` holds) and returns the logits of each last position.
    pub(crate) fn read(&self, ids: &[u32], sequences: usize, cache: &mut Cache) -> Result<Tensor> {
        let length = ids.len() / sequences;
        let every: Vec<u32> = (0..ids.len() as u32).collect();
        let last: Vec<u32> = (1..=sequences).map(|s| (s * length - 1) as u32).collect();
        let mut x = ops::gather_rows(&self.embedding, ids)?;
        for index in 0..self.layers.len() {
            let rows = if index + 1 == self.layers.len() { &last } else { &every };
            x = self.layer(index, &x, sequences, rows, Some(cache))?.0;
        }
        cache.length += length;
        let (h, _) = ops::rms_norm(&x, &self.norm, self.config.rms_norm_eps)?;
        h.matmul(&self.get(Slot::Head).t()?)
    }

    /// One layer. Attention is computed for every row; what follows it only for `rows`.
    #[expect(clippy::many_single_char_names, reason = "the letters of the attention formula")]
    fn layer(
        &self,
        index: usize,
        x: &Tensor,
        sequences: usize,
        rows: &[u32],
        cache: Option<&mut Cache>,
    ) -> Result<(Tensor, Kept)> {
        let (layer, heads, eps) = (&self.layers[index], heads(&self.config), self.config.rms_norm_eps);
        let queries = x.dim(0)? / sequences;
        let first = cache.as_ref().map_or(0, |cache| cache.length);
        let (h1, scales1) = ops::rms_norm(x, &layer.norm1, eps)?;
        let fused = h1.matmul(&layer.qkv.t()?)?;
        let [q, mut k, mut v] = ops::split_heads(&fused, heads, sequences, &self.rope, first)?;
        drop(fused);
        if let Some(cache) = cache {
            if let Some((before_k, before_v)) = cache.layers.get_mut(index) {
                k = Tensor::cat(&[&*before_k, &k], 1)?;
                v = Tensor::cat(&[&*before_v, &v], 1)?;
                (*before_k, *before_v) = (k.clone(), v.clone());
            } else {
                cache.layers.push((k.clone(), v.clone()));
            }
        }
        let keys = k.dim(1)?;
        // Queries that share a key head follow one another, so a group is one taller matrix.
        let grouped = (sequences * heads.keys, heads.queries / heads.keys * queries, heads.width);
        let q = q.reshape(grouped)?;
        let p = q.matmul(&k.t()?)?;
        ops::causal_softmax(&p, queries, keys, 1.0 / (heads.width as f32).sqrt())?;
        let attended = p.matmul(&v)?.reshape((sequences * heads.queries, queries, heads.width))?;
        let merged = ops::merge_heads(&attended, heads.queries, rows)?;
        let middle = merged.matmul(&layer.out.t()?)?;
        if rows.len() == x.dim(0)? {
            ops::add_in_place(&middle, x)?;
        } else {
            ops::add_in_place(&middle, &ops::gather_rows(x, rows)?)?;
        }
        let (h2, scales2) = ops::rms_norm(&middle, &layer.norm2, eps)?;
        let (gate_up_turned, down_turned) = match &layer.turned {
            Some(turned) => turned.clone(),
            None => (layer.gate_up.t()?, layer.down.t()?),
        };
        let gate_up = h2.matmul(&gate_up_turned)?;
        let gated = ops::swiglu(&gate_up)?;
        let y = gated.matmul(&down_turned)?;
        ops::add_in_place(&y, &middle)?;
        let kept = Kept { x: x.clone(), h1, scales1, q, k, v, p, merged, middle, h2, scales2, gate_up, gated };
        Ok((y, kept))
    }

    /// Backward of [`Self::layer`]: takes the gradient of its output rows, returns that of its input.
    fn layer_backward(
        &self,
        index: usize,
        kept: &Kept,
        dy: &Tensor,
        sequences: usize,
        rows: &[u32],
        gradients: &mut dyn Gradients,
    ) -> Result<Tensor> {
        let (layer, heads, all) = (&self.layers[index], heads(&self.config), gradients.wants_all());
        let slot = |part| Slot::Layer(index, part);
        let length = kept.x.dim(0)? / sequences;

        gradients.matrix(slot(Part::Down), dy, &kept.gated)?;
        let dgate_up = ops::swiglu_backward(&kept.gate_up, &dy.matmul(&layer.down)?)?;
        gradients.matrix(slot(Part::GateUp), &dgate_up, &kept.h2)?;
        let dh2 = dgate_up.matmul(&layer.gate_up)?;
        drop(dgate_up);
        // `dy` also reaches the middle of the layer directly, along the residual stream.
        let dmiddle = dy.copy()?;
        if let Some(dw) = ops::rms_norm_backward(&dmiddle, &dh2, &kept.middle, &layer.norm2, &kept.scales2, all)? {
            gradients.norm(slot(Part::Norm2), &dw)?;
        }

        gradients.matrix(slot(Part::Out), &dmiddle, &kept.merged)?;
        let like = (sequences * heads.queries, length, heads.width);
        let dattended = ops::merge_heads_backward(&dmiddle.matmul(&layer.out)?, like, heads.queries, rows)?;
        let dattended = dattended.reshape(kept.q.shape())?;
        let dv = kept.p.t()?.matmul(&dattended)?;
        let ds = dattended.matmul(&kept.v.t()?)?;
        ops::causal_softmax_backward(&ds, &kept.p, length, 1.0 / (heads.width as f32).sqrt())?;
        let dq = ds.matmul(&kept.k)?.reshape(like)?;
        let dk = ds.t()?.matmul(&kept.q)?;
        let dfused = ops::split_heads_backward([&dq, &dk, &dv], heads, sequences, &self.rope)?;
        gradients.matrix(slot(Part::Qkv), &dfused, &kept.h1)?;
        let dh1 = dfused.matmul(&layer.qkv)?;

        let dx = if rows.len() == kept.x.dim(0)? {
            dmiddle
        } else {
            let dx = kept.x.zeros_like()?;
            ops::scatter_add_rows(&dx, &dmiddle, rows)?;
            dx
        };
        if let Some(dw) = ops::rms_norm_backward(&dx, &dh1, &kept.x, &layer.norm1, &kept.scales1, all)? {
            gradients.norm(slot(Part::Norm1), &dw)?;
        }
        Ok(dx)
    }
}

const PARTS: [Part; 6] = [Part::Norm1, Part::Qkv, Part::Out, Part::Norm2, Part::GateUp, Part::Down];
const EMBEDDING: &str = "model.embed_tokens.weight";
const NORM: &str = "model.norm.weight";
const HEAD: &str = "lm_head.weight";

fn heads(config: &ModelConfig) -> Heads {
    Heads { queries: config.num_attention_heads, keys: config.num_key_value_heads, width: config.head_dim() }
}

fn rope(config: &ModelConfig) -> Rope {
    Rope::new(config.rope_theta, config.head_dim(), config.max_position_embeddings)
}

fn layer_name(index: usize, name: &str) -> String {
    format!("model.layers.{index}.{name}.weight")
}

/// The Hugging Face names inside a part, with the rows each one has of it: `(name, first row, rows)`.
pub(crate) fn cuts(config: &ModelConfig, part: Part) -> Vec<(&'static str, usize, usize)> {
    let (width, feed) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim();
    let keys = config.num_key_value_heads * config.head_dim();
    match part {
        Part::Norm1 => vec![("input_layernorm", 0, width)],
        Part::Qkv => vec![
            ("self_attn.q_proj", 0, queries),
            ("self_attn.k_proj", queries, keys),
            ("self_attn.v_proj", queries + keys, keys),
        ],
        Part::Out => vec![("self_attn.o_proj", 0, width)],
        Part::Norm2 => vec![("post_attention_layernorm", 0, width)],
        Part::GateUp => vec![("mlp.gate_proj", 0, feed), ("mlp.up_proj", feed, feed)],
        Part::Down => vec![("mlp.down_proj", 0, width)],
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::Norm => f.write_str("norm"),
            Self::Head => f.write_str("head"),
            Self::Layer(index, part) => write!(f, "layers.{index}.{part:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
