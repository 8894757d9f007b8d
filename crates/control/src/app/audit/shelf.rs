//! Full tiles that were read before. They never change, so the only question is how many to keep.

use std::collections::{HashMap, VecDeque};

use gregal_core::merkle::{Hash, Tile};

/// How many tiles are kept: 8 KiB each.
const TILES_MAX: usize = 1_024;

/// Full tiles, the longest-kept going first.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    tiles: HashMap<(u8, u64), Vec<Hash>>,
    order: VecDeque<(u8, u64)>,
}

impl Shelf {
    /// The first hashes of a tile, as many as are wanted.
    pub(crate) fn get(&self, tile: &Tile) -> Option<&[Hash]> {
        self.tiles.get(&(tile.level, tile.number))?.get(..usize::from(tile.width))
    }

    /// Keeps a tile if it is full.
    pub(crate) fn put(&mut self, tile: &Tile, hashes: &[Hash]) {
        let at = (tile.level, tile.number);
        if !tile.is_full() || self.tiles.contains_key(&at) {
            return;
        }
        if self.order.len() == TILES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.tiles.remove(&oldest);
        }
        self.tiles.insert(at, hashes.to_vec());
        self.order.push_back(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_full_tiles_only_and_never_more_than_its_bound() {
        let mut shelf = Shelf::default();
        let tile = |number, width| Tile { level: 0, number, width };
        shelf.put(&tile(0, 3), &[[7; 32]; 3]);
        assert_eq!(shelf.get(&tile(0, 3)), None, "a partial one changes");
        for number in 0..3_000 {
            shelf.put(&tile(number, 256), &vec![[7; 32]; 256]);
            shelf.put(&tile(number, 256), &vec![[7; 32]; 256]);
        }
        assert_eq!((shelf.tiles.len(), shelf.order.len()), (TILES_MAX, TILES_MAX));
        assert_eq!(shelf.get(&tile(0, 256)), None);
        assert_eq!(shelf.get(&tile(2_999, 3)).map(<[Hash]>::len), Some(3), "a part of a full one");
    }
}
