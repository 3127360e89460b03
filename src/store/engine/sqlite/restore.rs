//! Restores a backup in the place of the database, while no bridge runs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode};

use super::file::{self, Disk, Replacement};
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

/// Why a backup was not restored.
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
    /// The copy could not be put in the place of the database.
    #[error(
        "{path} is not restored yet: {source}; mend that, and the next start of the bridge completes the restore"
    )]
    Unfinished {
        /// The database.
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
/// kept here after a crash. The former database is kept beside it, under a name with `stamp` in it. A
/// restore that was interrupted before is completed first. Blocks.
///
/// # Errors
/// [`RestoreError`]; then nothing has changed, unless it is [`RestoreError::Unfinished`].
pub fn restore(backup: &Path, database: &Path, stamp: &str) -> Result<Restored, RestoreError> {
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
    let folder = file::folder_of(&database);
    if open::canonical(backup) == database {
        return Err(RestoreError::Itself(database));
    }
    let unfinished = |source| RestoreError::Unfinished { path: database.clone(), source };
    // The lock is held until the end, so that no bridge starts meanwhile.
    let _lock = open::take_lock(&database)?;
    if let Some(interrupted) = Replacement::interrupted(&database) {
        interrupted.complete().map_err(unfinished)?;
    }
    let unnamed = unnamed_copies(&database);
    remove(folder, &unnamed).map_err(failed(folder))?;
    let expected = fs::metadata(backup).map_err(failed(backup))?.len() + file::wal_bytes(backup);
    let free = Disk::of(&database).map_err(failed(&database))?.free;
    if free < expected.saturating_add(RESERVE) {
        return Err(RestoreError::NoRoom { path: folder.to_owned(), expected, free });
    }
    // Only the owner may read the copy.
    let copy = tempfile::Builder::new().prefix(&unnamed).tempfile_in(folder);
    let copy = copy.map_err(failed(folder))?;
    copy_pages(backup, copy.path())?;
    copy.as_file().sync_all().map_err(failed(copy.path()))?;
    let restored =
        examine(copy.path()).map_err(|damage| RestoreError::Unsound { path: backup.to_owned(), damage })?;
    let replacement = Replacement::new(&database, stamp);
    replacement.check().map_err(failed(&database))?;
    // From here on the restore is decided, and completed after an interruption.
    copy.persist(&replacement.copy).map_err(|error| failed(&replacement.copy)(error.error))?;
    let kept = replacement.complete().map_err(unfinished)?;
    Ok(Restored { kept, ..restored })
}

/// Returns the beginning of the names of copies of `database` that are being made.
fn unnamed_copies(database: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(database.file_name().unwrap_or_default());
    name.push(".copy-");
    name
}

/// Removes the files of `folder` whose names begin with `begin`. A killed restore leaves its copy.
fn remove(folder: &Path, begin: &OsStr) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(begin.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
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
