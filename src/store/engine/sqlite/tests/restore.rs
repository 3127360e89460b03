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
    let restored = restore(&backup, &place, "1").unwrap();
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
    let kept = restore(&other.path().join("test.db"), &place, "1").unwrap().kept.unwrap();
    let undone = restore(&kept, &place, "2").unwrap();
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
    let kept = place.canonicalize().unwrap().with_file_name("test.db.before-restore-1");
    let restored = restore(&left.path().join("test.db"), &link, "1").unwrap();
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
    let restored = restore(&left.path().join("test.db"), &place, "1").unwrap();
    assert_eq!((restored.events, restored.kept), (3, None));
    assert!(!log("test.db-wal").exists() && log("test.db.before-restore-1-wal").exists());
    let restored = Fixture::at(Sqlite { folder }, vec![]).await;
    assert_eq!(restored.store.operator.summary().await.unwrap().last_sequence, 3);
}

/// Returns the number of events of the database at `path`, with those of its log.
fn events(path: &Path) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap()
}

/// The renames of a restore, after each of which it can be interrupted.
const RENAMES: [(&str, &str); 2] =
    [("-wal", "test.db.before-restore-1-wal"), ("", "test.db.before-restore-1")];

/// Returns the folder of a store of 50 events, most of them in the log, whose restore from a backup of 3
/// events was interrupted after so many renames.
async fn interrupted(renames: usize) -> TempDir {
    let (left, folder) = (crashed(50).await, TempDir::new().unwrap());
    let place = database(folder.path());
    fs::create_dir(place.parent().unwrap()).unwrap();
    for name in ["test.db", "test.db-wal"] {
        fs::copy(left.path().join(name), place.with_file_name(name)).unwrap();
    }
    let (other, copied) = (crashed(3).await, TempDir::new().unwrap());
    restore(&other.path().join("test.db"), &copied.path().join("copy.db"), "0").unwrap();
    fs::copy(copied.path().join("copy.db"), place.with_file_name("test.db.restoring-1")).unwrap();
    for (beside, kept) in &RENAMES[..renames] {
        fs::rename(place.with_file_name(format!("test.db{beside}")), place.with_file_name(kept)).unwrap();
    }
    folder
}

#[tokio::test]
async fn a_start_completes_a_restore_that_was_interrupted_between_any_two_renames() {
    for renames in 0..=RENAMES.len() {
        let folder = interrupted(renames).await;
        let place = database(folder.path());
        let refused = crate::store::backup::Backup::prepare(&place, &folder.path().join("copy.db"));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("was interrupted"), "{renames}: {refused}");
        let restored = Fixture::at(Sqlite { folder }, vec![]).await;
        assert_eq!(restored.store.operator.summary().await.unwrap().last_sequence, 3, "{renames}");
        assert_eq!(events(&place.with_file_name("test.db.before-restore-1")), 50, "{renames}");
        assert!(!place.with_file_name("test.db.restoring-1").exists(), "{renames}");
    }
}

#[tokio::test]
async fn another_restore_completes_the_interrupted_one_first_and_leaves_nothing_half_copied() {
    for renames in 0..=RENAMES.len() {
        let (folder, third) = (interrupted(renames).await, crashed(7).await);
        let place = database(folder.path());
        let half = place.with_file_name(".test.db.copy-abc");
        fs::write(&half, "half").unwrap();
        let restored = restore(&third.path().join("test.db"), &place, "2").unwrap();
        assert_eq!(restored.events, 7, "{renames}");
        let kept = ["test.db.before-restore-1", "test.db.before-restore-2"];
        assert_eq!(kept.map(|name| events(&place.with_file_name(name))), [50, 3], "{renames}");
        assert_eq!((events(&place), half.exists()), (7, false), "{renames}");
    }
}

#[tokio::test]
async fn a_restore_that_was_interrupted_behind_a_link_is_completed_where_the_database_was() {
    let folder = interrupted(2).await;
    let (elsewhere, place) = (TempDir::new().unwrap(), database(folder.path()));
    let link = elsewhere.path().join("link.db");
    symlink(&place, &link).unwrap();
    restore(&crashed(7).await.path().join("test.db"), &link, "2").unwrap();
    assert_eq!(events(&place.with_file_name("test.db.before-restore-2")), 3);
    assert_eq!(events(&place), 7);
}

#[tokio::test]
async fn a_kept_database_is_not_overwritten_and_then_nothing_has_changed() {
    let (left, folder) = (crashed(3).await, TempDir::new().unwrap());
    let place = database(folder.path());
    restore(&left.path().join("test.db"), &place, "1").unwrap();
    fs::write(place.with_file_name("test.db.before-restore-1"), "kept").unwrap();
    let refused = restore(&crashed(7).await.path().join("test.db"), &place, "1").unwrap_err().to_string();
    assert!(refused.contains("is there already"), "{refused}");
    let beside = fs::read_dir(place.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut beside: Vec<_> = beside.map(|name| name.into_string().unwrap()).collect();
    beside.sort();
    assert_eq!(beside, ["test.db", "test.db.before-restore-1", "test.db.lock"]);
    assert_eq!(events(&place), 3);
}
