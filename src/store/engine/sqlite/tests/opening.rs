use super::*;

#[tokio::test]
async fn the_folder_is_created_and_the_database_set_up_as_promised() {
    let fixture = Fixture::new(vec![]).await;
    let connection = fixture.backend.side_door();
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("auto_vacuum"), 2);
    assert_eq!(pragma("application_id"), 0x5045_5042);
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let strict = "SELECT count(*) FROM pragma_table_list \
                  WHERE schema = 'main' AND NOT strict AND name NOT LIKE 'sqlite_%' AND name != '_sqlx_migrations'";
    assert_eq!(connection.query_row(strict, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert!(fixture.store.operator.summary().await.unwrap().engine.starts_with("SQLite 3."));
}

/// Checks the flags in `.cargo/config.toml`. With memory management all connections would share one page
/// cache, and the pages of a large database would be read again for each query. The other parts are code
/// that nothing uses.
#[test]
fn sqlite_is_compiled_without_what_is_not_used() {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    let has = |part: &str| {
        let query = "SELECT sqlite_compileoption_used(?1)";
        connection.query_row(query, [part], |row| row.get::<_, bool>(0)).unwrap()
    };
    let extras = ["FTS3", "FTS3_PARENTHESIS", "FTS5", "RTREE", "DBSTAT_VTAB", "STAT4"];
    for part in extras.into_iter().chain(["MEMORY_MANAGEMENT", "LOAD_EXTENSION"]) {
        assert!(!has(&format!("ENABLE_{part}")), "{part}");
    }
    assert!(!has("SOUNDEX"));
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_has_closed() {
    let fixture = Fixture::new(vec![]).await;
    let refused = open(fixture.backend.folder.path(), vec![]).await.unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    assert!(refused.to_string().contains("in use by another pepay-bridge"));
    let folder = fixture.close().await.folder;
    assert!(open(folder.path(), vec![]).await.is_ok());
}

#[tokio::test]
async fn closing_leaves_no_write_ahead_log_behind() {
    let fixture = Fixture::new(vec![]).await;
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let folder = fixture.close().await.folder;
    let wal = database(folder.path()).with_extension("db-wal");
    assert_eq!(std::fs::metadata(wal).map_or(0, |file| file.len()), 0);
}

#[tokio::test]
async fn a_database_of_another_application_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = database(folder.path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA application_id = 77; CREATE TABLE cat (name TEXT)").unwrap();
    drop(other);
    let before = std::fs::read(&path).unwrap();
    let refused = open(folder.path(), vec![]).await.unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { application_id: 77, .. }), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = database(folder.path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "dear diary".repeat(500)).unwrap();
    let refused = open(folder.path(), vec![]).await.unwrap_err().to_string();
    assert!(refused.contains("test.db") && refused.contains("not a database"), "{refused}");
}

#[tokio::test]
async fn a_database_of_a_newer_schema_is_refused_by_number() {
    let fixture = Fixture::new(vec![]).await;
    fixture
        .backend
        .side_door()
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'from the future', 1, x'00', 0)",
            [],
        )
        .unwrap();
    let folder = fixture.close().await.folder;
    let before = std::fs::read(database(folder.path())).unwrap();
    let refused = open(folder.path(), vec![]).await.unwrap_err();
    assert!(matches!(refused, OpenError::NewerSchema { found: 9999, .. }), "{refused}");
    assert_eq!(std::fs::read(database(folder.path())).unwrap(), before, "it is left alone");
}

#[tokio::test]
async fn a_second_process_is_refused_by_whatever_name_it_calls_the_database() {
    let fixture = Fixture::new(vec![]).await;
    let path = database(fixture.backend.folder.path());
    let other = fixture.backend.folder.path().join("other.db");
    std::os::unix::fs::symlink(path, &other).unwrap();
    let settings = Settings { place: Place::File(other), ..settings(fixture.backend.folder.path()) };
    let refused = Store::open(&settings, vec![], Clock::from_fn(|| NOW)).await.unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("data"), "in the way").unwrap();
    let refused = open(folder.path(), vec![]).await.unwrap_err();
    assert!(matches!(refused, OpenError::Folder { .. }), "{refused}");
}

/// Returns the permissions of the folder of a store and of the files in it, by name.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut modes: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), mode(&file.path()))).collect();
    modes.push((String::new(), mode(folder)));
    modes.sort();
    modes
}

#[tokio::test]
async fn everything_is_created_for_its_owner_alone() {
    let fixture = Fixture::new(vec![]).await;
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let path = database(fixture.backend.folder.path());
    let name = |suffix: &str| format!("{}{suffix}", path.file_name().unwrap().to_str().unwrap());
    let expected = [
        (String::new(), 0o700),
        (name(""), 0o600),
        (name("-shm"), 0o600),
        (name("-wal"), 0o600),
        (name(".lock"), 0o600),
    ];
    assert_eq!(modes(path.parent().unwrap()), expected);
}

#[tokio::test]
async fn existing_files_keep_their_mode_but_for_the_lock_which_its_readers_could_hold() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Fixture::new(vec![]).await.close().await.folder;
    let path = database(folder.path());
    let lock = path.with_extension("db.lock");
    let open_to_all = |path: &Path| {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    [path.parent().unwrap(), &path, &lock].into_iter().for_each(open_to_all);
    let (store, _) = open(folder.path(), vec![]).await.unwrap();
    let modes = modes(path.parent().unwrap());
    let of = |suffix: &str| modes.iter().find(|(name, _)| name.ends_with(suffix)).unwrap().1;
    assert_eq!((modes[0].1, of(".db"), of(".lock")), (0o755, 0o644, 0o600));
    drop(store);
}
