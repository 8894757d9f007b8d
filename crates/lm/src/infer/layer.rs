//! One decoder layer.

use super::matrix::Matrix;
use super::{Model, Part, attention, matrix, vector};
use crate::weights::{self, Loaded};

pub(super) struct Layer {
    attention_norm: Vec<f32>,
    /// Queries, keys and values, one below the other.
    queries_keys_values: Matrix,
    attention_out: Matrix,
    feed_norm: Vec<f32>,
    /// Gates above values.
    gates_values: Matrix,
    down: Matrix,
}

impl Layer {
    pub(super) fn new(loaded: &Loaded, index: usize, exact: bool) -> Result<Self, weights::Error> {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        let read = |parts: &[&str]| {
            let names: Vec<_> = parts.iter().map(|part| name(part)).collect();
            matrix(loaded, &names.iter().map(String::as_str).collect::<Vec<_>>(), exact)
        };
        Ok(Self {
            attention_norm: loaded.tensor_f32(&name("input_layernorm"))?.0,
            queries_keys_values: read(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"])?,
            attention_out: read(&["self_attn.o_proj"])?,
            feed_norm: loaded.tensor_f32(&name("post_attention_layernorm"))?.0,
            gates_values: read(&["mlp.gate_proj", "mlp.up_proj"])?,
            down: read(&["mlp.down_proj"])?,
        })
    }

    pub(super) fn bytes_held(&self) -> usize {
        let matrices = [&self.queries_keys_values, &self.attention_out, &self.gates_values, &self.down];
        matrices.iter().map(|matrix| matrix.bytes_held()).sum()
    }

    /// Adds this layer's contribution to the stream (one row a token, parts one after the other).
    pub(super) fn run(&self, model: &Model, index: usize, stream: &mut [f32], parts: &mut [Part<'_>]) {
        let config = model.config();
        let normed = model.normed(stream, &self.attention_norm);
        let mixed = model.multiply(&self.queries_keys_values, &normed);
        let mut attended = vec![0.0; stream.len()];
        let mut row = 0;
        for part in parts {
            let rows = row..row + part.tokens.len();
            attention::run(
                model,
                part.cache,
                index,
                &mixed[rows.start * self.queries_keys_values.rows..rows.end * self.queries_keys_values.rows],
                &mut attended[rows.start * config.hidden_size..rows.end * config.hidden_size],
            );
            row = rows.end;
        }
        vector::add(model.arch, stream, &model.multiply(&self.attention_out, &attended));

        let normed = model.normed(stream, &self.feed_norm);
        let wide = model.multiply(&self.gates_values, &normed);
        let gated = vector::gated(model.arch, &wide, config.intermediate_size);
        vector::add(model.arch, stream, &model.multiply(&self.down, &gated));
    }
}
