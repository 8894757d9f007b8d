use std::collections::BTreeSet;

use gregal_core::merkle::{
    Frontier, Hash, TILE_WIDTH, Tile, Tiles, Wanted, consistency_proof, inclusion_proof, leaf_hash, root,
};
use proptest::prelude::*;

use crate::given::cases;

/// Hashes as a log of these leaves keeps them: the leaves, and the roots of full tiles that a frontier told of.
struct Log {
    levels: Vec<Vec<Hash>>,
}

impl Log {
    fn of(size: u64) -> Self {
        let (mut frontier, mut levels) = (Frontier::default(), vec![Vec::new()]);
        for index in 0..size {
            let leaf = leaf_hash(&index.to_be_bytes());
            levels[0].push(leaf);
            let mut told = Vec::new();
            frontier.push_told(leaf, |level, place, hash| told.push((level, place, hash)));
            for (level, place, hash) in told {
                if levels.len() == usize::from(level) {
                    levels.push(Vec::new());
                }
                assert_eq!(levels[usize::from(level)].len() as u64, place, "in order, each once");
                levels[usize::from(level)].push(hash);
            }
        }
        Self { levels }
    }

    fn load(&self, wanted: &BTreeSet<Tile>) -> Tiles {
        let mut tiles = Tiles::default();
        for tile in wanted {
            let places = tile.places();
            let hashes = &self.levels[usize::from(tile.level)][places.start as usize..places.end as usize];
            tiles.put(*tile, hashes.to_vec());
        }
        tiles
    }

    fn show(&self, wanted: Wanted) -> Option<Vec<Hash>> {
        self.load(&wanted.tiles()).show(wanted)
    }
}

#[test]
fn a_tile_has_one_address() {
    let of = |level, number, width| Tile { level, number, width };
    for (tile, path) in [
        (of(0, 0, 256), "0/000"),
        (of(0, 1_234_067, 256), "0/x001/x234/067"),
        (of(0, 1_234_067, 8), "0/x001/x234/067.p/8"),
        (of(3, 1_000, 255), "3/x001/000.p/255"),
    ] {
        assert_eq!(tile.path(), path);
        let (level, rest) = path.split_once('/').unwrap();
        assert_eq!(Tile::from_path(level, rest), Some(tile));
    }
    for (level, rest) in [
        ("0", "0"),
        ("0", "00"),
        ("0", "x000/000"),
        ("0", "001/000"),
        ("0", "x001"),
        ("0", "000.p/0"),
        ("0", "000.p/256"),
        ("0", "000.p/08"),
        ("0", "000.p/+8"),
        ("0", "000.p/8/"),
        ("0", "+01"),
        ("00", "000"),
        ("8", "000"),
        ("-1", "000"),
        ("0", ""),
        ("0", "../000"),
        ("0", "x999/x999/x999/x999/x999/x999/x999/999"),
    ] {
        assert_eq!(Tile::from_path(level, rest), None, "{level}/{rest}");
    }
}

#[test]
fn a_log_has_the_tiles_its_size_gives_it() {
    assert_eq!(Tile::of(0, 0, 0), None);
    assert_eq!(Tile::of(0, 0, 5).unwrap().width, 5);
    assert_eq!(Tile::of(0, 1, 256), None);
    assert_eq!(Tile::of(1, 0, 256).unwrap().width, 1);
    assert_eq!(Tile::of(1, 0, 70_000).unwrap().width, 256);
    assert_eq!(Tile::of(2, 0, 70_000).unwrap().width, 1);
    assert_eq!(Tile::of(9, 0, u64::MAX), None);
    assert_eq!(Tile::of(0, u64::MAX, u64::MAX), None);
    let partial = Tile { level: 0, number: 1, width: 3 };
    assert!(partial.is_in(259) && partial.is_in(1_000) && !partial.is_in(258));
}

#[test]
fn a_proof_of_a_large_log_needs_a_handful_of_tiles() {
    let size = (1 << 40) + 12_345;
    for wanted in [Wanted::Inclusion(1 << 39, size), Wanted::Consistency(3 << 35, size), Wanted::Root(size)] {
        let tiles = wanted.tiles();
        assert!(tiles.len() <= 10, "{wanted:?} needs {}", tiles.len());
        assert!(tiles.iter().all(|tile| tile.is_in(size)));
    }
}

#[test]
fn nothing_is_shown_of_what_is_not_there() {
    let log = Log::of(300);
    for wanted in [Wanted::Inclusion(300, 300), Wanted::Consistency(301, 300), Wanted::Inclusion(0, 0)] {
        assert_eq!(log.show(wanted), None, "{wanted:?}");
    }
    assert_eq!(Tiles::default().show(Wanted::Root(300)), None, "without tiles");
    assert_eq!(Tiles::default().show(Wanted::Root(0)), Some(vec![root(&[])]));
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn proofs_from_tiles_are_those_from_all_leaves(size in 1_u64..1_500, a: u64, b: u64) {
        let log = Log::of(size);
        let whole = &log.levels[0];
        for size in [size, size - size % TILE_WIDTH, 1 + a % size] {
            let leaves = &whole[..size as usize];
            prop_assert_eq!(log.show(Wanted::Root(size)).unwrap(), vec![root(leaves)]);
            if size == 0 { continue }
            let index = b % size;
            prop_assert_eq!(log.show(Wanted::Inclusion(index, size)), inclusion_proof(leaves, index as usize));
            let old = b % (size + 1);
            prop_assert_eq!(log.show(Wanted::Consistency(old, size)), consistency_proof(leaves, old as usize));
        }
    }

    #[test]
    fn no_path_makes_a_reader_panic(level in "[0-9x/.+-]{0,4}", rest in "(x?[0-9]{3}/){0,9}[0-9]{0,4}(\\.p/[0-9]{0,4})?") {
        if let Some(tile) = Tile::from_path(&level, &rest) {
            prop_assert_eq!(tile.path(), format!("{level}/{rest}"));
        }
    }
}
