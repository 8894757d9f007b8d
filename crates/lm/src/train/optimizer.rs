//! `AdamW` (Loshchilov and Hutter 2019), one pass over memory a tensor.

use candle_core::{Result, Tensor};

use super::ops;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.98;
const EPSILON: f32 = 1e-8;
/// Longest gradient, over all tensors together; a longer one is scaled down to it.
const NORM_MAX: f64 = 1.0;

/// A tensor that learns, with its running moments and the gradient gathered for the next step.
pub(crate) struct Learned {
    pub(crate) name: String,
    pub(crate) value: Tensor,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    pub(crate) gradient: Option<Tensor>,
    /// Share of the value that a step of learning rate 1 forgets.
    decay: f32,
}

impl Learned {
    /// `value` is shared with the model: steps change it where it is.
    pub(crate) fn new(name: String, value: Tensor, decay: f32) -> Self {
        let size = value.elem_count();
        Self { name, value, first: vec![0.0; size], second: vec![0.0; size], gradient: None, decay }
    }

    /// Adds to the gradient gathered so far.
    pub(crate) fn gather(&mut self, gradient: Tensor) -> Result<()> {
        match &self.gradient {
            Some(gathered) => ops::add_in_place(gathered, &gradient)?,
            None => self.gradient = Some(gradient),
        }
        Ok(())
    }
}

/// Takes step number `step` (from 1) with what was gathered, and forgets it.
pub(crate) fn step(all: &mut [Learned], step: u64, rate: f32) -> Result<()> {
    let mut square = 0f64;
    for learned in all.iter() {
        if let Some(gradient) = &learned.gradient {
            let gradient = ops::floats(gradient)?;
            // Summed in blocks: one float accumulator would lose small terms of a large tensor.
            square += gradient.chunks(4096).map(|block| f64::from(ops::dot(block, block))).sum::<f64>();
        }
    }
    let shrink = if square.sqrt() > NORM_MAX { (NORM_MAX / square.sqrt()) as f32 } else { 1.0 };
    let step = i32::try_from(step).unwrap_or(i32::MAX);
    // Both bias corrections, folded into the rate and the epsilon.
    let correction1 = 1.0 - BETA1.powi(step);
    let correction2 = (1.0 - BETA2.powi(step)).sqrt();
    let (rate_now, epsilon) = (rate * correction2 / correction1, EPSILON * correction2);
    for learned in all {
        let Some(gradient) = learned.gradient.take() else { continue };
        let gradient = ops::floats(&gradient)?;
        let (first, second, keep) = (&mut learned.first, &mut learned.second, 1.0 - rate * learned.decay);
        ops::in_place(&learned.value, |value| {
            let moments = first.iter_mut().zip(second.iter_mut());
            for ((value, (first, second)), gradient) in value.iter_mut().zip(moments).zip(gradient.iter()) {
                let g = gradient * shrink;
                *first = BETA1 * *first + (1.0 - BETA1) * g;
                *second = BETA2 * *second + (1.0 - BETA2) * g * g;
                *value = *value * keep - rate_now * *first / (second.sqrt() + epsilon);
            }
        })?;
    }
    Ok(())
}
