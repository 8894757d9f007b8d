//! Attention of one sequence in one layer, as two products against its cache.

use super::cache::Cache;
use super::kernel::{PANEL, Panels, product};
use super::{Model, vector};

/// Extends the cache by the keys and values in `mixed` (a row a token: queries, keys, values) and writes what every
/// token attends to into `out` (a row a token).
pub(super) fn run(model: &Model, cache: &mut Cache, layer: usize, mixed: &[f32], out: &mut [f32]) {
    let config = model.config();
    let (size, width) = (config.head_dim(), config.hidden_size);
    let kv_heads = config.num_key_value_heads;
    let group = config.num_attention_heads / kv_heads;
    let row_length = width + 2 * kv_heads * size;
    let tokens = mixed.len() / row_length;
    let before = cache.length();
    let total = before + tokens;
    let scale = 1.0 / (size as f32).sqrt();

    let mut queries = vec![0.0; tokens * group * size];
    let mut weights = vec![0.0; tokens * group * total];
    let mut sums = vec![0.0; tokens * group];
    let mut key = vec![0.0; size];
    for (kv_head, remembered) in cache.layers[layer].heads.iter_mut().enumerate() {
        for (token, mixed) in mixed.chunks_exact(row_length).enumerate() {
            let (cosines, sines) = model.rotation(before + token);
            key.copy_from_slice(&mixed[width + kv_head * size..][..size]);
            vector::rotate(&mut key, cosines, sines);
            remembered.push(before + token, &key, &mixed[width + (kv_heads + kv_head) * size..][..size]);
            for member in 0..group {
                let query = &mut queries[(token * group + member) * size..][..size];
                query.copy_from_slice(&mixed[(kv_head * group + member) * size..][..size]);
                vector::rotate(query, cosines, sines);
                for number in query {
                    *number *= scale;
                }
            }
        }

        // The cache is small next to the weights: one thread, no pool.
        let rows = tokens * group;
        let mut scores = vec![[0.0; PANEL]; total.div_ceil(PANEL) * rows];
        product(model.arch, None, &queries, size, Panels::F32(&remembered.keys), &mut scores);
        soften(model.arch, &scores, &mut weights, &mut sums, total, before, group);

        for (part, values) in remembered.values.iter().enumerate() {
            let mut answers = vec![[0.0; PANEL]; rows];
            product(model.arch, None, &weights, total, Panels::F32(values), &mut answers);
            let take = PANEL.min(size - part * PANEL);
            for (row, answer) in answers.iter().enumerate() {
                let (token, member) = (row / group, row % group);
                let at = token * width + (kv_head * group + member) * size + part * PANEL;
                for (out, number) in out[at..at + take].iter_mut().zip(answer) {
                    *out = number / sums[row];
                }
            }
        }
    }
}

/// Turns panel-major scores into rows of weights. A token sees itself and what came before; the rest weighs nothing.
fn soften(
    arch: pulp::Arch,
    scores: &[[f32; PANEL]],
    weights: &mut [f32],
    sums: &mut [f32],
    total: usize,
    before: usize,
    group: usize,
) {
    let rows = sums.len();
    arch.dispatch(
        #[inline(always)]
        || {
            for (row, (weights, sum)) in weights.chunks_exact_mut(total).zip(sums.iter_mut()).enumerate() {
                for (panel, weights) in weights.chunks_mut(PANEL).enumerate() {
                    let take = weights.len();
                    weights.copy_from_slice(&scores[panel * rows + row][..take]);
                }
                let (seen, unseen) = weights.split_at_mut(before + row / group + 1);
                *sum = vector::softened(seen);
                unseen.fill(0.0);
            }
        },
    );
}
