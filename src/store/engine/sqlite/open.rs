//! Opens a database file: checks its mark and its schema, and sets up connections.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
};

use super::file::{self, Lock, Replacement};
use super::migrations::MIGRATIONS;
use crate::store::blocking;
use crate::store::error::OpenError;
use crate::store::settings::Durability;

/// Marks a file as a database of this program: "PEPB" (SQLite file format, section 1.3.13).
pub(super) const APPLICATION_ID: i32 = 0x5045_5042;

/// The first SQLite version without the WAL-reset bug, which could corrupt a database.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a statement waits for another connection's lock.
pub(in crate::store) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of connections of the pool that reads. Reads are short, and each connection costs a
/// thread.
const READERS: u32 = 2;

/// The largest number of links that are followed from the path of a database.
const MOST_LINKS: u32 = 40;

/// Checks the file, takes its lock and migrates its schema.
pub(in crate::store) async fn prepare(path: &Path) -> Result<Lock, OpenError> {
    let database = path.to_owned();
    let (lock, found) = blocking::apart(move || claim(&database)).await?;
    let newest = newest();
    let Some(found) = found.filter(|found| *found < newest) else {
        migrate(path, found.is_none()).await?;
        return Ok(lock);
    };
    let started = Instant::now();
    tracing::info!(
        from = found,
        to = newest,
        "bringing the database up to date, which takes seconds for a million events; what is interrupted begins anew"
    );
    migrate(path, false).await?;
    tracing::info!(schema = newest, seconds = started.elapsed().as_secs(), "the database is up to date");
    Ok(lock)
}

/// Creates the folder of the database, takes the lock, completes an interrupted restore, and reads the schema
/// version. After a crash this reads the whole write-ahead log.
fn claim(path: &Path) -> Result<(Lock, Option<i64>), OpenError> {
    check_engine()?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        file::create_folder(folder)
            .map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
    }
    let lock = take_lock(&canonical(path))?;
    complete_restore(&canonical(path))?;
    Ok((lock, schema_of(path)?))
}

/// Completes a restore of `database` that was interrupted, if there is one.
fn complete_restore(database: &Path) -> Result<(), OpenError> {
    let Some(interrupted) = Replacement::interrupted(database) else { return Ok(()) };
    let kept = interrupted.complete().map_err(|error| {
        let reason = format!("its restore was interrupted and cannot be completed: {error}");
        self::database(database, &reason)
    })?;
    let kept = kept.map(|kept| kept.display().to_string());
    tracing::warn!(kept, "an interrupted restore of the database has been completed");
    Ok(())
}

pub(super) fn take_lock(database: &Path) -> Result<Lock, OpenError> {
    match Lock::take(database) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(OpenError::InUse(database.to_owned())),
        Err(source) => Err(OpenError::Lock { path: Lock::beside(database), source }),
    }
}

/// Checks that the linked `SQLite` has no known bug that corrupts databases.
pub(super) fn check_engine() -> Result<(), OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    Ok(())
}

/// Returns the newest schema version that this program knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Returns the one path of a database to which links may lead, also if it does not exist.
pub(super) fn canonical(path: &Path) -> PathBuf {
    let mut place = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(found) = fs::canonicalize(&place) {
            return found;
        }
        let Ok(target) = fs::read_link(&place) else { break };
        place = file::folder_of(&place).join(target);
    }
    let folder = fs::canonicalize(file::folder_of(&place));
    folder.ok().zip(place.file_name()).map(|(folder, name)| folder.join(name)).unwrap_or(place)
}

/// Returns the schema version of the database; `None` if the database is still to be created. An
/// existing database must have the mark of this program and a known schema, and no restore of it may
/// be unfinished. This is checked before anything is written to it.
pub(in crate::store) fn schema_of(path: &Path) -> Result<Option<i64>, OpenError> {
    if Replacement::interrupted(&canonical(path)).is_some() {
        return Err(OpenError::Restoring(path.to_owned()));
    }
    if fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok(None);
    }
    let failed = |error: rusqlite::Error| database(path, &error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let application_id = number("PRAGMA application_id")?;
    if application_id != i64::from(APPLICATION_ID) {
        // A crash just after the creation of a database can leave it empty and without the mark.
        let is_empty = application_id == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
        return if is_empty {
            Ok(None)
        } else {
            Err(OpenError::Foreign { path: path.to_owned(), application_id })
        };
    }
    if number("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")? == 0 {
        return Ok(Some(0));
    }
    let (found, known) = (number("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")?, newest());
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    Ok(Some(found))
}

async fn migrate(path: &Path, is_new: bool) -> Result<(), OpenError> {
    if is_new {
        file::create_file(path).map_err(|error| database(path, &error))?;
    }
    let mut options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    if is_new {
        options = options
            .create_if_missing(true)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .pragma("application_id", APPLICATION_ID.to_string());
    }
    // A migration that rebuilds a table drops the old table. That must not delete the rows that
    // refer to the old table.
    let options = options.journal_mode(SqliteJournalMode::Wal).foreign_keys(false);
    let mut connection = options.connect().await.map_err(|error| database(path, &error))?;
    MIGRATIONS.run(&mut connection).await.map_err(|error| database(path, &error))?;
    connection.close().await.map_err(|error| database(path, &error))
}

/// Opens the connection that writes.
pub(in crate::store) fn open_writer(path: &Path, durability: Durability) -> Result<Connection, OpenError> {
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // The size in KiB. A larger page cache was not measurably faster, and costs memory once a
        // backlog fills it.
        connection.pragma_update(None, "cache_size", -1024)?;
        // The pages that a group has changed stay in memory beyond the page cache, up to this size
        // in KiB. A page that is written to the log before the commit may have to be written again.
        connection.pragma_update(None, "cache_spill", -2048)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        connection.set_prepared_statement_cache_capacity(64);
        // Without this, SQLite prepares a statement again whenever the parameter of its LIMIT is
        // bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    };
    open().map_err(|error| database(path, &error))
}

/// Opens a connection that reads, and never writes to the database.
pub(in crate::store) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| database(path, &error))
}

/// Opens a pool of connections that read.
pub(in crate::store) async fn open_reader_pool(path: &Path) -> Result<SqlitePool, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-512")
        .disable_statement_logging();
    let pool =
        SqlitePoolOptions::new().max_connections(READERS).min_connections(1).acquire_timeout(BUSY_TIMEOUT);
    pool.connect_with(options).await.map_err(|error| database(path, &error))
}

pub(in crate::store) fn database(path: &Path, error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Database { path: path.to_owned(), reason: error.to_string() }
}
