//! Restores a backup in the place of the database, while no bridge runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode};

use super::file::{self, Disk};
use super::open;
use crate::store::error::OpenError;

/// The space that is left free on the disk, in bytes.
const RESERVE: u64 = 64 << 20;

/// A restored database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The number of its events.
    pub events: i64,
    /// The sequence of the newest event; 0 for none.
    pub newest_sequence: i64,
    /// The version of its schema.
    pub schema: i64,
    /// The new path of the former database, with its log beside it.
    pub kept: Option<PathBuf>,
}

/// Why nothing was restored. The database is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no backup.
    #[error("there is no database in {0}")]
    Nothing(PathBuf),
    /// The backup is the database itself.
    #[error("{0} is the database itself")]
    Itself(PathBuf),
    /// The backup is damaged.
    #[error("{path} is not sound: {damage}")]
    Unsound {
        /// The backup.
        path: PathBuf,
        /// The damage.
        damage: String,
    },
    /// The disk has too little space for the copy.
    #[error("the copy takes {expected} bytes and {path} has room for {free}, of which 64 MiB stay free")]
    NoRoom {
        /// The folder of the database.
        path: PathBuf,
        /// The size of the copy in bytes.
        expected: u64,
        /// The free space there, in bytes.
        free: u64,
    },
    /// A file cannot be read, written or renamed.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A bridge runs on the database, or one of the two files is no database of this program.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Puts a copy of `backup` in the place of `database`, after it was read and found sound. The copy
/// includes what a write-ahead log beside `backup` holds, such as that of a former database that was
/// kept here after a crash. The former database is kept beside it, under its name with `suffix`
/// added. Blocks.
///
/// # Errors
/// [`RestoreError`]; then nothing has changed.
pub fn restore(backup: &Path, database: &Path, suffix: &str) -> Result<Restored, RestoreError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { path, source }
    };
    if open::schema_of(backup)?.is_none() {
        return Err(RestoreError::Nothing(backup.to_owned()));
    }
    if let Some(folder) = database.parent() {
        file::create_folder(folder).map_err(failed(folder))?;
    }
    // A link to the database may be on another disk, to which nothing can be renamed.
    let database = open::canonical(database);
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if open::canonical(backup) == database {
        return Err(RestoreError::Itself(database));
    }
    // The lock is held until the end, so that no bridge starts meanwhile.
    let _lock = open::take_lock(&database)?;
    let expected = fs::metadata(backup).map_err(failed(backup))?.len() + file::wal_bytes(backup);
    let free = Disk::of(&database).map_err(failed(&database))?.free;
    if free < expected.saturating_add(RESERVE) {
        return Err(RestoreError::NoRoom { path: folder.to_owned(), expected, free });
    }
    // Only the owner may read the copy. It is removed unless it has been renamed to the database.
    let copy = tempfile::Builder::new().prefix(".pepay-bridge-restore-").tempfile_in(folder);
    let copy = copy.map_err(failed(folder))?;
    copy_pages(backup, copy.path())?;
    copy.as_file().sync_all().map_err(failed(copy.path()))?;
    let restored =
        examine(copy.path()).map_err(|damage| RestoreError::Unsound { path: backup.to_owned(), damage })?;
    let kept = set_aside(&database, suffix).map_err(failed(&database))?;
    copy.persist(&database).map_err(|error| failed(&database)(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
    Ok(Restored { kept, ..restored })
}

/// Copies the pages of `backup` to the empty file `copy`, as one snapshot.
fn copy_pages(backup: &Path, copy: &Path) -> Result<(), RestoreError> {
    let source = open::open_reader(backup)?;
    let read = || Backup::new(&source, &mut Connection::open(copy)?)?.step(-1);
    let refused = |path: &Path, reason: String| {
        let source = io::Error::other(reason);
        RestoreError::File { path: path.to_owned(), source }
    };
    match read() {
        Ok(StepResult::Done) => Ok(()),
        Ok(_) => Err(refused(backup, "another process is writing to it".to_owned())),
        Err(error) => Err(match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                RestoreError::Unsound { path: backup.to_owned(), damage: error.to_string() }
            }
            _ => refused(copy, error.to_string()),
        }),
    }
}

/// Reads a whole copy.
fn examine(path: &Path) -> Result<Restored, String> {
    let read = || -> rusqlite::Result<(String, Restored)> {
        let connection = Connection::open(path)?;
        let verdict = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        let query = "SELECT count(*), coalesce(max(sequence), 0), \
                            (SELECT coalesce(max(version), 0) FROM _sqlx_migrations) FROM event";
        let restored = connection.query_row(query, [], |row| {
            let (events, newest_sequence, schema) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Restored { events, newest_sequence, schema, kept: None })
        })?;
        Ok((verdict, restored))
    };
    match read() {
        Ok((verdict, restored)) if verdict == "ok" => Ok(restored),
        Ok((damage, _)) => Err(damage.replace('\n', " ")),
        Err(error) => Err(error.to_string()),
    }
}

/// Renames the database and the files that SQLite keeps beside it, also if the database itself is
/// missing: SQLite would apply a log that is left to the new database. Returns the new path of the
/// database, if there was one.
fn set_aside(database: &Path, suffix: &str) -> io::Result<Option<PathBuf>> {
    let extended = |end: &str| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    // The log comes first: without its log, a database has another content.
    let mut renamed = Vec::new();
    for beside in ["-wal", "-shm", ""] {
        let (from, to) = (extended(beside), extended(&format!("{suffix}{beside}")));
        if to.try_exists()? {
            return Err(io::Error::other(format!("{} is there already", to.display())));
        }
        if from.try_exists()? {
            renamed.push((from, to));
        }
    }
    for (from, to) in &renamed {
        fs::rename(from, to)?;
    }
    Ok(renamed.pop().filter(|(from, _)| *from == database).map(|(_, kept)| kept))
}
