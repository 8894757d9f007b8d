//! Objects at rest: what was changed, swapped, cut or stored under another key does not come out.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use gregal_core::world::RealWorld;
use gregal_site::objects::{Error, Keep, SiteKey, materialise, store_folder};

const SPACE: &str = "org_1";
const HEAD: usize = 96;
const CHUNK: usize = (64 << 10) + 16;

fn keep(folder: &Path, key: u8) -> Keep {
    Keep::open(folder, SiteKey::from_bytes([key; 32]), Arc::new(RealWorld)).unwrap()
}

fn store(keep: &Keep, bytes: &[u8]) -> String {
    let mut writer = keep.write(SPACE, u64::MAX).unwrap();
    for piece in bytes.chunks(10_007) {
        writer.write(piece).unwrap();
    }
    writer.finish(None).unwrap().digest
}

fn read(keep: &Keep, digest: &str) -> Result<Vec<u8>, Error> {
    keep.read(SPACE, digest)?.read_all(u64::MAX)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn every_size_around_a_chunk_comes_back_as_it_was_and_nothing_is_readable_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let keep = keep(folder.path(), 1);
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let plain = bytes(length);
        let digest = store(&keep, &plain);
        assert_eq!(read(&keep, &digest).unwrap(), plain);
        let on_disk = fs::read(folder.path().join(SPACE).join(&digest)).unwrap();
        let readable = |window: &[u8]| length > 32 && window == &plain[..32];
        assert!(!on_disk.windows(32).any(readable));
    }
    assert!(matches!(read(&keep, &"0".repeat(64)), Err(Error::NotFound { .. })));
    assert!(matches!(read(&keep, "../../etc/passwd"), Err(Error::NotFound { .. })));
    assert!(matches!(keep.read("..", &"0".repeat(64)), Err(Error::NotFound { .. })));
}

#[test]
fn what_was_tampered_with_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let keep = keep(folder.path(), 1);
    let digest = store(&keep, &bytes(200_000));
    let path = folder.path().join(SPACE).join(&digest);
    let good = fs::read(&path).unwrap();
    let damaged = |what: &str, bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let outcome = read(&keep, &digest);
        assert!(matches!(outcome, Err(Error::Damaged { .. })), "{what}: {:?}", outcome.map(|plain| plain.len()));
    };
    for at in [0, 16, 30, 60, HEAD, HEAD + 5, HEAD + CHUNK + 1, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        damaged(&format!("byte {at}"), &changed);
    }
    let mut swapped = good.clone();
    let (first, second) = swapped[HEAD..].split_at_mut(CHUNK);
    first.swap_with_slice(&mut second[..CHUNK]);
    damaged("swapped chunks", &swapped);
    damaged("a missing end", &good[..good.len() - CHUNK / 2]);
    damaged("a missing chunk", &[&good[..HEAD], &good[HEAD + CHUNK..]].concat());
    damaged("more at the end", &[&good[..], b"x"].concat());
    // Another object of the same length and the same site, under this one's name.
    let mut other = bytes(200_000);
    other[0] ^= 1;
    let other = store(&keep, &other);
    damaged("another object", &fs::read(folder.path().join(SPACE).join(other)).unwrap());
    fs::write(&path, &good).unwrap();
    assert_eq!(read(&keep, &digest).unwrap().len(), 200_000);
}

#[test]
fn another_key_opens_nothing_and_a_lost_key_is_not_replaced_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let digest = store(&keep(folder.path(), 1), b"weights");
    assert!(matches!(read(&keep(folder.path(), 2), &digest), Err(Error::WrongKey { .. })));
    let path = folder.path().join("keys").join("site.key");
    assert!(Keep::holds_something(folder.path()));
    assert!(matches!(SiteKey::load(&path, &RealWorld, true), Err(Error::Key { .. })));
    let made = SiteKey::load(&path, &RealWorld, false).unwrap();
    assert_eq!(format!("{made:?}"), format!("{:?}", SiteKey::load(&path, &RealWorld, true).unwrap()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        matches!(SiteKey::load(&path, &RealWorld, true), Err(Error::Key { .. })),
        "a key others can read is refused"
    );
}

#[test]
fn what_is_not_finished_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let unfinished = folder.path().join("unfinished");
    let left = || fs::read_dir(&unfinished).unwrap().count();
    {
        let keep = keep(folder.path(), 1);
        let mut writer = keep.write(SPACE, u64::MAX).unwrap();
        writer.write(&bytes(100_000)).unwrap();
        assert_eq!(left(), 1);
        drop(writer);
        assert_eq!(left(), 0, "dropped");
        let mut writer = keep.write(SPACE, u64::MAX).unwrap();
        writer.write(b"hello").unwrap();
        let wrong = writer.finish(Some(&"0".repeat(64)));
        assert!(matches!(wrong, Err(Error::DigestMismatch { .. })), "{wrong:?}");
        let mut writer = keep.write(SPACE, 10).unwrap();
        assert!(matches!(writer.write(&bytes(11)), Err(Error::TooLarge { bytes_max: 10 })));
        drop(writer);
        assert_eq!(left(), 0, "refused");
        std::mem::forget(keep.write(SPACE, u64::MAX).unwrap());
        assert_eq!(left(), 1, "as a crash leaves it");
    }
    keep(folder.path(), 1);
    assert_eq!(left(), 0, "cleaned up at the next start");
    assert!(!Keep::holds_something(folder.path()));
}

#[test]
fn a_model_is_its_manifest_and_comes_back_file_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let keep = keep(&folder.path().join("objects"), 1);
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    fs::write(model.join("model.safetensors"), bytes(100_000)).unwrap();
    let flat = store_folder(&keep, SPACE, &model).unwrap();
    fs::create_dir(model.join("adapter")).unwrap();
    fs::write(model.join("adapter/config.json"), "[]").unwrap();
    let stored = store_folder(&keep, SPACE, &model).unwrap();
    assert_eq!((flat.bytes, stored.bytes), (100_002, 100_004));
    assert_ne!(flat.digest, stored.digest);
    assert_eq!(store_folder(&keep, SPACE, &model).unwrap(), stored, "the same files are the same model");
    let out = folder.path().join("out");
    materialise(&keep, SPACE, &stored.digest, &out).unwrap();
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), bytes(100_000));
    assert_eq!(fs::read(out.join("adapter/config.json")).unwrap(), b"[]", "one level of folders comes along");
    assert!(matches!(materialise(&keep, "org_2", &stored.digest, &out), Err(Error::NotFound { .. })));
    assert!(!out.exists(), "a failed unpacking leaves nothing");

    fs::create_dir(model.join("adapter/deeper")).unwrap();
    assert!(matches!(store_folder(&keep, SPACE, &model), Err(Error::Model(_))), "two levels are refused");
    fs::remove_dir(model.join("adapter/deeper")).unwrap();
    let missing = store_folder(&keep, SPACE, &folder.path().join("nowhere"));
    assert!(matches!(missing, Err(Error::Model(_))), "no model is the program's fault, not the disk's");
    std::os::unix::fs::symlink("/etc/passwd", model.join("stolen")).unwrap();
    assert!(matches!(store_folder(&keep, SPACE, &model), Err(Error::Model(_))), "a link is no file of a model");
}
