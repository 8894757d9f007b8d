use gregal_core::{
    audit::{
        AuditEntry, Checkpoint, KeyKind, NoteSignature, SignedNote, VerifierKey, ViewChain, ViewError, ViewHead,
        ViewPlace, key_hash_ed25519, person_name, verifier_key_ed25519,
    },
    id::{OrganisationId, PersonId},
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

#[test]
fn a_person_is_named_by_a_hash_that_only_their_salt_leads_to() {
    let (one, other) = (PersonId::from_u128(1), PersonId::from_u128(2));
    let name = person_name(&[7; 32], one);
    assert_eq!(name, "person:27438d29ee67779aadb8bccffd8f494d");
    assert_eq!(name, person_name(&[7; 32], one), "the same person is the same throughout the log");
    assert_ne!(name, person_name(&[8; 32], one), "without the salt nobody can try ids");
    assert_ne!(name, person_name(&[7; 32], other));
}

fn viewed(organisation: u128, number: u64, before: Option<&str>) -> String {
    let view = before.map(|before| (number, (!before.is_empty()).then(|| before.to_owned())));
    let view = view.map(|(number, before)| ViewPlace { number, before });
    let entry = serde_json::json!({ "at": "2026-11-22T09:30:00.000Z", "actor": "a", "action": "x:y", "object": number.to_string(),
        "organisation": OrganisationId::from_u128(organisation), "result": "done", "reason": null, "policy": null,
        "request": null });
    AuditEntry { view, ..serde_json::from_value(entry).unwrap() }.body()
}

#[test]
fn a_view_is_a_chain_and_what_came_before_numbers_may_only_stand_first() {
    let organisation = OrganisationId::from_u128(1);
    let leaf = |body: &str| hex::encode(merkle::leaf_hash(body.as_bytes()));
    let begun = || {
        let mut chain = ViewChain::new(organisation);
        chain.push(3, &viewed(1, 0, None)).unwrap();
        chain.push(5, &viewed(1, 1, None)).unwrap();
        chain
    };
    let before = leaf(&viewed(1, 1, None));
    let next = viewed(1, 2, Some(&before));
    let mut chain = begun();
    chain.push(8, &next).unwrap();
    assert_eq!((chain.entries(), hex::encode(chain.newest())), (3, leaf(&next)));
    let gap = ViewError::Gap { index: 9, found: 2, expected: 3 };
    assert_eq!(chain.clone().push(9, &next), Err(gap), "the same number twice");
    assert_eq!(chain.push(9, &viewed(1, 3, None)), Err(ViewError::Chain { index: 9 }), "a number is missing");
    assert_eq!(begun().push(9, &viewed(2, 2, Some(&before))), Err(ViewError::Foreign { index: 9 }));
    assert_eq!(begun().push(9, &viewed(1, 2, Some(""))), Err(ViewError::Chain { index: 9 }));
    assert_eq!(begun().push(9, "{}"), Err(ViewError::Foreign { index: 9 }));
    // One of those before numbers is missing: the first numbered one says how many there were.
    let mut short = ViewChain::new(organisation);
    short.push(3, &viewed(1, 0, None)).unwrap();
    assert_eq!(short.push(8, &next), Err(ViewError::Gap { index: 8, found: 2, expected: 1 }));
}

#[test]
fn a_head_of_a_view_has_one_spelling_and_is_no_checkpoint() {
    let organisation = OrganisationId::from_u128(1);
    let origin = "audit.example.eu/gregal".to_owned();
    let head = ViewHead { origin, organisation, entries: 4, newest: [1; 32], log_size: 9, log_root: [2; 32] };
    let text = head.to_text();
    assert_eq!(ViewHead::from_text(&text), Ok(head));
    assert!(Checkpoint::from_text(&text).is_err());
    for (from, to) in [("\n4\n", "\n04\n"), ("\n9\n", "\n+9\n"), ("/v1\n", "/v2\n"), ("=\n", "=\n\n"), ("=\n", "=\r\n")]
    {
        assert!(ViewHead::from_text(&text.replacen(from, to, 1)).is_err(), "{from:?}");
    }
}

#[test]
fn a_verifiers_key_reads_back_and_a_damaged_one_is_refused() {
    for published in [PETER, SUMDB] {
        let key: VerifierKey = published.parse().unwrap();
        assert_eq!((key.kind, key.to_string().as_str()), (KeyKind::Log, published));
    }
    for damaged in ["", "a+b", &PETER.replacen("c74f", "c74e", 1), &PETER.replacen("+AR", "+BR", 1), &PETER[..60]] {
        assert!(damaged.parse::<VerifierKey>().is_err(), "{damaged}");
    }
}
