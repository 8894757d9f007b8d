//! A Merkle tree (RFC 6962) that keeps the hashes of its whole subtrees, so that a proof needs no hashing but along the
//! ragged edge. What `gregal_core::merkle` computes from all leaves, this answers in the logarithm of their number.

use gregal_core::merkle::{self, Frontier, Hash};

/// Level 0 holds the leaves, level `n` the roots of whole subtrees of `2^n` leaves.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// How many leaves there are.
    pub(crate) fn size(&self) -> u64 {
        self.levels.first().map_or(0, Vec::len) as u64
    }

    /// Adds leaves at the end.
    pub(crate) fn extend(&mut self, leaves: impl IntoIterator<Item = Hash>) {
        for leaf in leaves {
            self.push(0, leaf);
        }
    }

    fn push(&mut self, level: usize, hash: Hash) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let nodes = &mut self.levels[level];
        nodes.push(hash);
        if let (true, [.., left, right]) = (nodes.len().is_multiple_of(2), nodes.as_slice()) {
            let parent = joined(left, right);
            self.push(level + 1, parent);
        }
    }

    /// The root over the first `size` leaves; none if there are fewer.
    pub(crate) fn root(&self, size: u64) -> Option<Hash> {
        if size == 0 {
            return Some(merkle::empty_root());
        }
        if size > self.size() { None } else { Some(self.over(0, size)) }
    }

    /// The hashes that lead from a leaf to the root over the first `size` leaves, lowest first.
    pub(crate) fn proof(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut start, mut end) = (0, size);
        let mut proof = Vec::new();
        while end - start > 1 {
            let middle = start + split_of(end - start);
            if index < middle {
                proof.push(self.over(middle, end));
                end = middle;
            } else {
                proof.push(self.over(start, middle));
                start = middle;
            }
        }
        proof.reverse();
        Some(proof)
    }

    /// The root over the leaves `start..end`, where `start` is where a subtree of that length begins.
    fn over(&self, start: u64, end: u64) -> Hash {
        let length = end - start;
        if length.is_power_of_two() {
            let level = length.trailing_zeros();
            return self.levels[level as usize][(start >> level) as usize];
        }
        let middle = start + split_of(length);
        joined(&self.over(start, middle), &self.over(middle, end))
    }
}

/// The largest power of two below a length, which is at least 2.
const fn split_of(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}

/// Hash of two subtrees of the same height. Core keeps the node hash to itself; a frontier of two leaves is one.
fn joined(left: &Hash, right: &Hash) -> Hash {
    let mut pair = Frontier::default();
    pair.extend([*left, *right]);
    pair.root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_and_roots_are_those_that_core_computes_from_all_leaves() {
        let leaves: Vec<Hash> = (0u32..70).map(|i| merkle::leaf_hash(&i.to_be_bytes())).collect();
        let mut tree = Tree::default();
        tree.extend(leaves.iter().copied());
        for size in 0..=leaves.len() {
            let part = &leaves[..size];
            assert_eq!(tree.root(size as u64), Some(merkle::root(part)), "root over {size}");
            for index in 0..=size {
                let ours = tree.proof(index as u64, size as u64);
                assert_eq!(ours, merkle::inclusion_proof(part, index), "{index} of {size}");
            }
        }
        assert_eq!(tree.root(71), None);
    }
}
