//! Restores a backup in the place of the database, while no bridge runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

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

/// Puts a copy of `backup` in the place of `database`, after it was read and found sound. The
/// former database is kept beside it, under its name with `suffix` added. Blocks.
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
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file::create_folder(folder).map_err(failed(folder))?;
    let database = open::canonical(database);
    if open::canonical(backup) == database {
        return Err(RestoreError::Itself(database));
    }
    // The lock is held until the end, so that no bridge starts meanwhile.
    let _lock = open::take_lock(&database)?;
    let expected = fs::metadata(backup).map_err(failed(backup))?.len();
    let free = Disk::of(&database).map_err(failed(&database))?.free;
    if free < expected.saturating_add(RESERVE) {
        return Err(RestoreError::NoRoom { path: folder.to_owned(), expected, free });
    }
    // Only the owner may read the copy. It is removed unless it has been renamed to the database.
    let copy = tempfile::Builder::new().prefix(".pepay-bridge-restore-").tempfile_in(folder);
    let copy = copy.map_err(failed(folder))?;
    fs::copy(backup, copy.path()).map_err(failed(backup))?;
    file::close_to_others(copy.as_file()).map_err(failed(copy.path()))?;
    copy.as_file().sync_all().map_err(failed(copy.path()))?;
    let restored =
        examine(copy.path()).map_err(|damage| RestoreError::Unsound { path: backup.to_owned(), damage })?;
    let kept = set_aside(&database, suffix).map_err(failed(&database))?;
    copy.persist(&database).map_err(|error| failed(&database)(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
    Ok(Restored { kept, ..restored })
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

/// Renames the database and the files that SQLite keeps beside it. Returns the new path of the
/// database, if there was one.
fn set_aside(database: &Path, suffix: &str) -> io::Result<Option<PathBuf>> {
    let extended = |end: &str| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    if !database.try_exists()? {
        return Ok(None);
    }
    let kept = extended(suffix);
    if kept.try_exists()? {
        return Err(io::Error::other(format!("{} is there already", kept.display())));
    }
    // The log comes first: without its log, a database has another content.
    for beside in ["-wal", "-shm", ""] {
        let from = extended(beside);
        let mut to = kept.as_os_str().to_owned();
        to.push(beside);
        if from.try_exists()? {
            fs::rename(from, to)?;
        }
    }
    Ok(Some(kept))
}
