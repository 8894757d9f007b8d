use gregal_core::{
    audit::{Checkpoint, NoteSignature, SignedNote, key_hash_ed25519, verifier_key_ed25519},
    merkle,
};
use proptest::prelude::*;

use crate::given::cases;

/// Key and note of the documentation of Go's `golang.org/x/mod/sumdb/note`, where the format comes from.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
/// The key of Go's checksum database, as every Go toolchain carries it.
const SUMDB: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

fn key_in(verifier_key: &str) -> [u8; 32] {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let (_, key) = verifier_key.split_once('+').unwrap().1.split_once('+').unwrap();
    STANDARD.decode(key).unwrap()[1..].try_into().unwrap()
}

#[test]
fn published_keys_have_the_hash_that_we_compute() {
    for published in [PETER, SUMDB] {
        let name = published.split_once('+').unwrap().0;
        assert_eq!(verifier_key_ed25519(name, &key_in(published)), published);
    }
}

#[test]
fn a_published_note_reads_and_writes_back() {
    let note = SignedNote::from_text(NOTE).unwrap();
    assert!(note.text.ends_with("what your problem is.\n"));
    let [signature] = &note.signatures[..] else { panic!("one signature") };
    assert_eq!(signature.name, "PeterNeumann");
    assert_eq!(signature.key_hash, key_hash_ed25519("PeterNeumann", &key_in(PETER)));
    assert_eq!(signature.signature.len(), 64);
    assert_eq!(note.to_text().as_deref(), Ok(NOTE));
}

#[test]
fn a_damaged_note_is_refused() {
    for damaged in [
        "",
        "text\n",
        "text\n\n",
        "text\n\n\u{2014} name AAAAAAA=",
        "text\n\n- name AAAAAAA=\n",
        "text\n\n\u{2014} na+me AAAAAAA=\n",
        "text\n\n\u{2014} name AAAAAA==\n",
        "text\n\n\u{2014} name !!!!\n",
        "te\txt\n\n\u{2014} name AAAAAAA=\n",
    ] {
        assert!(SignedNote::from_text(damaged).is_err(), "{damaged:?}");
    }
    assert!(SignedNote::from_text("text\n\n\u{2014} name AAAAAAA=\n").is_ok());
    assert!(SignedNote::from_text(&format!("{}\n\n\u{2014} name AAAAAAA=\n", "x".repeat(70_000))).is_err());
    let signature = NoteSignature { name: "a b".into(), key_hash: [0; 4], signature: vec![1] };
    assert!(SignedNote { text: "text\n".into(), signatures: vec![signature.clone()] }.to_text().is_err());
    let named = NoteSignature { name: "ab".into(), ..signature };
    assert!(SignedNote { text: "text".into(), signatures: vec![named] }.to_text().is_err());
    assert!(SignedNote { text: "text\n".into(), signatures: vec![] }.to_text().is_err());
}

#[test]
fn a_checkpoint_is_three_lines() {
    let checkpoint = Checkpoint { origin: "audit.example.eu/gregal".into(), size: 0, root: merkle::empty_root() };
    let text = "audit.example.eu/gregal\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    assert_eq!(checkpoint.to_text(), text);
    assert_eq!(Checkpoint::from_text(text), Ok(checkpoint));
    for (from, to) in [
        ("\n0\n", "\n00\n"),
        ("\n0\n", "\n+0\n"),
        ("\n0\n", "\n-1\n"),
        ("=\n", "=\nmore\n"),
        ("=\n", "="),
        ("47DE", ""),
        ("audit.example.eu/gregal", ""),
    ] {
        let damaged = text.replacen(from, to, 1);
        assert!(Checkpoint::from_text(&damaged).is_err(), "{damaged:?}");
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn checkpoints_and_notes_read_back_as_themselves(origin in "[a-z./]{1,30}", size: u64, root: [u8; 32], key_hash: [u8; 4], signature in prop::collection::vec(any::<u8>(), 1..80)) {
        let checkpoint = Checkpoint { origin: origin.clone(), size, root };
        prop_assert_eq!(Checkpoint::from_text(&checkpoint.to_text()).unwrap(), checkpoint.clone());
        let signature = NoteSignature { name: origin, key_hash, signature };
        let note = SignedNote { text: checkpoint.to_text(), signatures: vec![signature.clone(), signature] };
        prop_assert_eq!(SignedNote::from_text(&note.to_text().unwrap()).unwrap(), note);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "(\u{2014} |\n|[a+ =]|.){0,60}") {
        if let Ok(note) = SignedNote::from_text(&text) {
            // Base64 has one spelling, so what reads also writes back byte for byte.
            prop_assert_eq!(note.to_text().unwrap(), text.clone());
        }
        if let Ok(checkpoint) = Checkpoint::from_text(&text) {
            prop_assert_eq!(checkpoint.to_text(), text);
        }
    }
}
