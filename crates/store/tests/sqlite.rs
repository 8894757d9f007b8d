//! The store's contract over SQLite, and what can happen to a file.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by failing")]

#[macro_use]
mod contract;

use contract::{Place, done, entry, organisation, parents};
use gregal_store::{Error, Store, StoreOptions};
use sea_orm::{ConnectionTrait as _, Database};

contract_over!(sqlite);

/// A file in a folder of its own.
fn sqlite() -> std::future::Ready<Place> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("gregal.db").display());
    std::future::ready(Place { url, folder: Some(folder), farewell: None })
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    for path in [file.join("gregal.db"), folder.path().to_owned()] {
        let error = Store::open(StoreOptions::new(path.to_str().unwrap())).await.unwrap_err();
        assert!(matches!(&error, Error::Unwritable { path: named, .. } if *named == path), "{error:?}");
        assert!(error.hint().unwrap().contains("folder"));
    }
}

#[tokio::test]
async fn an_address_that_makes_no_sense_is_refused_without_its_password() {
    for url in ["", "sqlite::memory:", "mysql://root:hunter2@host/db", "postgres://root:hunter2@host:port/db"] {
        let error = Store::open(StoreOptions::new(url)).await.unwrap_err();
        assert!(matches!(error, Error::BadUrl { .. }), "{error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_said_to_be_damaged_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gregal.db");
    let noise: Vec<u8> = (0..20_000_u32).map(|number| (number * 31 % 251) as u8).collect();
    std::fs::write(&path, &noise).unwrap();
    let error = Store::open(StoreOptions::new(path.to_str().unwrap())).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("backup"));
    assert_eq!(std::fs::read(&path).unwrap(), noise);
}

#[tokio::test]
async fn a_file_locked_by_another_program_is_busy_and_not_broken() {
    let place = sqlite().await;
    place.open().await.close().await.unwrap();
    let other = Database::connect(&place.url).await.unwrap();
    other.execute_unprepared("BEGIN EXCLUSIVE").await.unwrap();
    let options = StoreOptions { busy_ms_max: 150, ..StoreOptions::new(&place.url) };
    let error = Store::open(options).await.unwrap_err();
    assert!(matches!(error, Error::Busy), "{error:?}");
    other.execute_unprepared("ROLLBACK").await.unwrap();
    parents(&place.open().await).await;
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_keeps_what_was_acknowledged() {
    let place = sqlite().await;
    let store =
        Store::open(StoreOptions { bytes_max: Some(1024 * 1024), ..StoreOptions::new(&place.url) }).await.unwrap();
    let mut kept = 0;
    let error = loop {
        let tx = store.begin().await.unwrap();
        let name = format!("{kept:0>9000}");
        let written = tx.organisation_insert(&organisation(kept + 1, &name)).await;
        let committed = match written {
            Ok(()) => tx.commit(&[entry("it")]).await.map(|_| ()),
            Err(error) => Err(error),
        };
        match committed {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1_000, "the limit was passed");
    };
    assert!(matches!(error, Error::Full), "{error:?}");
    assert!(error.hint().unwrap().contains("space"));
    assert!(kept > 0);
    // Reading goes on, and so does writing once there is room.
    assert_eq!(u128::from(store.audit_head().await.unwrap().0), kept);
    store.close().await.unwrap();
    let store = place.open().await;
    let tx = store.begin().await.unwrap();
    tx.organisation_insert(&organisation(kept + 1, "roomy")).await.unwrap();
    done(tx).await;
    contract::the_log_holds_together(&store, u64::try_from(kept).unwrap() + 1).await;
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/gregal.db");
    let store = Store::open(StoreOptions::new(path.to_str().unwrap())).await.unwrap();
    parents(&store).await;
    for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}
