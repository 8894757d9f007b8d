//! Low-rank adapters: what is learned when a finished model is fine-tuned. The base stays as it was; each target gets two
//! small matrices whose product is added to it.
//!
//! The forward pass uses the sum, refreshed after each step: that keeps one model for both kinds of training and costs a
//! pass over the targets' memory. The gradients go to the small matrices directly: the large one is never made.

use candle_core::{Result, Tensor};

use crate::config::LoraConfig;
use crate::train::model::{Gradients, Model, Part, Slot, cuts};
use crate::train::ops;
use crate::train::optimizer::Learned;
use crate::train::random::Random;

/// One adapted projection: `base + scale * up * down`.
struct Adapter {
    slot: Slot,
    /// Hugging Face name of the module, for instance `model.layers.0.self_attn.q_proj`.
    module: String,
    /// First row in the fused matrix, and rows.
    start: usize,
    rows: usize,
    base: Tensor,
}

/// The adapters of a model. Adapter `i` owns the learned tensors `2 i` (down: rank x inputs, "A") and `2 i + 1`
/// (up: outputs x rank, "B").
pub(crate) struct Lora {
    adapters: Vec<Adapter>,
    scale: f64,
}

impl Lora {
    /// Adapters that change nothing yet (up is zero), and the tensors that learn.
    pub(crate) fn new(model: &Model, config: &LoraConfig, random: &mut Random) -> Result<(Self, Vec<Learned>)> {
        let (mut adapters, mut learned) = (Vec::new(), Vec::new());
        for index in 0..model.layers.len() {
            for part in [Part::Qkv, Part::Out, Part::GateUp, Part::Down] {
                for (name, start, rows) in cuts(&model.config, part) {
                    let short = name.rsplit('.').next().unwrap_or(name).trim_end_matches("_proj");
                    if !config.targets.iter().any(|target| target == short) {
                        continue;
                    }
                    let slot = Slot::Layer(index, part);
                    let base = model.get(slot).narrow(0, start, rows)?.copy()?;
                    let inputs = base.dim(1)?;
                    let module = format!("model.layers.{index}.{name}");
                    let deviation = 1.0 / (3.0 * inputs as f32).sqrt();
                    let down = (0..config.rank * inputs).map(|_| random.normal() * deviation).collect();
                    let down = ops::tensor(down, (config.rank, inputs))?;
                    let up = ops::tensor(vec![0.0; rows * config.rank], (rows, config.rank))?;
                    learned.push(Learned::new(format!("{module}.lora_A.weight"), down, 0.0));
                    learned.push(Learned::new(format!("{module}.lora_B.weight"), up, 0.0));
                    adapters.push(Adapter { slot, module, start, rows, base });
                }
            }
        }
        Ok((Self { adapters, scale: config.alpha / config.rank as f64 }, learned))
    }

    /// Writes base plus adapter into the model's weights.
    pub(crate) fn apply(&self, model: &Model, learned: &[Learned]) -> Result<()> {
        let scale = self.scale as f32;
        for (adapter, pair) in self.adapters.iter().zip(learned.chunks_exact(2)) {
            let update = pair[1].value.matmul(&pair[0].value)?;
            let (update, base) = (ops::floats(&update)?, ops::floats(&adapter.base)?);
            let whole = model.get(adapter.slot);
            let columns = whole.dim(1)?;
            let range = adapter.start * columns..(adapter.start + adapter.rows) * columns;
            ops::in_place(whole, |whole| {
                for ((w, base), update) in whole[range.clone()].iter_mut().zip(base.iter()).zip(update.iter()) {
                    *w = base + scale * update;
                }
            })?;
        }
        Ok(())
    }

    /// Takes the adapters out of the model's weights again.
    pub(crate) fn remove(&self, model: &Model) -> Result<()> {
        for adapter in &self.adapters {
            let base = ops::floats(&adapter.base)?;
            let columns = adapter.base.dim(1)?;
            let start = adapter.start * columns;
            ops::in_place(model.get(adapter.slot), |whole| whole[start..start + base.len()].copy_from_slice(&base))?;
        }
        Ok(())
    }

    /// The last parts of the adapted modules' names, as PEFT lists them.
    pub(crate) fn target_modules(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.adapters.iter().filter_map(|adapter| adapter.module.rsplit('.').next()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Receives a backward pass's gradients for adapters.
pub(crate) struct LoraGradients<'a> {
    pub(crate) lora: &'a Lora,
    pub(crate) learned: &'a mut [Learned],
}

impl Gradients for LoraGradients<'_> {
    fn matrix(&mut self, slot: Slot, dy: &Tensor, x: &Tensor) -> Result<()> {
        for (adapter, pair) in self.lora.adapters.iter().zip(self.learned.chunks_exact_mut(2)) {
            if adapter.slot != slot {
                continue;
            }
            let dy = dy.narrow(1, adapter.start, adapter.rows)?;
            let (down, up) = (pair[0].value.clone(), pair[1].value.clone());
            let squeezed = (x.matmul(&down.t()?)? * self.lora.scale)?;
            let dsqueezed = (dy.matmul(&up)? * self.lora.scale)?;
            pair[1].gather(dy.t()?.matmul(&squeezed)?)?;
            pair[0].gather(dsqueezed.t()?.matmul(x)?)?;
        }
        Ok(())
    }

    fn wants_all(&self) -> bool {
        false
    }

    fn norm(&mut self, _: Slot, _: &Tensor) -> Result<()> {
        Ok(())
    }

    fn embedding(&mut self, _: &Tensor, _: &[u32]) -> Result<()> {
        Ok(())
    }
}
