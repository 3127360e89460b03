//! The restore of a file that has a write-ahead log.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::store::restore::restore;

/// Returns a folder with the files of a store as a crash leaves them: all events are in the log.
async fn crashed(events: usize) -> TempDir {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::PerObject)]).await;
    for n in 0..events {
        fixture.store.inbox.try_record(event(&format!("evt_1-{n}"), "order")).await.unwrap();
    }
    let (store, left) = (database(fixture.backend.folder.path()), TempDir::new().unwrap());
    for name in ["test.db", "test.db-wal"] {
        fs::copy(store.with_file_name(name), left.path().join(name)).unwrap();
    }
    fixture.close().await;
    left
}

#[tokio::test]
async fn what_is_only_in_the_write_ahead_log_is_restored_too() {
    let (left, folder) = (crashed(50).await, TempDir::new().unwrap());
    let (backup, place) = (left.path().join("test.db"), database(folder.path()));
    let restored = restore(&backup, &place, ".before").unwrap();
    assert_eq!((restored.events, restored.newest_sequence), (50, 50));
    let restored = Fixture::at(Sqlite { folder }, vec![]).await;
    assert_eq!(restored.store.operator.summary().await.unwrap().last_sequence, 50);
}

#[tokio::test]
async fn a_restore_is_undone_by_restoring_what_it_has_kept() {
    let (left, folder) = (crashed(50).await, TempDir::new().unwrap());
    let place = database(folder.path());
    fs::create_dir(place.parent().unwrap()).unwrap();
    for name in ["test.db", "test.db-wal"] {
        fs::copy(left.path().join(name), place.with_file_name(name)).unwrap();
    }
    let other = crashed(3).await;
    let kept = restore(&other.path().join("test.db"), &place, ".before").unwrap().kept.unwrap();
    let undone = restore(&kept, &place, ".before-undone").unwrap();
    assert_eq!((undone.events, undone.newest_sequence), (50, 50));
}

#[tokio::test]
async fn a_database_behind_a_link_is_replaced_where_it_is() {
    let (left, folder) = (crashed(50).await, TempDir::new().unwrap());
    let (elsewhere, place) = (TempDir::new_in("/dev/shm").unwrap(), database(folder.path()));
    fs::create_dir(place.parent().unwrap()).unwrap();
    fs::write(&place, "").unwrap();
    let link = elsewhere.path().join("link.db");
    symlink(&place, &link).unwrap();
    let kept = place.canonicalize().unwrap().with_file_name("test.db.before");
    let restored = restore(&left.path().join("test.db"), &link, ".before").unwrap();
    assert_eq!((restored.events, restored.kept), (50, Some(kept)));
    let restored = Fixture::at(Sqlite { folder }, vec![]).await;
    assert_eq!(restored.store.operator.summary().await.unwrap().last_sequence, 50);
}

#[tokio::test]
async fn a_log_without_its_database_is_set_aside_too() {
    let (left, folder) = (crashed(3).await, TempDir::new().unwrap());
    let place = database(folder.path());
    fs::create_dir(place.parent().unwrap()).unwrap();
    let log = |name: &str| place.with_file_name(name);
    fs::copy(crashed(50).await.path().join("test.db-wal"), log("test.db-wal")).unwrap();
    let restored = restore(&left.path().join("test.db"), &place, ".before").unwrap();
    assert_eq!((restored.events, restored.kept), (3, None));
    assert!(!log("test.db-wal").exists() && log("test.db.before-wal").exists());
    let restored = Fixture::at(Sqlite { folder }, vec![]).await;
    assert_eq!(restored.store.operator.summary().await.unwrap().last_sequence, 3);
}
