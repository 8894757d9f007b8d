//! What happens to single rows between the products: norms, gates, rotations, softmax. Every sum is taken in the same
//! order whatever the processor's width, so the results of one build are the same wherever a row stands.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the chosen instructions")]

use pulp::Arch;

/// Partial sums kept side by side; wide enough for the widest registers.
const LANES: usize = 16;

/// Root-mean-square norm of every row, times `weights`.
pub(super) fn normed(arch: Arch, rows: &[f32], weights: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    arch.dispatch(
        #[inline(always)]
        || {
            for (row, out) in rows.chunks_exact(weights.len()).zip(out.chunks_exact_mut(weights.len())) {
                let mean = sum(row, |value| value * value) / weights.len() as f32;
                let scale = 1.0 / (mean + epsilon).sqrt();
                for ((out, value), weight) in out.iter_mut().zip(row).zip(weights) {
                    *out = value * scale * weight;
                }
            }
        },
    );
    out
}

/// The gated activation: every row holds `width` gates and then `width` values; returns `silu(gate) * value`.
pub(super) fn gated(arch: Arch, rows: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.len() / 2];
    arch.dispatch(
        #[inline(always)]
        || {
            for (row, out) in rows.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
                let (gates, values) = row.split_at(width);
                for ((out, gate), value) in out.iter_mut().zip(gates).zip(values) {
                    *out = gate / (1.0 + exp(-gate)) * value;
                }
            }
        },
    );
    out
}

/// Adds `other` to `to`, number by number.
pub(super) fn add(arch: Arch, to: &mut [f32], other: &[f32]) {
    arch.dispatch(
        #[inline(always)]
        || {
            for (to, other) in to.iter_mut().zip(other) {
                *to += other;
            }
        },
    );
}

/// Rotates one head by its position: the first half of the numbers against the second.
#[inline(always)]
pub(super) fn rotate(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (left, right) = head.split_at_mut(cosines.len());
    for (((left, right), cosine), sine) in left.iter_mut().zip(right).zip(cosines).zip(sines) {
        let (a, b) = (*left, *right);
        *left = a * cosine - b * sine;
        *right = b * cosine + a * sine;
    }
}

/// Turns scores into weights that are not yet divided by their sum; returns the sum.
#[inline(always)]
pub(super) fn softened(scores: &mut [f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = most[lane].max(chunk[lane]);
        }
    }
    let most = most.iter().chain(rest).fold(f32::NEG_INFINITY, |most, value| most.max(*value));
    for score in scores.iter_mut() {
        *score = exp(*score - most);
    }
    sum(scores, |value| value)
}

#[inline(always)]
fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += of(chunk[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        sums[lane] += of(*value);
    }
    sums.iter().sum()
}

/// The exponential function to about one part in ten million, in plain arithmetic so that it is done many at a time.
/// `e^x = 2^n * e^r`, with `n` the whole number nearest to `x / ln 2`, and a polynomial (Cephes) for the rest.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding this rounds to a whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Below, the result would leave the normal numbers; it is as good as nothing. Above, it would overflow.
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + factor;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    (p * r * r + r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close_to_the_exact_one() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let (got, wanted) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / wanted - 1.0).abs() < 3e-7, "e^{x} is {wanted}, not {got}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn a_rotation_turns_and_keeps_the_length() {
        let mut head = [3.0, 0.0, 4.0, 0.0];
        rotate(&mut head, &[0.0, 1.0], &[1.0, 0.0]);
        for (got, wanted) in head.iter().zip([-4.0f32, 0.0, 3.0, 0.0]) {
            assert!((got - wanted).abs() < 1e-6);
        }
    }

    #[test]
    fn softened_scores_divide_to_one() {
        let mut scores: Vec<f32> = (0..37).map(|n| (n % 5) as f32).collect();
        let sum = softened(&mut scores);
        assert!((scores.iter().sum::<f32>() / sum - 1.0).abs() < 1e-6);
        assert!((scores[1] / scores[0] - std::f32::consts::E).abs() < 1e-5);
    }
}
