//! The one product everything is made of: rows of activations times a matrix kept in panels of 32 output rows.
//!
//! Two properties are worth more here than the last tenth of speed:
//! * **A row's result does not depend on its neighbours.** Each output is one chain of fused multiply-adds over the
//!   columns in order, whichever block shape computed it. So a sequence reads the same alone or in a full batch.
//! * **Safe Rust.** `pulp` picks AVX-512, AVX2, NEON or plain code at run time and owns the `unsafe` that needs.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the chosen instructions")]

use pulp::{Arch, Simd, WithSimd};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;

/// Output rows in a panel.
pub(crate) const PANEL: usize = 32;
/// Columns that share a scale in quantised panels.
pub(crate) const BLOCK: usize = 32;
/// From this many rows on, a quantised panel is widened once into scratch memory rather than once per block of rows.
const WIDEN_FROM_ROWS: usize = 16;

/// The numbers of a matrix, panel after panel; inside a panel column after column of [`PANEL`] numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Panels<'a> {
    /// Plain floats.
    F32(&'a [[f32; PANEL]]),
    /// Signed bytes times a scale for each row and block of columns.
    Q8 { quants: &'a [[i8; PANEL]], scales: &'a [[f32; PANEL]] },
    /// Nibbles (the upper 16 rows in the high halves) times a scale, plus a floor, for each row and block of columns.
    Q4 { quants: &'a [[u8; PANEL / 2]], scales: &'a [[f32; PANEL]], floors: &'a [[f32; PANEL]] },
}

/// Computes `rows` (each of `columns` numbers) times the panels. `out` is panel-major: for each panel, for each row,
/// [`PANEL`] numbers. With `pool`, panels are shared out among its threads; results do not depend on how many.
pub(crate) fn product(
    arch: Arch,
    pool: Option<&rayon::ThreadPool>,
    rows: &[f32],
    columns: usize,
    panels: Panels<'_>,
    out: &mut [[f32; PANEL]],
) {
    let count = rows.len() / columns;
    let panel_count = out.len() / count;
    let Some(pool) = pool.filter(|_| panel_count > 1) else {
        return arch.dispatch(Product { rows, columns, panels, first: 0, out });
    };
    let share = panel_count.div_ceil(pool.current_num_threads() * 2).max(1);
    pool.install(|| {
        out.par_chunks_mut(share * count).enumerate().for_each(|(index, out)| {
            arch.dispatch(Product { rows, columns, panels, first: index * share, out });
        });
    });
}

struct Product<'a> {
    rows: &'a [f32],
    columns: usize,
    panels: Panels<'a>,
    /// The panel that `out` begins with.
    first: usize,
    out: &'a mut [[f32; PANEL]],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, columns, panels, first, out } = self;
        let count = rows.len() / columns;
        let panel_count = out.len() / count;
        let blocks = columns.div_ceil(BLOCK);
        let from = first * columns;
        match panels {
            Panels::F32(floats) => {
                few(simd, rows, columns, Floats(&floats[from..][..panel_count * columns]), panel_count, out);
            }
            Panels::Q8 { quants, scales } => {
                let source = Bytes {
                    quants: &quants[from..][..panel_count * columns],
                    scales: &scales[first * blocks..][..panel_count * blocks],
                };
                many_or_few(simd, rows, columns, source, panel_count, out);
            }
            Panels::Q4 { quants, scales, floors } => {
                let source = Nibbles {
                    quants: &quants[from..][..panel_count * columns],
                    scales: &scales[first * blocks..][..panel_count * blocks],
                    floors: &floors[first * blocks..][..panel_count * blocks],
                };
                many_or_few(simd, rows, columns, source, panel_count, out);
            }
        }
    }
}

/// Panels that can widen columns to floats. Every path widens the same way, so all agree to the last bit.
trait Source: Copy {
    /// [`BLOCK`] columns of one panel.
    type Block: Copy;
    /// Whether columns come in whole blocks. Plain floats need none.
    const BLOCKED: bool;
    fn panels(self, first: usize, count: usize, columns: usize) -> Self;
    fn block(self, panel: usize, columns: usize, block: usize) -> Self::Block;
    /// Two registers of one column of a block, from this output row on.
    fn widen<S: Simd>(simd: S, block: &Self::Block, column: usize, lane: usize) -> [S::f32s; 2];
    /// The same, of a column that is in no block.
    fn column<S: Simd>(self, panel: usize, columns: usize, column: usize, lane: usize) -> [S::f32s; 2];
}

#[derive(Clone, Copy)]
struct Floats<'a>(&'a [[f32; PANEL]]);

#[derive(Clone, Copy)]
struct Bytes<'a> {
    quants: &'a [[i8; PANEL]],
    scales: &'a [[f32; PANEL]],
}

#[derive(Clone, Copy)]
struct Nibbles<'a> {
    quants: &'a [[u8; PANEL / 2]],
    scales: &'a [[f32; PANEL]],
    floors: &'a [[f32; PANEL]],
}

/// The columns of one block, as an array: its length is known, so nothing is checked inside.
#[inline(always)]
fn whole_block<T>(quants: &[T], panel: usize, columns: usize, block: usize) -> &[T; BLOCK] {
    &quants[panel * columns + block * BLOCK..].as_chunks().0[0]
}

/// Two registers from this output row on.
#[inline(always)]
fn pair<S: Simd>(numbers: &[f32; PANEL], lane: usize) -> [S::f32s; 2] {
    let (registers, _) = S::as_simd_f32s(&numbers[lane..]);
    [registers[0], registers[1]]
}

impl Source for Floats<'_> {
    type Block = ();
    const BLOCKED: bool = false;

    #[inline(always)]
    fn panels(self, first: usize, count: usize, columns: usize) -> Self {
        Self(&self.0[first * columns..][..count * columns])
    }

    #[inline(always)]
    fn block(self, _: usize, _: usize, _: usize) {}

    #[inline(always)]
    fn widen<S: Simd>(_: S, (): &(), _: usize, _: usize) -> [S::f32s; 2] {
        unreachable!("plain floats are not blocked")
    }

    #[inline(always)]
    fn column<S: Simd>(self, panel: usize, columns: usize, column: usize, lane: usize) -> [S::f32s; 2] {
        pair::<S>(&self.0[panel * columns + column], lane)
    }
}

impl<'a> Source for Bytes<'a> {
    type Block = (&'a [[i8; PANEL]; BLOCK], &'a [f32; PANEL]);
    const BLOCKED: bool = true;

    #[inline(always)]
    fn panels(self, first: usize, count: usize, columns: usize) -> Self {
        let blocks = columns / BLOCK;
        Self {
            quants: &self.quants[first * columns..][..count * columns],
            scales: &self.scales[first * blocks..][..count * blocks],
        }
    }

    #[inline(always)]
    fn block(self, panel: usize, columns: usize, block: usize) -> Self::Block {
        (whole_block(self.quants, panel, columns, block), &self.scales[panel * (columns / BLOCK) + block])
    }

    #[inline(always)]
    fn widen<S: Simd>(simd: S, (quants, scales): &Self::Block, column: usize, lane: usize) -> [S::f32s; 2] {
        let mut wide = [0.0; PANEL];
        for (wide, quant) in wide.iter_mut().zip(&quants[column]) {
            *wide = f32::from(*quant);
        }
        let (wide, scales) = (pair::<S>(&wide, lane), pair::<S>(scales, lane));
        [simd.mul_f32s(wide[0], scales[0]), simd.mul_f32s(wide[1], scales[1])]
    }

    #[inline(always)]
    fn column<S: Simd>(self, _: usize, _: usize, _: usize, _: usize) -> [S::f32s; 2] {
        unreachable!("quantised panels have whole blocks")
    }
}

impl<'a> Source for Nibbles<'a> {
    type Block = (&'a [[u8; PANEL / 2]; BLOCK], &'a [f32; PANEL], &'a [f32; PANEL]);
    const BLOCKED: bool = true;

    #[inline(always)]
    fn panels(self, first: usize, count: usize, columns: usize) -> Self {
        let blocks = columns / BLOCK;
        Self {
            quants: &self.quants[first * columns..][..count * columns],
            scales: &self.scales[first * blocks..][..count * blocks],
            floors: &self.floors[first * blocks..][..count * blocks],
        }
    }

    #[inline(always)]
    fn block(self, panel: usize, columns: usize, block: usize) -> Self::Block {
        let at = panel * (columns / BLOCK) + block;
        (whole_block(self.quants, panel, columns, block), &self.scales[at], &self.floors[at])
    }

    #[inline(always)]
    fn widen<S: Simd>(simd: S, (quants, scales, floors): &Self::Block, column: usize, lane: usize) -> [S::f32s; 2] {
        let quants = &quants[column];
        let mut wide = [0.0; PANEL];
        for lane in 0..PANEL / 2 {
            wide[lane] = f32::from(quants[lane] & 15);
            wide[lane + PANEL / 2] = f32::from(quants[lane] >> 4);
        }
        let (wide, scales, floors) = (pair::<S>(&wide, lane), pair::<S>(scales, lane), pair::<S>(floors, lane));
        [simd.mul_add_f32s(wide[0], scales[0], floors[0]), simd.mul_add_f32s(wide[1], scales[1], floors[1])]
    }

    #[inline(always)]
    fn column<S: Simd>(self, _: usize, _: usize, _: usize, _: usize) -> [S::f32s; 2] {
        unreachable!("quantised panels have whole blocks")
    }
}

#[inline(always)]
fn many_or_few<S: Simd, T: Source>(
    simd: S,
    rows: &[f32],
    columns: usize,
    source: T,
    panel_count: usize,
    out: &mut [[f32; PANEL]],
) {
    let count = rows.len() / columns;
    if count < WIDEN_FROM_ROWS {
        return few(simd, rows, columns, source, panel_count, out);
    }
    let mut wide = vec![[0.0; PANEL]; columns];
    for (panel, out) in out.chunks_exact_mut(count).enumerate() {
        for (block, wide) in wide.chunks_exact_mut(BLOCK).enumerate() {
            let source = source.block(panel, columns, block);
            for (column, wide) in wide.iter_mut().enumerate() {
                for lane in (0..PANEL).step_by(2 * S::F32_LANES) {
                    let (wide, _) = S::as_mut_simd_f32s(&mut wide[lane..]);
                    [wide[0], wide[1]] = T::widen(simd, &source, column, lane);
                }
            }
        }
        few(simd, rows, columns, Floats(&wide), 1, out);
    }
}

/// Cuts the work into blocks whose sums stay in registers: more panels at once when there are few rows, so that the
/// chains of additions overlap.
#[inline(always)]
fn few<S: Simd, T: Source>(
    simd: S,
    rows: &[f32],
    columns: usize,
    source: T,
    panel_count: usize,
    out: &mut [[f32; PANEL]],
) {
    let count = rows.len() / columns;
    let mut panel = 0;
    let together = if count == 1 {
        4
    } else if count < 8 {
        2
    } else {
        1
    };
    while panel < panel_count {
        let take = if panel + together <= panel_count { together } else { 1 };
        let part = source.panels(panel, take, columns);
        let out = &mut out[panel * count..][..take * count];
        let mut row = 0;
        while row < count {
            let left = count - row;
            let rows = &rows[row * columns..];
            row += match (take, left) {
                (4, _) => block::<S, T, 1, 4>(simd, rows, columns, part, out, row, count),
                (2, 1) => block::<S, T, 1, 2>(simd, rows, columns, part, out, row, count),
                (2, 2..4) => block::<S, T, 2, 2>(simd, rows, columns, part, out, row, count),
                (2, _) => block::<S, T, 4, 2>(simd, rows, columns, part, out, row, count),
                (_, 1) => block::<S, T, 1, 1>(simd, rows, columns, part, out, row, count),
                (_, 2..4) => block::<S, T, 2, 1>(simd, rows, columns, part, out, row, count),
                (_, 4..8) => block::<S, T, 4, 1>(simd, rows, columns, part, out, row, count),
                (_, _) => block::<S, T, 8, 1>(simd, rows, columns, part, out, row, count),
            };
        }
        panel += take;
    }
}

/// `M` rows times `P` panels, two registers of output rows at a time. Returns `M`.
#[inline(always)]
fn block<S: Simd, T: Source, const M: usize, const P: usize>(
    simd: S,
    rows: &[f32],
    columns: usize,
    source: T,
    out: &mut [[f32; PANEL]],
    row: usize,
    count: usize,
) -> usize {
    let rows: [&[f32]; M] = std::array::from_fn(|m| &rows[m * columns..][..columns]);
    let blocks = if T::BLOCKED { columns / BLOCK } else { 0 };
    let mut lane = 0;
    while lane < PANEL {
        let mut sums = [[[simd.splat_f32s(0.0); 2]; P]; M];
        for block in 0..blocks {
            let sources: [T::Block; P] = std::array::from_fn(|panel| source.block(panel, columns, block));
            let values: [&[f32; BLOCK]; M] = std::array::from_fn(|m| &rows[m].as_chunks().0[block]);
            for column in 0..BLOCK {
                let mut weights = [[simd.splat_f32s(0.0); 2]; P];
                for panel in 0..P {
                    weights[panel] = T::widen(simd, &sources[panel], column, lane);
                }
                let mut now = [0.0; M];
                for (now, values) in now.iter_mut().zip(values) {
                    *now = values[column];
                }
                accumulate::<S, M, P>(simd, &mut sums, weights, now);
            }
        }
        for column in blocks * BLOCK..columns {
            let mut weights = [[simd.splat_f32s(0.0); 2]; P];
            for (panel, weights) in weights.iter_mut().enumerate() {
                *weights = source.column::<S>(panel, columns, column, lane);
            }
            // Loops rather than `array::from_fn` in here: that is not always inlined, and a call would cost the registers.
            let mut now = [0.0; M];
            for (now, row) in now.iter_mut().zip(rows) {
                *now = row[column];
            }
            accumulate::<S, M, P>(simd, &mut sums, weights, now);
        }
        for m in 0..M {
            for panel in 0..P {
                let (out, _) = S::as_mut_simd_f32s(&mut out[panel * count + row + m][lane..]);
                out[0] = sums[m][panel][0];
                out[1] = sums[m][panel][1];
            }
        }
        lane += 2 * S::F32_LANES;
    }
    M
}

#[inline(always)]
fn accumulate<S: Simd, const M: usize, const P: usize>(
    simd: S,
    sums: &mut [[[S::f32s; 2]; P]; M],
    weights: [[S::f32s; 2]; P],
    values: [f32; M],
) {
    for m in 0..M {
        let value = simd.splat_f32s(values[m]);
        for panel in 0..P {
            for half in 0..2 {
                sums[m][panel][half] = simd.mul_add_f32s(value, weights[panel][half], sums[m][panel][half]);
            }
        }
    }
}
