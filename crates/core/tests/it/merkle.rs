use gregal_core::merkle::{
    Frontier, Hash, consistency_proof, empty_root, inclusion_proof, leaf_hash, root, verify_consistency,
    verify_inclusion,
};
use proptest::{prelude::*, sample::Index};

use crate::given::cases;

/// The eight leaves, and the roots of the trees of 1 to 8 of them, that the certificate-transparency project publishes
/// with its reference code for RFC 6962.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const A: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const B: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const C: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const D: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const E: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const F: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";

fn published_leaves() -> Vec<Hash> {
    LEAVES.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect()
}

fn in_hex(proof: Option<Vec<Hash>>) -> Vec<String> {
    proof.unwrap().iter().map(hex::encode).collect()
}

#[test]
fn the_published_roots_come_out_of_both_ways_to_a_root() {
    assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!((root(&[]), Frontier::default().root()), (empty_root(), empty_root()));
    let leaves = published_leaves();
    let mut frontier = Frontier::default();
    for (index, published) in ROOTS.iter().enumerate() {
        frontier.push(leaves[index]);
        assert_eq!(hex::encode(root(&leaves[..=index])), *published);
        assert_eq!(hex::encode(frontier.root()), *published);
    }
}

#[test]
fn the_published_proofs_come_out() {
    let leaves = published_leaves();
    let inclusion = |index, size: usize| in_hex(inclusion_proof(&leaves[..size], index));
    assert_eq!(inclusion(0, 1), [""; 0]);
    assert_eq!(inclusion(0, 8), [A, B, C]);
    assert_eq!(inclusion(5, 8), [D, E, ROOTS[3]]);
    assert_eq!(inclusion(2, 3), [ROOTS[1]]);
    assert_eq!(inclusion(1, 5), [ROOTS[0], B, D]);
    let consistency = |old, new: usize| in_hex(consistency_proof(&leaves[..new], old));
    assert_eq!(consistency(1, 1), [""; 0]);
    assert_eq!(consistency(1, 8), [A, B, C]);
    assert_eq!(consistency(6, 8), [F, E, ROOTS[3]]);
    assert_eq!(consistency(2, 5), [B, D]);
}

#[test]
fn what_is_not_in_the_tree_has_no_proof() {
    let leaves = published_leaves();
    assert_eq!(inclusion_proof(&leaves, 8), None);
    assert_eq!(inclusion_proof(&[], 0), None);
    assert_eq!(consistency_proof(&leaves, 9), None);
    assert!(!verify_inclusion(&leaves[0], 0, 0, &[], &empty_root()));
    assert!(!verify_inclusion(&leaves[0], u64::MAX, u64::MAX, &[], &leaves[0]));
    assert!(verify_consistency(0, 8, &empty_root(), &root(&leaves), &[]));
    assert!(!verify_consistency(0, 8, &leaves[0], &root(&leaves), &[]));
    assert!(!verify_consistency(3, 8, &root(&leaves[..3]), &root(&leaves), &[]));
    assert!(!verify_consistency(8, 7, &root(&leaves), &root(&leaves), &[]));
}

#[test]
fn a_leaf_cannot_pass_as_a_node() {
    let leaves = published_leaves();
    let inner = [leaves[0], leaves[1]].concat();
    assert_ne!(leaf_hash(&inner), root(&leaves[..2]));
}

#[test]
fn every_proof_of_every_small_tree_verifies() {
    let leaves: Vec<Hash> = (0..70u32).map(|number| leaf_hash(&number.to_be_bytes())).collect();
    for size in 1..=leaves.len() {
        let (tree, whole) = (&leaves[..size], root(&leaves[..size]));
        for (index, leaf) in tree.iter().enumerate() {
            let proof = inclusion_proof(tree, index).unwrap();
            assert!(verify_inclusion(leaf, index as u64, size as u64, &proof, &whole), "{index} of {size}");
        }
        for old in 0..=size {
            let proof = consistency_proof(tree, old).unwrap();
            let before = root(&leaves[..old]);
            assert!(verify_consistency(old as u64, size as u64, &before, &whole, &proof), "{old} to {size}");
        }
    }
}

#[test]
fn a_frontier_reads_back_and_a_damaged_one_is_refused() {
    let mut frontier = Frontier::default();
    frontier.extend(published_leaves().into_iter().take(7));
    let text = serde_json::to_string(&frontier).unwrap();
    assert!(text.starts_with("{\"size\":7,\"hashes\":[\"d37ee418"));
    assert_eq!(serde_json::from_str::<Frontier>(&text).unwrap(), frontier);
    assert!(serde_json::from_str::<Frontier>(&text.replace("\"size\":7", "\"size\":8")).is_err());
    assert!(serde_json::from_str::<Frontier>(&text.replace("d37ee418", "d37e")).is_err());
    assert!(Frontier::from_parts(7, frontier.hashes().to_vec()).is_ok());
    assert!(Frontier::from_parts(6, frontier.hashes().to_vec()).is_err());
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_frontier_knows_the_root_of_any_tree(entries in prop::collection::vec(any::<[u8; 4]>(), 0..200)) {
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let mut frontier = Frontier::default();
        frontier.extend(leaves.iter().copied());
        prop_assert_eq!(frontier.root(), root(&leaves));
        prop_assert_eq!(frontier.size(), leaves.len() as u64);
        let again: Frontier = serde_json::from_value(serde_json::to_value(&frontier).unwrap()).unwrap();
        prop_assert_eq!(again, frontier);
    }

    #[test]
    fn one_flipped_bit_anywhere_spoils_an_inclusion_proof(size in 2..100usize, which: Index, place: Index, bit in 0..256usize) {
        let leaves: Vec<Hash> = (0..size).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        let (index, whole) = (which.index(size), root(&leaves));
        let proof = inclusion_proof(&leaves, index).unwrap();
        let verify = |leaf: &Hash, index: usize, proof: &[Hash], whole: &Hash| verify_inclusion(leaf, index as u64, size as u64, proof, whole);
        prop_assert!(verify(&leaves[index], index, &proof, &whole));
        prop_assert!(!verify(&flipped(&leaves[index], bit), index, &proof, &whole));
        prop_assert!(!verify(&leaves[index], index, &proof, &flipped(&whole, bit)));
        let mut spoiled = proof.clone();
        let at = place.index(proof.len());
        spoiled[at] = flipped(&spoiled[at], bit);
        prop_assert!(!verify(&leaves[index], index, &spoiled, &whole));
        prop_assert!(!verify(&leaves[index], index, &proof[1..], &whole));
        prop_assert!(!verify(&leaves[index], index, &[&proof[..], &[whole]].concat(), &whole));
        prop_assert!(!verify(&leaves[index], (index + 1) % size, &proof, &whole));
    }

    #[test]
    fn a_log_that_rewrote_its_past_has_no_proof(size in 2..100usize, old: Index, place: Index, bit in 0..256usize) {
        let mut leaves: Vec<Hash> = (0..size).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        let old = 1 + old.index(size - 1);
        let (before, after) = (root(&leaves[..old]), root(&leaves));
        let proof = consistency_proof(&leaves, old).unwrap();
        prop_assert!(verify_consistency(old as u64, size as u64, &before, &after, &proof));
        for at in 0..proof.len() {
            let mut spoiled = proof.clone();
            spoiled[at] = flipped(&spoiled[at], bit);
            prop_assert!(!verify_consistency(old as u64, size as u64, &before, &after, &spoiled));
        }
        prop_assert!(!verify_consistency(old as u64, size as u64, &before, &after, &proof[1..]));
        let changed = place.index(old);
        leaves[changed] = flipped(&leaves[changed], bit);
        let forged = consistency_proof(&leaves, old).unwrap();
        prop_assert!(!verify_consistency(old as u64, size as u64, &before, &root(&leaves), &forged));
        prop_assert!(!verify_consistency(old as u64, size as u64, &before, &root(&leaves), &proof));
    }
}

fn flipped(hash: &Hash, bit: usize) -> Hash {
    let mut other = *hash;
    other[bit / 8] ^= 1 << (bit % 8);
    other
}
