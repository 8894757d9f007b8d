//! The element-wise halves of training: each fuses what a chain of tensor operations would do in several passes over
//! memory. Matrix products stay candle's; here are only loops over rows, written so that the compiler vectorises them.

use std::cell::RefCell;
use std::ops::Deref;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor};

/// Accumulators kept side by side in a reduction: float addition may not be reordered by the compiler, so we do it.
const LANES: usize = 16;

/// A borrowed view of a contiguous `f32` tensor in main memory.
struct Floats<G> {
    guard: G,
    start: usize,
    length: usize,
}

impl<G: Deref<Target = Storage>> Deref for Floats<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(all)) => &all[self.start..self.start + self.length],
            _ => &[],
        }
    }
}

/// Borrows the values of a tensor. Fails when it is strided, on another device, or not `f32`.
pub(crate) fn floats(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + use<'_>> {
    let (guard, layout) = tensor.storage_and_layout();
    if !matches!(&*guard, Storage::Cpu(CpuStorage::F32(_))) {
        candle_core::bail!("training works on f32 tensors in main memory");
    }
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("training expects a contiguous tensor");
    };
    Ok(Floats { guard, start, length: end - start })
}

/// Makes a tensor of values without copying them.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

struct InPlace<F>(RefCell<F>);

impl<F: FnMut(&mut [f32])> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(all) = storage else { candle_core::bail!("training works on f32 tensors") };
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("training expects a contiguous tensor");
        };
        (self.0.borrow_mut())(&mut all[start..end]);
        Ok(())
    }
}

/// Changes the values of a tensor where they are. Every clone of the tensor sees the change.
pub(crate) fn in_place(tensor: &Tensor, change: impl FnMut(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&InPlace(RefCell::new(change)))
}

/// `into += from`, in place.
pub(crate) fn add_in_place(into: &Tensor, from: &Tensor) -> Result<()> {
    let from = floats(from)?;
    in_place(into, |into| {
        for (a, b) in into.iter_mut().zip(from.iter()) {
            *a += b;
        }
    })
}

/// Sum of products, with independent accumulators.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in a.by_ref().zip(b.by_ref()) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + tail
}

fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let mut a = a.chunks_exact(LANES);
    for a in a.by_ref() {
        for lane in 0..LANES {
            lanes[lane] += a[lane];
        }
    }
    lanes.iter().sum::<f32>() + a.remainder().iter().sum::<f32>()
}

fn maximum(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut a = a.chunks_exact(LANES);
    for a in a.by_ref() {
        for lane in 0..LANES {
            lanes[lane] = if a[lane] > lanes[lane] { a[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(a.remainder()).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

/// `e^x` to about two units in the last place, for `x` in -87..88 (clamped). Cephes' polynomial, with the exponent made
/// by an integer shift, so that a loop over it vectorises; the library's `expf` is a call per element.
#[inline]
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the rounded integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    value * power
}

#[inline]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// RMS norm of each row, times the weight; with the reciprocal root mean square of each row, which backward needs.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<(Tensor, Vec<f32>)> {
    let (rows, width) = x.dims2()?;
    let (x, w) = (floats(x)?, floats(weight)?);
    let mut out = Vec::with_capacity(rows * width);
    let mut scales = Vec::with_capacity(rows);
    for row in x.chunks_exact(width) {
        let scale = 1.0 / (dot(row, row) / width as f32 + eps as f32).sqrt();
        scales.push(scale);
        out.extend(row.iter().zip(w.iter()).map(|(x, w)| x * scale * w));
    }
    Ok((tensor(out, (rows, width))?, scales))
}

/// Backward of [`rms_norm`]: adds the gradient of `x` into `dx`, returns the gradient of the weight when `wanted`.
pub(crate) fn rms_norm_backward(
    dx: &Tensor,
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    scales: &[f32],
    wanted: bool,
) -> Result<Option<Tensor>> {
    let width = x.dim(1)?;
    let (dy, x, w) = (floats(dy)?, floats(x)?, floats(weight)?);
    let mut dw = vec![0f32; width];
    let mut weighted = vec![0f32; width];
    in_place(dx, |dx| {
        let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)).zip(x.chunks_exact(width));
        for (((dx, dy), x), &scale) in rows.zip(scales) {
            for i in 0..width {
                weighted[i] = dy[i] * w[i];
            }
            let pull = dot(&weighted, x) * scale * scale * scale / width as f32;
            for i in 0..width {
                dx[i] += weighted[i] * scale - x[i] * pull;
            }
            if wanted {
                for i in 0..width {
                    dw[i] += dy[i] * x[i] * scale;
                }
            }
        }
    })?;
    if wanted { Ok(Some(tensor(dw, width)?)) } else { Ok(None) }
}

/// `silu(gate) * up` for rows that hold gate and up side by side: `(rows, 2 * width)` to `(rows, width)`.
pub(crate) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let (rows, both) = gate_up.dims2()?;
    let width = both / 2;
    let gate_up = floats(gate_up)?;
    let mut out = vec![0f32; rows * width];
    for (out, row) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(both)) {
        let (gate, up) = row.split_at(width);
        for i in 0..width {
            out[i] = gate[i] * sigmoid(gate[i]) * up[i];
        }
    }
    tensor(out, (rows, width))
}

/// Backward of [`swiglu`]: the gradient of `gate_up`.
pub(crate) fn swiglu_backward(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, both) = gate_up.dims2()?;
    let width = both / 2;
    let (gate_up, dy) = (floats(gate_up)?, floats(dy)?);
    let mut out = vec![0f32; rows * both];
    let each = out.chunks_exact_mut(both).zip(gate_up.chunks_exact(both)).zip(dy.chunks_exact(width));
    for ((out, row), dy) in each {
        let (gate, up) = row.split_at(width);
        let (dgate, dup) = out.split_at_mut(width);
        for i in 0..width {
            let s = sigmoid(gate[i]);
            dup[i] = dy[i] * gate[i] * s;
            dgate[i] = dy[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s));
        }
    }
    tensor(out, (rows, both))
}

/// Softmax in place over the keys each query may see. `scores` is `(.., queries, keys)` in rows of `keys`; the last query
/// sees every key, the one before all but one, and so on. What is not seen becomes zero.
pub(crate) fn causal_softmax(scores: &Tensor, queries: usize, keys: usize, scale: f32) -> Result<()> {
    let before = keys - queries;
    in_place(scores, |scores| {
        for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
            let (seen, hidden) = row.split_at_mut(before + i % queries + 1);
            let top = maximum(seen);
            for x in seen.iter_mut() {
                *x = exp((*x - top) * scale);
            }
            let share = 1.0 / sum(seen);
            for x in seen.iter_mut() {
                *x *= share;
            }
            hidden.fill(0.0);
        }
    })
}

/// Backward of [`causal_softmax`], in place on the gradient of the probabilities.
pub(crate) fn causal_softmax_backward(dp: &Tensor, p: &Tensor, queries: usize, scale: f32) -> Result<()> {
    let p = floats(p)?;
    in_place(dp, |dp| {
        for (i, (dp, p)) in dp.chunks_exact_mut(queries).zip(p.chunks_exact(queries)).enumerate() {
            let (seen, hidden) = dp.split_at_mut(i % queries + 1);
            let mean = dot(seen, &p[..seen.len()]);
            for (dp, p) in seen.iter_mut().zip(p) {
                *dp = p * (*dp - mean) * scale;
            }
            hidden.fill(0.0);
        }
    })
}

/// Turns logits `(rows, vocab)` into the gradient of the summed cross-entropy times `scale`, in place; returns that sum
/// (unscaled).
pub(crate) fn cross_entropy(logits: &Tensor, targets: &[u32], scale: f32) -> Result<f64> {
    let vocab = logits.dim(1)?;
    let mut loss = 0f64;
    in_place(logits, |logits| {
        for (row, &target) in logits.chunks_exact_mut(vocab).zip(targets) {
            let target = target as usize;
            let top = maximum(row);
            let wanted = row[target] - top;
            for x in row.iter_mut() {
                *x = exp(*x - top);
            }
            let total = sum(row);
            loss += f64::from(total.ln() - wanted);
            let share = scale / total;
            for x in row.iter_mut() {
                *x *= share;
            }
            row[target] -= scale;
        }
    })?;
    Ok(loss)
}

/// Where the heads of a fused query/key/value row lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
}

impl Heads {
    /// Width of a fused row.
    pub(crate) fn row(self) -> usize {
        (self.queries + 2 * self.keys) * self.width
    }
}

/// Cosines and sines of the rotary embedding: `(position, head width / 2)` each.
pub(crate) struct Rope {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rope {
    pub(crate) fn new(theta: f32, head_width: usize, positions: usize) -> Self {
        let half = head_width / 2;
        let (mut cos, mut sin) = (Vec::with_capacity(positions * half), Vec::with_capacity(positions * half));
        for position in 0..positions {
            for i in 0..half {
                let turn = position as f64 / f64::from(theta).powf(2.0 * i as f64 / head_width as f64);
                cos.push(turn.cos() as f32);
                sin.push(turn.sin() as f32);
            }
        }
        Self { cos, sin, half }
    }

    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// Splits fused rows `(sequences * length, row)` into queries, keys and values, each `(sequences * heads, length, width)`,
/// and turns queries and keys by their position (`first` is the position of a sequence's first row).
pub(crate) fn split_heads(
    fused: &Tensor,
    heads: Heads,
    sequences: usize,
    rope: &Rope,
    first: usize,
) -> Result<[Tensor; 3]> {
    let rows = fused.dim(0)?;
    let length = rows / sequences;
    let all = floats(fused)?;
    let kinds =
        [(0, heads.queries, true), (heads.queries, heads.keys, true), (heads.queries + heads.keys, heads.keys, false)];
    let mut parts = Vec::with_capacity(3);
    for (from, count, turned) in kinds {
        let mut out = vec![0f32; rows * count * heads.width];
        for (block, out) in out.chunks_exact_mut(length * heads.width).enumerate() {
            let (sequence, head) = (block / count, block % count);
            for (t, out) in out.chunks_exact_mut(heads.width).enumerate() {
                let start = (sequence * length + t) * heads.row() + (from + head) * heads.width;
                let x = &all[start..start + heads.width];
                if turned {
                    turn(x, out, rope.at(first + t), 1.0);
                } else {
                    out.copy_from_slice(x);
                }
            }
        }
        parts.push(tensor(out, (sequences * count, length, heads.width))?);
    }
    let [Some(q), Some(k), Some(v)] = [parts.first(), parts.get(1), parts.get(2)].map(Option::<&Tensor>::cloned) else {
        candle_core::bail!("three parts were made");
    };
    Ok([q, k, v])
}

/// Backward of [`split_heads`] for sequences that start at position 0: the gradient of the fused rows.
pub(crate) fn split_heads_backward(grads: [&Tensor; 3], heads: Heads, sequences: usize, rope: &Rope) -> Result<Tensor> {
    let length = grads[0].dim(1)?;
    let rows = sequences * length;
    let mut out = vec![0f32; rows * heads.row()];
    let kinds =
        [(0, heads.queries, true), (heads.queries, heads.keys, true), (heads.queries + heads.keys, heads.keys, false)];
    for (grad, (from, count, turned)) in grads.into_iter().zip(kinds) {
        let grad = floats(grad)?;
        for (block, grad) in grad.chunks_exact(length * heads.width).enumerate() {
            let (sequence, head) = (block / count, block % count);
            for (t, dy) in grad.chunks_exact(heads.width).enumerate() {
                let start = (sequence * length + t) * heads.row() + (from + head) * heads.width;
                let dx = &mut out[start..start + heads.width];
                if turned {
                    // A rotation's transpose turns the other way.
                    turn(dy, dx, rope.at(t), -1.0);
                } else {
                    dx.copy_from_slice(dy);
                }
            }
        }
    }
    tensor(out, (rows, heads.row()))
}

fn turn(x: &[f32], out: &mut [f32], (cos, sin): (&[f32], &[f32]), direction: f32) {
    let half = cos.len();
    let (low, high) = x.split_at(half);
    let (out_low, out_high) = out.split_at_mut(half);
    for i in 0..half {
        let sin = sin[i] * direction;
        out_low[i] = low[i] * cos[i] - high[i] * sin;
        out_high[i] = high[i] * cos[i] + low[i] * sin;
    }
}

/// Puts the heads of each chosen row side by side: `(sequences * heads, length, width)` to `(rows chosen, heads * width)`.
/// A row is `sequence * length + position`.
pub(crate) fn merge_heads(x: &Tensor, heads: usize, rows: &[u32]) -> Result<Tensor> {
    let (_, length, width) = x.dims3()?;
    let all = floats(x)?;
    let mut out = Vec::with_capacity(rows.len() * heads * width);
    for &row in rows {
        let (sequence, t) = (row as usize / length, row as usize % length);
        for head in 0..heads {
            let start = ((sequence * heads + head) * length + t) * width;
            out.extend_from_slice(&all[start..start + width]);
        }
    }
    tensor(out, (rows.len(), heads * width))
}

/// Backward of [`merge_heads`]: rows that were not chosen get zero.
pub(crate) fn merge_heads_backward(
    dy: &Tensor,
    (blocks, length, width): (usize, usize, usize),
    heads: usize,
    rows: &[u32],
) -> Result<Tensor> {
    let dy = floats(dy)?;
    let mut out = vec![0f32; blocks * length * width];
    for (&row, dy) in rows.iter().zip(dy.chunks_exact(heads * width)) {
        let (sequence, t) = (row as usize / length, row as usize % length);
        for (head, dy) in dy.chunks_exact(width).enumerate() {
            let start = ((sequence * heads + head) * length + t) * width;
            out[start..start + width].copy_from_slice(dy);
        }
    }
    tensor(out, (blocks, length, width))
}

/// The rows named, in that order: an embedding's look-up, or the choice of positions whose answer is learned.
pub(crate) fn gather_rows(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let width = x.dim(1)?;
    let all = floats(x)?;
    let mut out = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        out.extend_from_slice(&all[row as usize * width..][..width]);
    }
    tensor(out, (rows.len(), width))
}

/// Backward of [`gather_rows`]: adds each row of `dy` into the row it came from.
pub(crate) fn scatter_add_rows(into: &Tensor, dy: &Tensor, rows: &[u32]) -> Result<()> {
    let width = into.dim(1)?;
    let dy = floats(dy)?;
    in_place(into, |into| {
        for (&row, dy) in rows.iter().zip(dy.chunks_exact(width)) {
            for (a, b) in into[row as usize * width..][..width].iter_mut().zip(dy) {
                *a += b;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close_to_the_exact_one() {
        for step in -870..=880 {
            let x = step as f32 * 0.1;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= exact * 3e-7, "{x}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(1e9).is_finite());
    }

    #[test]
    fn a_sum_of_products_counts_its_tail() {
        let ones = vec![1.0; 37];
        assert_eq!((dot(&ones, &ones) as u32, sum(&ones) as u32), (37, 37));
        let mut peak = ones;
        peak[36] = 5.0;
        assert!(maximum(&peak) > 4.9);
    }
}
