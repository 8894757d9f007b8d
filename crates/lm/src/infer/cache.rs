//! What a sequence remembers: keys and values of every layer, laid out as the matrices attention multiplies with.

use super::kernel::PANEL;
use crate::config::ModelConfig;

/// Keys and values of one sequence. Grows as the sequence does.
#[derive(Debug)]
pub struct Cache {
    pub(super) layers: Vec<LayerCache>,
    length: usize,
}

/// One layer's part, head by head.
#[derive(Debug)]
pub(super) struct LayerCache {
    pub(super) heads: Vec<HeadCache>,
}

#[derive(Debug)]
pub(super) struct HeadCache {
    /// Panels of 32 positions: a query times this is its scores.
    pub(super) keys: Vec<[f32; PANEL]>,
    /// For each 32 numbers of a head, one row a position: weights times this is the answer.
    pub(super) values: Vec<Vec<[f32; PANEL]>>,
}

impl Cache {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let parts = config.head_dim().div_ceil(PANEL);
        let head = || HeadCache { keys: Vec::new(), values: (0..parts).map(|_| Vec::new()).collect() };
        let layer = || LayerCache { heads: (0..config.num_key_value_heads).map(|_| head()).collect() };
        Self { layers: (0..config.num_hidden_layers).map(|_| layer()).collect(), length: 0 }
    }

    /// Tokens remembered.
    pub fn length(&self) -> usize {
        self.length
    }

    pub(super) fn advance(&mut self, tokens: usize) {
        self.length += tokens;
    }
}

impl HeadCache {
    /// Remembers key and value of `position`, which follows the last one remembered.
    pub(super) fn push(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let (panel, lane) = (position / PANEL, position % PANEL);
        if lane == 0 {
            self.keys.resize((panel + 1) * key.len(), [0.0; PANEL]);
        }
        for (row, number) in self.keys[panel * key.len()..].iter_mut().zip(key) {
            row[lane] = *number;
        }
        for (rows, numbers) in self.values.iter_mut().zip(value.chunks(PANEL)) {
            let mut row = [0.0; PANEL];
            row[..numbers.len()].copy_from_slice(numbers);
            rows.push(row);
        }
    }
}
