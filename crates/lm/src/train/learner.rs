//! What learns in a run: every weight of a new model, or the adapters of a finished one.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::batches;
use super::model::{Gradients, Model, Slot};
use super::ops;
use super::optimizer::{self, Learned};
use super::random::Random;
use crate::checkpoint::Tensors;
use crate::config::LoraConfig;
use crate::lora::{Lora, LoraGradients};
use crate::tokenizer::Example;

/// Forgetting of matrices a step, as a share of the learning rate. Norms forget nothing.
const DECAY: f32 = 0.1;
/// Memory for what a forward pass keeps, in bytes.
const KEPT_BYTES: usize = 384 << 20;

/// A model and the part of it that learns.
pub(crate) struct Learner {
    pub(crate) model: Model,
    pub(crate) learned: Vec<Learned>,
    pub(crate) lora: Option<Lora>,
    slots: BTreeMap<Slot, usize>,
    positions_max: usize,
}

/// What one step did.
pub(crate) struct Stepped {
    /// Mean cross-entropy of the learned tokens, in nats.
    pub(crate) loss: f64,
    /// Tokens read, without padding.
    pub(crate) tokens: u64,
}

impl Learner {
    /// Every weight learns.
    pub(crate) fn whole(model: Model) -> Self {
        let slots: BTreeMap<Slot, usize> = model.slots().into_iter().enumerate().map(|(i, slot)| (slot, i)).collect();
        let mut learned = Vec::with_capacity(slots.len());
        for slot in model.slots() {
            let value = model.get(slot).clone();
            let decay = if value.rank() > 1 { DECAY } else { 0.0 };
            learned.push(Learned::new(slot.to_string(), value, decay));
        }
        Self { positions_max: positions_max(&model), model, learned, lora: None, slots }
    }

    /// Only adapters learn.
    pub(crate) fn adapted(mut model: Model, config: &LoraConfig, random: &mut Random) -> Result<Self> {
        let (lora, learned) = Lora::new(&model, config, random)?;
        if !lora.target_modules().iter().any(|module| ["gate_proj", "up_proj", "down_proj"].contains(module)) {
            model.freeze_feed_forward()?;
        }
        Ok(Self { positions_max: positions_max(&model), model, learned, lora: Some(lora), slots: BTreeMap::new() })
    }

    /// Parameters that learn.
    pub(crate) fn parameters_learned(&self) -> u64 {
        self.learned.iter().map(|learned| learned.first.len() as u64).sum()
    }

    /// Learns from the chosen examples; `number` counts steps from 1.
    pub(crate) fn step(&mut self, chosen: Vec<Example>, pad: u32, number: u64, rate: f64) -> Result<Stepped> {
        let answers: usize = chosen.iter().map(|example| example.learned.len()).sum();
        let tokens: usize = chosen.iter().map(|example| example.ids.len()).sum();
        let mut loss = 0.0;
        for part in batches::parts(chosen, pad, self.positions_max) {
            let scale = 1.0 / answers as f32;
            loss += match &self.lora {
                Some(lora) => {
                    self.model.learn(&part, scale, &mut LoraGradients { lora, learned: &mut self.learned })?
                }
                None => self.model.learn(&part, scale, &mut All { slots: &self.slots, learned: &mut self.learned })?,
            };
        }
        optimizer::step(&mut self.learned, number, rate as f32)?;
        if let Some(lora) = &self.lora {
            lora.apply(&self.model, &self.learned)?;
        }
        Ok(Stepped { loss: loss / answers as f64, tokens: tokens as u64 })
    }

    /// Everything a later run needs to go on: values and moments.
    pub(crate) fn save<T>(&self, write: impl FnOnce(Vec<(String, &[f32])>) -> T) -> Result<T> {
        let values = self.learned.iter().map(|l| ops::floats(&l.value)).collect::<Result<Vec<_>>>()?;
        let mut all = Vec::with_capacity(3 * values.len());
        for (learned, value) in self.learned.iter().zip(&values) {
            all.push((format!("value.{}", learned.name), &**value));
            all.push((format!("first.{}", learned.name), learned.first.as_slice()));
            all.push((format!("second.{}", learned.name), learned.second.as_slice()));
        }
        Ok(write(all))
    }

    /// Goes on from saved tensors.
    pub(crate) fn restore(&mut self, mut saved: Tensors) -> Result<()> {
        for learned in &mut self.learned {
            let size = learned.first.len();
            let mut take = |kind: &str| match saved.remove(&format!("{kind}.{}", learned.name)) {
                Some(values) if values.len() == size => Ok(values),
                _ => candle_core::bail!("the checkpoint has no fitting `{kind}.{}`", learned.name),
            };
            let value = take("value")?;
            ops::in_place(&learned.value, |values| values.copy_from_slice(&value))?;
            learned.first = take("first")?;
            learned.second = take("second")?;
        }
        match &self.lora {
            Some(lora) => lora.apply(&self.model, &self.learned),
            None => Ok(()),
        }
    }
}

/// Padded positions whose forward pass fits in the memory set aside for it.
fn positions_max(model: &Model) -> usize {
    let config = &model.config;
    let kept = 7 * config.hidden_size + 3 * config.intermediate_size;
    (KEPT_BYTES / (4 * kept * config.num_hidden_layers)).max(64)
}

/// Receives the gradients of every weight.
struct All<'a> {
    slots: &'a BTreeMap<Slot, usize>,
    learned: &'a mut [Learned],
}

impl Gradients for All<'_> {
    fn matrix(&mut self, slot: Slot, dy: &Tensor, x: &Tensor) -> Result<()> {
        self.learned[self.slots[&slot]].gather(dy.t()?.matmul(x)?)
    }

    fn wants_all(&self) -> bool {
        true
    }

    fn norm(&mut self, slot: Slot, gradient: &Tensor) -> Result<()> {
        self.learned[self.slots[&slot]].gather(gradient.clone())
    }

    fn embedding(&mut self, dy: &Tensor, ids: &[u32]) -> Result<()> {
        let learned = &mut self.learned[self.slots[&Slot::Embedding]];
        if learned.gradient.is_none() {
            learned.gradient = Some(learned.value.zeros_like()?);
        }
        match &learned.gradient {
            Some(gradient) => ops::scatter_add_rows(gradient, dy, ids),
            None => Ok(()),
        }
    }
}
