//! Matrices in the panel layout that `kernel` multiplies, and how weights are brought into it.

use super::kernel::{BLOCK, PANEL, Panels};
use crate::weights::number::Nibbles;

/// A matrix with `rows` outputs and `columns` inputs, padded with zero rows to whole panels.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    F32(Vec<[f32; PANEL]>),
    Q8 { quants: Vec<[i8; PANEL]>, scales: Vec<[f32; PANEL]> },
    Q4 { quants: Vec<[u8; PANEL / 2]>, scales: Vec<[f32; PANEL]>, floors: Vec<[f32; PANEL]> },
}

impl Matrix {
    /// Keeps the floats as they are. `values` are rows first.
    pub(crate) fn exact(values: &[f32], rows: usize, columns: usize) -> Self {
        let mut floats = vec![[0.0; PANEL]; rows.div_ceil(PANEL) * columns];
        for (row, values) in values.chunks_exact(columns).enumerate() {
            let (panel, lane) = (row / PANEL, row % PANEL);
            for (out, value) in floats[panel * columns..].iter_mut().zip(values) {
                out[lane] = *value;
            }
        }
        Self { rows, columns, numbers: Numbers::F32(floats) }
    }

    /// Rounds every block of 32 inputs of a row to signed bytes and a half-precision scale: ggml's `Q8_0`.
    /// Falls back to [`Matrix::exact`] when the inputs do not fill whole blocks.
    pub(crate) fn bytes(values: &[f32], rows: usize, columns: usize) -> Self {
        if !columns.is_multiple_of(BLOCK) {
            return Self::exact(values, rows, columns);
        }
        let panels = rows.div_ceil(PANEL);
        let mut quants = vec![[0; PANEL]; panels * columns];
        let mut scales = vec![[0.0; PANEL]; panels * (columns / BLOCK)];
        for (row, values) in values.chunks_exact(columns).enumerate() {
            let (panel, lane) = (row / PANEL, row % PANEL);
            for (block, values) in values.chunks_exact(BLOCK).enumerate() {
                let most = values.iter().fold(0f32, |most, value| most.max(value.abs()));
                let scale = half_rounded(most / 127.0);
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                scales[panel * (columns / BLOCK) + block][lane] = scale;
                for (out, value) in quants[panel * columns + block * BLOCK..].iter_mut().zip(values) {
                    out[lane] = (value * inverse).round().clamp(-127.0, 127.0) as i8;
                }
            }
        }
        Self { rows, columns, numbers: Numbers::Q8 { quants, scales } }
    }

    /// Keeps four-bit numbers as a GGUF file has them: half the memory of [`Matrix::bytes`], and nothing rounded twice.
    pub(crate) fn nibbles(from: &Nibbles, rows: usize, columns: usize) -> Self {
        let (panels, blocks) = (rows.div_ceil(PANEL), columns / BLOCK);
        let mut quants = vec![[0; PANEL / 2]; panels * columns];
        let mut scales = vec![[0.0; PANEL]; panels * blocks];
        let mut floors = scales.clone();
        for row in 0..rows {
            let (panel, lane) = (row / PANEL, row % PANEL);
            let shift = if lane < PANEL / 2 { 0 } else { 4 };
            for (out, nibble) in quants[panel * columns..].iter_mut().zip(&from.quants[row * columns..][..columns]) {
                out[lane % (PANEL / 2)] |= nibble << shift;
            }
            for block in 0..blocks {
                scales[panel * blocks + block][lane] = from.scales[row * blocks + block];
                floors[panel * blocks + block][lane] = from.floors[row * blocks + block];
            }
        }
        Self { rows, columns, numbers: Numbers::Q4 { quants, scales, floors } }
    }

    pub(crate) fn panels(&self) -> Panels<'_> {
        match &self.numbers {
            Numbers::F32(floats) => Panels::F32(floats),
            Numbers::Q8 { quants, scales } => Panels::Q8 { quants, scales },
            Numbers::Q4 { quants, scales, floors } => Panels::Q4 { quants, scales, floors },
        }
    }

    pub(crate) fn panel_count(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Writes one row (an embedding) as floats.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let (panel, lane) = (row / PANEL, row % PANEL);
        for (column, out) in out.iter_mut().enumerate() {
            let at = panel * self.columns + column;
            let block = panel * (self.columns / BLOCK) + column / BLOCK;
            *out = match &self.numbers {
                Numbers::F32(floats) => floats[at][lane],
                Numbers::Q8 { quants, scales } => f32::from(quants[at][lane]) * scales[block][lane],
                Numbers::Q4 { quants, scales, floors } => {
                    let byte = quants[at][lane % (PANEL / 2)];
                    let nibble = if lane < PANEL / 2 { byte & 15 } else { byte >> 4 };
                    f32::from(nibble) * scales[block][lane] + floors[block][lane]
                }
            };
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes_held(&self) -> usize {
        match &self.numbers {
            Numbers::F32(floats) => floats.len() * PANEL * 4,
            Numbers::Q8 { quants, scales } => quants.len() * PANEL + scales.len() * PANEL * 4,
            Numbers::Q4 { quants, scales, floors } => {
                quants.len() * PANEL / 2 + (scales.len() + floors.len()) * PANEL * 4
            }
        }
    }
}

/// Rounds to the precision of an IEEE half (11 bits), so that a byte times a scale is exact in single precision.
fn half_rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    let round = 0xfff + ((bits >> 13) & 1);
    f32::from_bits(bits.wrapping_add(round) & !0x1fff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::kernel::product;

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn multiply(matrix: &Matrix, rows: &[f32]) -> Vec<Vec<f32>> {
        let count = rows.len() / matrix.columns;
        let mut out = vec![[0.0; PANEL]; matrix.panel_count() * count];
        product(pulp::Arch::new(), None, rows, matrix.columns, matrix.panels(), &mut out);
        (0..count).map(|row| (0..matrix.rows).map(|n| out[n / PANEL * count + row][n % PANEL]).collect()).collect()
    }

    #[test]
    fn the_product_is_the_textbook_one() {
        let (rows, columns) = (70, 64);
        let weights = noise(rows * columns, 1);
        let values = noise(3 * columns, 2);
        for (matrix, tolerance) in
            [(Matrix::exact(&weights, rows, columns), 1e-5), (Matrix::bytes(&weights, rows, columns), 0.1)]
        {
            for (row, got) in multiply(&matrix, &values).iter().enumerate() {
                for (n, got) in got.iter().enumerate() {
                    let wanted: f32 = (0..columns).map(|k| weights[n * columns + k] * values[row * columns + k]).sum();
                    assert!((got - wanted).abs() < tolerance, "{got} is not {wanted}");
                }
            }
        }
    }

    #[test]
    fn a_row_reads_the_same_whatever_stands_beside_it() {
        let (rows, columns) = (200, 96);
        let weights = noise(rows * columns, 3);
        let values = noise(33 * columns, 4);
        let nibbles = Nibbles {
            quants: (0..rows * columns).map(|n| (n * 7 % 16) as u8).collect(),
            scales: noise(rows * columns / BLOCK, 5),
            floors: noise(rows * columns / BLOCK, 6),
        };
        for matrix in [
            Matrix::exact(&weights, rows, columns),
            Matrix::bytes(&weights, rows, columns),
            Matrix::nibbles(&nibbles, rows, columns),
        ] {
            let alone: Vec<_> = values.chunks(columns).flat_map(|row| multiply(&matrix, row)).collect();
            for count in [1, 2, 3, 5, 7, 8, 13, 16, 33] {
                assert_eq!(multiply(&matrix, &values[..count * columns]), alone[..count], "{count} rows");
            }
        }
    }
}
