//! Tiles: a Merkle tree cut into pieces of 256 hashes, as C2SP `tlog-tiles` serves it, and proofs made from them.
//!
//! A tile of level 0 holds leaf hashes, one of level `n` the roots of the full tiles of the level below. What is full never
//! changes, so a log serves and keeps tiles for ever, and a proof needs a handful of them, whatever the log's size.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{Hash, empty_root, node_hash, root};

/// How many hashes a full tile has.
pub const TILE_WIDTH: u64 = 256;
/// How many levels of the tree one tile spans.
const TILE_HEIGHT: u32 = 8;
/// The highest level a tile can have: 2^64 leaves are 8 levels of tiles.
const LEVEL_MAX: u8 = 7;

/// One tile: where it stands, and how many hashes of it there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// 0 holds leaf hashes.
    pub level: u8,
    /// Its place in the level, from 0.
    pub number: u64,
    /// Hashes in it, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The tile of a log of this size; none if it has no hash yet.
    pub fn of(level: u8, number: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0);
        let width = hashes.saturating_sub(number.checked_mul(TILE_WIDTH)?).min(TILE_WIDTH);
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Self { level, number, width })
    }

    /// Reads the level and the rest of a path, like `0` and `x001/x234/067.p/8`. Only the one spelling is read.
    pub fn from_path(level: &str, rest: &str) -> Option<Self> {
        let said = format!("{level}/{rest}");
        let level: u8 = level.parse().ok().filter(|level| *level <= LEVEL_MAX)?;
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|width| (1..256).contains(width))?),
            None => (rest, 256),
        };
        let mut value: u64 = 0;
        for part in number.split('/') {
            let digits = part.strip_prefix('x').unwrap_or(part);
            let read: u64 = digits.parse().ok().filter(|_| digits.len() == 3)?;
            value = value.checked_mul(1_000)?.checked_add(read)?;
        }
        let tile = Self { level, number: value, width };
        // Whatever else could be read as this number is another address, and one tile has one.
        (tile.path() == said).then_some(tile)
    }

    /// Its path below `tile/`, like `0/x001/x234/067` or, with fewer than 256 hashes, `0/x001/x234/067.p/8`.
    pub fn path(&self) -> String {
        let mut path = format!("{:03}", self.number % 1_000);
        let mut rest = self.number / 1_000;
        while rest > 0 {
            path = format!("x{:03}/{path}", rest % 1_000);
            rest /= 1_000;
        }
        let partial = if self.is_full() { String::new() } else { format!(".p/{}", self.width) };
        format!("{}/{path}{partial}", self.level)
    }

    /// Whether it can never change.
    pub const fn is_full(&self) -> bool {
        self.width == 256
    }

    /// The places of its hashes in its level.
    pub fn places(&self) -> Range<u64> {
        let start = self.number.saturating_mul(TILE_WIDTH);
        start..start.saturating_add(u64::from(self.width))
    }

    /// Whether a log of this size has it, so wide.
    pub fn is_in(&self, size: u64) -> bool {
        Self::of(self.level, self.number, size).is_some_and(|whole| whole.width >= self.width)
    }
}

/// What is to be shown of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The root over so many leaves.
    Root(u64),
    /// That a leaf (first) is in the tree of so many (second).
    Inclusion(u64, u64),
    /// That the tree of so many leaves (second) begins with the tree of so many (first).
    Consistency(u64, u64),
}

impl Wanted {
    /// The subtrees whose roots make the answer, lowest first. None if there is no such thing to show.
    fn ranges(self) -> Option<Vec<Range<u64>>> {
        match self {
            Self::Root(0) => Some(Vec::new()),
            // One range is the tree itself.
            #[expect(clippy::single_range_in_vec_init, reason = "it is a list of one subtree")]
            Self::Root(size) => Some(vec![0..size]),
            Self::Inclusion(index, size) => (index < size).then(|| inclusion(index, size)),
            Self::Consistency(old, new) => (old <= new).then(|| consistency(old, new)),
        }
    }

    fn size(self) -> u64 {
        match self {
            Self::Root(size) | Self::Inclusion(_, size) | Self::Consistency(_, size) => size,
        }
    }

    /// The tiles that are needed to show it, each once, as wide as the tree has them.
    pub fn tiles(self) -> BTreeSet<Tile> {
        let mut found = BTreeSet::new();
        for range in self.ranges().unwrap_or_default() {
            for node in nodes(range) {
                found.extend(Tile::of(node.level, node.first / TILE_WIDTH, self.size()));
            }
        }
        found
    }
}

/// Tiles at hand.
#[derive(Debug, Default)]
pub struct Tiles(BTreeMap<(u8, u64), Vec<Hash>>);

impl Tiles {
    /// Takes in a tile's hashes.
    pub fn put(&mut self, tile: Tile, hashes: Vec<Hash>) {
        self.0.insert((tile.level, tile.number), hashes);
    }

    /// The hashes that show what is wanted: a proof, or the root alone. None if tiles are missing ([`Wanted::tiles`]) or
    /// there is no such thing to show.
    pub fn show(&self, wanted: Wanted) -> Option<Vec<Hash>> {
        if wanted == Wanted::Root(0) {
            return Some(vec![empty_root()]);
        }
        wanted.ranges()?.into_iter().map(|range| self.over(range)).collect()
    }

    /// The root over a range of leaves that begins where a subtree of its length may.
    fn over(&self, range: Range<u64>) -> Option<Hash> {
        let mut largest_first = nodes(range).into_iter().rev().map(|node| self.node(node));
        let mut hash = largest_first.next()??;
        for left in largest_first {
            hash = node_hash(&left?, &hash);
        }
        Some(hash)
    }

    fn node(&self, node: Node) -> Option<Hash> {
        let hashes = self.0.get(&(node.level, node.first / TILE_WIDTH))?;
        let start = usize::try_from(node.first % TILE_WIDTH).ok()?;
        Some(root(hashes.get(start..start + node.count)?))
    }
}

/// A whole subtree as tiles hold it: the root over some neighbours in one tile.
#[derive(Debug, Clone, Copy)]
struct Node {
    level: u8,
    first: u64,
    count: usize,
}

/// The whole subtrees that make up a range, from the left (and so from the largest).
fn nodes(range: Range<u64>) -> Vec<Node> {
    let mut found = Vec::new();
    let (mut start, mut left) = (range.start, range.end - range.start);
    while left > 0 {
        let height = left.ilog2();
        let (level, span) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
        found.push(Node {
            level: u8::try_from(level).expect("a height of 63 at most is a level of 7 at most"),
            first: start >> (level * TILE_HEIGHT),
            count: 1 << span,
        });
        start += 1 << height;
        left -= 1 << height;
    }
    found
}

/// The largest power of two below a length, which is at least 2.
const fn split_of(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}

fn inclusion(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - start > 1 {
        let middle = start + split_of(end - start);
        if index < middle {
            proof.push(middle..end);
            end = middle;
        } else {
            proof.push(start..middle);
            start = middle;
        }
    }
    proof.reverse();
    proof
}

fn consistency(old: u64, new: u64) -> Vec<Range<u64>> {
    if old == 0 || old == new {
        return Vec::new();
    }
    let (mut start, mut end, mut old_is_whole) = (0, new, true);
    let mut proof = Vec::new();
    while old < end {
        let middle = start + split_of(end - start);
        if old <= middle {
            proof.push(middle..end);
            end = middle;
        } else {
            proof.push(start..middle);
            start = middle;
            old_is_whole = false;
        }
    }
    // A verifier knows the old root; a subtree that is the whole old tree need not be sent.
    if !old_is_whole {
        proof.push(start..end);
    }
    proof.reverse();
    proof
}
