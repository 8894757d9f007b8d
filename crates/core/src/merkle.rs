//! RFC 6962 Merkle trees: leaf hashes, roots, inclusion and consistency.
//!
//! Everything here speaks of leaf *hashes* ([`leaf_hash`] of an entry's bytes). [`Frontier`] is what a log keeps between
//! two entries: the roots of its perfect subtrees, at most 64 of them. Verification follows RFC 9162, sections 2.1.3.2
//! and 2.1.4.2, and is written apart from the proofs' construction.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod tiles;

pub use tiles::{TILE_WIDTH, Tile, Tiles, Wanted};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hash of an entry's bytes: SHA-256 over a zero byte and the bytes.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// Hash of two subtrees: SHA-256 over a one byte and both hashes. The leading byte keeps a node from passing as a leaf.
fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Root of the tree over these leaf hashes.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split_of(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The largest power of two below `size`, which is at least 2.
const fn split_of(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

/// The hashes that lead from a leaf to the root, lowest first; none if there is no such leaf.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let mut proof = Vec::new();
    let (mut rest, mut index) = (leaves, index);
    while rest.len() > 1 {
        let split = split_of(rest.len());
        let (left, right) = rest.split_at(split);
        if index < split {
            proof.push(root(right));
            rest = left;
        } else {
            proof.push(root(left));
            rest = right;
            index -= split;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Whether a proof shows that `leaf` stands at `index` in the tree of `size` leaves with this root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            climb_to_left_edge(&mut node, &mut last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// The hashes that show that the first `old_size` leaves are the beginning of these; none if there are fewer leaves, and
/// empty for the empty tree (which everything extends) and for the same size.
pub fn consistency_proof(leaves: &[Hash], old_size: usize) -> Option<Vec<Hash>> {
    if old_size > leaves.len() {
        return None;
    }
    if old_size == 0 || old_size == leaves.len() {
        return Some(Vec::new());
    }
    let mut proof = Vec::new();
    let (mut rest, mut old, mut old_is_whole) = (leaves, old_size, true);
    while old < rest.len() {
        let split = split_of(rest.len());
        let (left, right) = rest.split_at(split);
        if old <= split {
            proof.push(root(right));
            rest = left;
        } else {
            proof.push(root(left));
            rest = right;
            old -= split;
            old_is_whole = false;
        }
    }
    // A verifier knows the old root; a subtree that is the whole old tree need not be sent.
    if !old_is_whole {
        proof.push(root(rest));
    }
    proof.reverse();
    Some(proof)
}

/// Whether a proof shows that the tree of `new_size` leaves begins with the tree of `old_size` leaves.
pub fn verify_consistency(old_size: u64, new_size: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    if old_size == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let (first, path) = if old_size.is_power_of_two() {
        (old_root, proof)
    } else {
        match proof.split_first() {
            Some(split) => split,
            None => return false,
        }
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for hash in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            climb_to_left_edge(&mut node, &mut last);
        } else {
            new = node_hash(&new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *new_root
}

/// Skips the levels on which a right-most node has no sibling.
fn climb_to_left_edge(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

/// What a log keeps to append and to know its root: its size and the roots of its perfect subtrees, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

/// A frontier whose parts do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tree of {size} leaves has {} subtree roots of 32 bytes, not {found}", size.count_ones())]
pub struct FrontierError {
    /// How many leaves.
    pub size: u64,
    /// How many usable hashes were given.
    pub found: usize,
}

impl Frontier {
    /// From a size and the subtree roots that belong to it.
    pub fn from_parts(size: u64, hashes: Vec<Hash>) -> Result<Self, FrontierError> {
        if hashes.len() == size.count_ones() as usize {
            Ok(Self { size, hashes })
        } else {
            Err(FrontierError { size, found: hashes.len() })
        }
    }

    /// How many leaves there are: the index the next one gets.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_told(leaf, |_, _, _| {});
    }

    /// Appends a leaf hash and tells of the roots of the full tiles it completes: the level in which each is a hash (from
    /// 1), its place there, and the root.
    pub fn push_told(&mut self, leaf: Hash, mut tell: impl FnMut(u8, u64, Hash)) {
        let mut hash = leaf;
        // Every trailing one of the size is a perfect subtree that the new leaf completes to the next larger one.
        for level in 1..=self.size.trailing_ones() {
            let left = self.hashes.pop().expect("a frontier has a hash for every one bit of its size");
            hash = node_hash(&left, &hash);
            if level % 8 == 0 {
                tell((level / 8) as u8, self.size >> level, hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root of the tree so far.
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.hashes.iter().rev();
        match smallest_first.next() {
            Some(last) => smallest_first.fold(*last, |right, left| node_hash(left, &right)),
            None => empty_root(),
        }
    }
}

impl Extend<Hash> for Frontier {
    fn extend<I: IntoIterator<Item = Hash>>(&mut self, leaves: I) {
        leaves.into_iter().for_each(|leaf| self.push(leaf));
    }
}

/// A frontier as it is written: hashes in hex.
#[derive(Serialize, Deserialize)]
struct Written {
    size: u64,
    hashes: Vec<String>,
}

impl From<Frontier> for Written {
    fn from(frontier: Frontier) -> Self {
        Self { size: frontier.size, hashes: frontier.hashes.iter().map(hex::encode).collect() }
    }
}

impl TryFrom<Written> for Frontier {
    type Error = FrontierError;

    fn try_from(written: Written) -> Result<Self, FrontierError> {
        let read = |text: &String| <Hash>::try_from(hex::decode(text).ok()?).ok();
        Self::from_parts(written.size, written.hashes.iter().filter_map(read).collect())
    }
}
