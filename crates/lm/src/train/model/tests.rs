//! Every gradient against finite differences, and reading in pieces against reading at once.

use std::collections::BTreeMap;

use super::*;
use crate::config::LoraConfig;
use crate::lora::{Lora, LoraGradients};
use crate::train::optimizer::Learned;

fn config(tied: bool) -> ModelConfig {
    let config = serde_json::json!({
        "vocab_size": 23, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": tied,
    });
    serde_json::from_value(config).unwrap()
}

fn model(tied: bool) -> Model {
    Model::random(config(tied), &mut Random::child(3, "weights", 0)).unwrap()
}

/// Two sequences of different length, three learned tokens.
fn batch() -> Batch {
    Batch { ids: vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 0], sequences: 2, rows: vec![3, 4, 7], targets: vec![5, 9, 11] }
}

#[derive(Default)]
struct Collected(BTreeMap<Slot, Vec<f32>>);

impl Collected {
    fn add(&mut self, slot: Slot, gradient: &[f32]) {
        let sum = self.0.entry(slot).or_insert_with(|| vec![0.0; gradient.len()]);
        sum.iter_mut().zip(gradient).for_each(|(a, b)| *a += b);
    }
}

impl Gradients for Collected {
    fn matrix(&mut self, slot: Slot, dy: &Tensor, x: &Tensor) -> Result<()> {
        self.add(slot, &ops::floats(&dy.t()?.matmul(x)?)?);
        Ok(())
    }

    fn wants_all(&self) -> bool {
        true
    }

    fn norm(&mut self, slot: Slot, gradient: &Tensor) -> Result<()> {
        self.add(slot, &ops::floats(gradient)?);
        Ok(())
    }

    fn embedding(&mut self, dy: &Tensor, ids: &[u32]) -> Result<()> {
        let mut all = vec![0.0; 23 * 16];
        for (&id, dy) in ids.iter().zip(ops::floats(dy)?.chunks(16)) {
            all[id as usize * 16..][..16].iter_mut().zip(dy).for_each(|(a, b)| *a += b);
        }
        self.add(Slot::Embedding, &all);
        Ok(())
    }
}

/// The slope of the loss along one value, measured.
fn slope(model: &Model, tensor: &Tensor, at: usize, change: &dyn Fn()) -> f64 {
    const STEP: f32 = 1e-2;
    let loss_at = |by: f32| {
        ops::in_place(tensor, |values| values[at] += by).unwrap();
        change();
        let loss = model.learn(&batch(), 1.0, &mut Collected::default()).unwrap();
        ops::in_place(tensor, |values| values[at] -= by).unwrap();
        change();
        loss
    };
    (loss_at(STEP) - loss_at(-STEP)) / f64::from(2.0 * STEP)
}

#[track_caller]
fn close(made: f32, measured: f64, what: &str) {
    let (made, allowed) = (f64::from(made), 2e-3 + 0.02 * measured.abs());
    assert!((made - measured).abs() < allowed, "{what}: made {made}, measured {measured}");
}

#[test]
fn every_gradient_is_the_slope_of_the_loss() {
    for tied in [true, false] {
        let model = model(tied);
        let mut made = Collected::default();
        model.learn(&batch(), 1.0, &mut made).unwrap();
        assert_eq!(made.0.len(), model.slots().len(), "every weight gets a gradient");
        let mut random = Random::child(5, "entries", 0);
        for slot in model.slots() {
            let weight = model.get(slot);
            for _ in 0..12 {
                let at = random.below(weight.elem_count());
                close(made.0[&slot][at], slope(&model, weight, at, &|| {}), &format!("{slot} {at} tied {tied}"));
            }
        }
    }
}

#[test]
fn gradients_of_an_adapter_are_slopes_too() {
    let model = model(true);
    let targets = ["q", "k", "v", "o", "gate", "up", "down"].map(str::to_owned).to_vec();
    let lora = LoraConfig { rank: 3, alpha: 3.0, targets, ..LoraConfig::default() };
    let mut random = Random::child(3, "adapter", 0);
    let (lora, mut learned) = Lora::new(&model, &lora, &mut random).unwrap();
    assert_eq!(learned.len(), 2 * 2 * 7);
    // Away from zero, so that both sides of each pair have a slope.
    for up in learned.iter().skip(1).step_by(2) {
        ops::in_place(&up.value, |values| values.iter_mut().for_each(|v| *v = random.normal() * 0.3)).unwrap();
    }
    lora.apply(&model, &learned).unwrap();
    model.learn(&batch(), 1.0, &mut LoraGradients { lora: &lora, learned: &mut learned }).unwrap();
    let learned: Vec<Learned> = learned;
    for one in &learned {
        let gradient = ops::floats(one.gradient.as_ref().unwrap()).unwrap();
        for _ in 0..4 {
            let at = random.below(gradient.len());
            let measured = slope(&model, &one.value, at, &|| lora.apply(&model, &learned).unwrap());
            close(gradient[at], measured, &format!("{} {at}", one.name));
        }
    }
}

#[test]
fn an_adapter_taken_out_leaves_the_base_as_it_was() {
    let model = model(true);
    let before = ops::floats(model.get(Slot::Layer(1, Part::Qkv))).unwrap().to_vec();
    let (lora, learned) = Lora::new(&model, &LoraConfig::default(), &mut Random::child(3, "adapter", 0)).unwrap();
    ops::in_place(&learned[7].value, |values| values.fill(1.0)).unwrap();
    ops::in_place(&learned[9].value, |values| values.fill(1.0)).unwrap();
    lora.apply(&model, &learned).unwrap();
    assert_ne!(*ops::floats(model.get(Slot::Layer(1, Part::Qkv))).unwrap(), before[..]);
    lora.remove(&model).unwrap();
    assert_eq!(*ops::floats(model.get(Slot::Layer(1, Part::Qkv))).unwrap(), before[..]);
}

#[test]
fn reading_in_pieces_is_reading_at_once() {
    let model = model(true);
    let ids = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let once = model.read(&ids, 2, &mut Cache::default()).unwrap();
    let mut cache = Cache::default();
    for piece in [[1, 2, 6, 7].as_slice(), &[3, 8], &[4, 9], &[5, 10]] {
        let last = model.read(piece, 2, &mut cache).unwrap();
        if cache.length == 5 {
            for (a, b) in ops::floats(&last).unwrap().iter().zip(ops::floats(&once).unwrap().iter()) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
        }
    }
    assert_eq!(cache.length, 5);
}
