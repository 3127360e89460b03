//! Copies of a store that is in use.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::store::backup::{Backup, BackupError, Copied};

fn copy(fixture: &Fixture, name: &str) -> Result<Copied, BackupError> {
    let folder = fixture.backend.folder.path();
    Backup::prepare(&database(folder), &folder.join(name))?.run()
}

/// Returns the names of the files beside the folder of the database.
fn files(folder: &TempDir) -> Vec<String> {
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_copy_of_a_store_in_use_is_one_snapshot_that_opens_as_a_store() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::PerObject)]).await;
    for n in 0..50 {
        fixture.store.inbox.try_record(event(&format!("evt_1-{n}"), "order")).await.unwrap();
    }
    // The store is open, and all events are in the write-ahead log.
    let copied = copy(&fixture, "copy.db").unwrap();
    assert_eq!((copied.events, copied.newest_sequence), (50, 50));
    let file = fs::metadata(fixture.backend.folder.path().join("copy.db")).unwrap();
    assert_eq!(copied.bytes, file.len());
    assert_eq!(file.permissions().mode() & 0o777, 0o600, "for its owner alone");
    assert_eq!(files(&fixture.backend.folder), ["copy.db", "data"], "one file, nothing beside it");

    // The copy does not have later events, and the store goes on.
    fixture.store.inbox.try_record(event("evt_1-later", "order")).await.unwrap();
    let restored = TempDir::new().unwrap();
    fs::create_dir(restored.path().join("data")).unwrap();
    fs::rename(fixture.backend.folder.path().join("copy.db"), database(restored.path())).unwrap();
    let restored =
        Fixture::at(Sqlite { folder: restored }, vec![route("orders", "*", Ordering::PerObject)]).await;
    assert_eq!(restored.store.operator.summary().await.unwrap().last_sequence, 50);
    assert_eq!(restored.store.operator.backlogs().await.unwrap()[0].open, 50);
    let vacuum: i64 =
        restored.backend.side_door().pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap();
    assert_eq!(vacuum, 2, "set up like the original");
    restored.close().await;
    let folder = fixture.close().await.folder;

    // A stopped store can be copied too.
    let copied = Backup::prepare(&database(folder.path()), &folder.path().join("stopped.db"));
    assert_eq!(copied.unwrap().run().unwrap().events, 51);
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_that_is_no_store_is_copied() {
    let fixture = Fixture::new(vec![]).await;
    let folder = fixture.backend.folder.path();
    fs::write(folder.join("taken"), "precious").unwrap();
    assert!(matches!(copy(&fixture, "taken"), Err(BackupError::Exists(_))));
    // The file appears while the copy is made.
    let backup = Backup::prepare(&database(folder), &folder.join("late")).unwrap();
    fs::write(folder.join("late"), "precious").unwrap();
    assert!(matches!(backup.run(), Err(BackupError::Exists(_))));
    for name in ["taken", "late"] {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "precious");
    }
    assert!(matches!(copy(&fixture, "no/such/folder"), Err(BackupError::Write { .. })));

    let (missing, foreign) = (folder.join("missing.db"), folder.join("foreign.db"));
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    let refused = |database: &Path| Backup::prepare(database, &folder.join("copy.db")).unwrap_err();
    assert!(matches!(refused(&missing), BackupError::Nothing(_)));
    assert!(matches!(refused(&foreign), BackupError::Open(OpenError::Foreign { .. })));
    assert_eq!(files(&fixture.backend.folder), ["data", "foreign.db", "late", "taken"]);
}

#[tokio::test]
async fn a_copy_that_is_interrupted_leaves_nothing_behind() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::PerObject)]).await;
    for n in 0..500 {
        fixture.store.inbox.try_record(event(&format!("evt_1-{n}"), "order")).await.unwrap();
    }
    // The interrupt may come before the first step or after the last, so copies are made until one
    // is interrupted.
    for name in (0..).map(|n| format!("copy-{n}")) {
        let backup = Backup::prepare(
            &database(fixture.backend.folder.path()),
            &fixture.backend.folder.path().join(&name),
        );
        let backup = backup.unwrap();
        let (interrupter, over) = (backup.interrupter(), AtomicBool::new(false));
        let copied = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    interrupter.interrupt();
                }
            });
            let copied = backup.run();
            over.store(true, Relaxed);
            copied
        });
        match copied {
            Ok(_) => fs::remove_file(fixture.backend.folder.path().join(name)).unwrap(),
            Err(error) => {
                assert!(matches!(error, BackupError::Interrupted), "{error}");
                break;
            }
        }
    }
    assert_eq!(files(&fixture.backend.folder), ["data"]);
}
