//! Bytes to floats, for every way a tensor's numbers are stored.

use std::borrow::Cow;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};

use super::Kind;

/// Bytes that `count` numbers of this kind take, or `None` when they do not fill whole blocks.
pub(crate) fn bytes_of(kind: Kind, count: usize) -> Option<usize> {
    match kind {
        Kind::F32 => count.checked_mul(4),
        Kind::F16 | Kind::Bf16 => count.checked_mul(2),
        Kind::Quantized(of) => {
            let block = of.block_size();
            if count.is_multiple_of(block) { (count / block).checked_mul(of.type_size()) } else { None }
        }
    }
}

/// Reads `count` numbers. The length of `raw` must be what [`bytes_of`] says.
pub(crate) fn floats(raw: &[u8], kind: Kind, count: usize) -> Result<Vec<f32>, String> {
    if bytes_of(kind, count) != Some(raw.len()) {
        return Err(format!("{} bytes cannot hold {count} numbers of kind {kind:?}", raw.len()));
    }
    let (pairs, _) = raw.as_chunks::<2>();
    let (quads, _) = raw.as_chunks::<4>();
    Ok(match kind {
        Kind::F32 => quads.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Kind::F16 => pairs.iter().map(|bytes| f16_to_f32(u16::from_le_bytes(*bytes))).collect(),
        Kind::Bf16 => pairs.iter().map(|bytes| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16)).collect(),
        Kind::Quantized(of) => QStorage::from_data(Cow::Borrowed(raw), &Device::Cpu, of)
            .and_then(|storage| QTensor::new(storage, count))
            .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.to_vec1())
            .map_err(|error| error.to_string())?,
    })
}

/// Numbers of four bits, each times a scale plus a floor for its block of 32: `Q4_0` and `Q4_1` as the file has them.
#[derive(Debug, Default)]
pub(crate) struct Nibbles {
    /// One number a byte, rows first.
    pub(crate) quants: Vec<u8>,
    /// For each block.
    pub(crate) scales: Vec<f32>,
    /// For each block.
    pub(crate) floors: Vec<f32>,
}

/// Reads blocks of four-bit numbers as they are, or says that this kind has none.
pub(crate) fn nibbles(raw: &[u8], kind: Kind) -> Option<Nibbles> {
    let half = |block: &[u8], at: usize| f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]));
    let (size, has_floor) = match kind {
        Kind::Quantized(GgmlDType::Q4_0) => (18, false),
        Kind::Quantized(GgmlDType::Q4_1) => (20, true),
        _ => return None,
    };
    let mut all = Nibbles::default();
    for block in raw.chunks_exact(size) {
        let scale = half(block, 0);
        all.scales.push(scale);
        all.floors.push(if has_floor { half(block, 2) } else { -8.0 * scale });
        let bytes = &block[size - 16..];
        all.quants.extend(bytes.iter().map(|byte| byte & 15));
        all.quants.extend(bytes.iter().map(|byte| byte >> 4));
    }
    Some(all)
}

/// IEEE half to single precision; exact.
pub(crate) fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(half >> 10) & 31, u32::from(half & 0x3ff));
    match (exponent, fraction) {
        (0, fraction) => f32::from_bits(sign | (fraction as f32 * 2f32.powi(-24)).to_bits()),
        (31, fraction) => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// Undoes the row order that GGUF files use for queries and keys: there, the two halves of a head's rows alternate,
/// because llama.cpp rotates neighbours where Hugging Face rotates halves.
pub(crate) fn deinterleave<T: Copy>(values: &[T], heads: usize, columns: usize) -> Vec<T> {
    let rows = values.len() / columns;
    let size = rows / heads;
    let half = size / 2;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, within) = (row / size, row % size);
        let from = head * size + 2 * (within % half) + within / half;
        out.extend_from_slice(&values[from * columns..][..columns]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_convert_exactly() {
        for (half, single) in
            [(0, 0.0), (0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (1, 5.960_464_5e-8), (0x7c00, f32::INFINITY)]
        {
            assert_eq!(f16_to_f32(half).to_bits(), f32::to_bits(single), "{half:#x}");
        }
        assert!(f16_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn interleaved_rows_return_to_halves() {
        // One head of four rows, as GGUF writes it: 0, 2, 1, 3.
        assert_eq!(deinterleave(&[0.0, 2.0, 1.0, 3.0], 1, 1), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused() {
        assert!(floats(&[0; 7], Kind::F32, 2).is_err());
        assert_eq!(bytes_of(Kind::Quantized(GgmlDType::Q8_0), 33), None);
    }
}
