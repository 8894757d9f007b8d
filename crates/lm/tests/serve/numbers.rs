//! The decoder against the textbook, and a sequence against itself in company.

use gregal_lm::infer::{Model, Part};
use gregal_lm::weights;

use crate::tiny;

fn model() -> (Model, tempfile::TempDir) {
    let at = tempfile::tempdir().unwrap();
    tiny::folder(at.path());
    let loaded = weights::load(at.path()).unwrap();
    (Model::new(&loaded, 600, 1, |_, _| {}).unwrap(), at)
}

fn ids(count: usize, start: usize) -> Vec<u32> {
    (0..count).map(|n| ((n * 37 + start) % 256) as u32).collect()
}

/// Scores after the last of `ids`, computed plainly in double precision, straight from the definition of the model.
pub(crate) fn textbook(ids: &[u32], weights: &tiny::Weights) -> Vec<f64> {
    let config = tiny::config();
    let get = |name: &str| {
        let (_, shape, numbers) = weights.iter().find(|(found, ..)| found == name).unwrap();
        (shape.clone(), numbers.iter().map(|number| f64::from(*number)).collect::<Vec<_>>())
    };
    let times = |name: &str, values: &[f64]| -> Vec<f64> {
        let (shape, numbers) = get(name);
        assert_eq!(shape[1], values.len());
        numbers.chunks(shape[1]).map(|row| row.iter().zip(values).map(|(a, b)| a * b).sum()).collect()
    };
    let norm = |name: &str, values: &[f64]| -> Vec<f64> {
        let mean = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
        let scale = 1.0 / (mean + config.rms_norm_eps).sqrt();
        values.iter().zip(get(name).1).map(|(value, weight)| value * scale * weight).collect()
    };
    let size = config.head_dim();
    let rotate = |values: &[f64], position: usize| -> Vec<f64> {
        let mut out = values.to_vec();
        for head in out.chunks_mut(size) {
            for i in 0..size / 2 {
                let angle = position as f64 / f64::from(config.rope_theta).powf(2.0 * i as f64 / size as f64);
                let (a, b) = (head[i], head[i + size / 2]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + size / 2] = b * angle.cos() + a * angle.sin();
            }
        }
        out
    };
    let embedding = get("model.embed_tokens.weight").1;
    let mut rows: Vec<Vec<f64>> =
        ids.iter().map(|id| embedding[*id as usize * config.hidden_size..][..config.hidden_size].to_vec()).collect();
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let normed: Vec<_> = rows.iter().map(|row| norm(&name("input_layernorm"), row)).collect();
        let at = |part: &str| -> Vec<Vec<f64>> { normed.iter().map(|row| times(&name(part), row)).collect() };
        let turn = |rows: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            rows.iter().enumerate().map(|(position, row)| rotate(row, position)).collect()
        };
        let (q, k, v) = (turn(at("self_attn.q_proj")), turn(at("self_attn.k_proj")), at("self_attn.v_proj"));
        for (position, row) in rows.iter_mut().enumerate() {
            let mut mixed = Vec::new();
            for head in 0..config.num_attention_heads {
                let shared = head / (config.num_attention_heads / config.num_key_value_heads);
                let query = &q[position][head * size..][..size];
                let score = |other: usize| -> f64 {
                    let key = &k[other][shared * size..][..size];
                    (query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() / (size as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = (0..=position).map(score).collect();
                let total: f64 = scores.iter().sum();
                mixed.extend((0..size).map(|i| {
                    (0..=position).map(|other| scores[other] / total * v[other][shared * size + i]).sum::<f64>()
                }));
            }
            for (value, add) in row.iter_mut().zip(times(&name("self_attn.o_proj"), &mixed)) {
                *value += add;
            }
            let normed = norm(&name("post_attention_layernorm"), row);
            let gates = times(&name("mlp.gate_proj"), &normed);
            let values = times(&name("mlp.up_proj"), &normed);
            let mixed: Vec<_> =
                gates.iter().zip(&values).map(|(gate, value)| gate / (1.0 + (-gate).exp()) * value).collect();
            for (value, add) in row.iter_mut().zip(times(&name("mlp.down_proj"), &mixed)) {
                *value += add;
            }
        }
    }
    times("lm_head.weight", &norm("model.norm.weight", rows.last().unwrap()))
}

#[test]
fn the_decoder_computes_what_the_textbook_says() {
    let (model, _at) = model();
    for count in [1, 2, 31, 33, 70] {
        let ids = ids(count, 5);
        let mut cache = model.cache();
        let got = model.step(&mut [Part { cache: &mut cache, tokens: &ids, wanted: true }]).remove(0).unwrap();
        let wanted = textbook(&ids, &tiny::weights());
        assert_eq!(got.len(), wanted.len());
        for (id, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            assert!((f64::from(*got) - wanted).abs() < 2e-4, "{count} tokens, id {id}: {got} is not {wanted}");
        }
    }
}

#[test]
fn neither_pieces_nor_company_change_a_single_bit() {
    let (model, _at) = model();
    let mine = ids(200, 3);
    let mut cache = model.cache();
    let alone = model.step(&mut [Part { cache: &mut cache, tokens: &mine, wanted: true }]).remove(0).unwrap();

    let others = [ids(300, 90), ids(300, 140)];
    let mut caches = [model.cache(), model.cache(), model.cache()];
    let mut last = None;
    let (mut at, mut step) = (0, 0);
    while at < mine.len() {
        let take = [1, 7, 40, 2, 18][step % 5].min(mine.len() - at);
        let [a, b, c] = &mut caches;
        let mut parts = vec![
            Part { cache: a, tokens: &others[0][step * 3..step * 3 + 3], wanted: true },
            Part { cache: b, tokens: &mine[at..at + take], wanted: true },
        ];
        if step % 2 == 0 {
            parts.push(Part { cache: c, tokens: &others[1][step..=step], wanted: false });
        }
        last = model.step(&mut parts).remove(1);
        at += take;
        step += 1;
    }
    assert_eq!(last.unwrap(), alone);
}
