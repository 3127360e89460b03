//! Copies a store, which may be in use.
//!
//! The copy is made by `VACUUM INTO` on a read-only connection. It is one statement, and so one
//! snapshot, whatever is committed meanwhile. The backup API of `SQLite` copies page by page and
//! begins again whenever another connection commits, as a busy bridge always does. Kept to one
//! snapshot, it would hold the log just as long, and copy the free pages too.
//!
//! A running bridge is hardly disturbed. Commits never wait for a reader, and the copy takes no
//! lock that a writer needs. The log cannot restart while a snapshot is read, so it grows by
//! everything that is written meanwhile. The next checkpoint of the bridge and its
//! `journal_size_limit` make it small again. The copy is one file without a log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, InterruptHandle, params};
use tempfile::NamedTempFile;

use super::file::{self, Disk};
use super::open;
use crate::store::error::OpenError;

/// The space that is left free on the disk, in bytes, so that the bridge can go on.
const RESERVE: u64 = 64 << 20;

/// A copy that is ready to be made.
#[derive(Debug)]
pub struct Backup {
    source: Connection,
    /// The temporary file, beside the place of the copy. It is removed with this value, unless it
    /// has been renamed to the copy.
    file: NamedTempFile,
    to: PathBuf,
    expected: u64,
    /// The path of the database.
    of: PathBuf,
}

/// A copy that was made, read back and found sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The size of the copy in bytes.
    pub bytes: u64,
    /// The number of events in the copy.
    pub events: i64,
    /// The sequence of the newest event; 0 for none.
    pub newest_sequence: i64,
    /// The version of the schema.
    pub schema: i64,
}

/// The progress of a copy.
#[derive(Clone, Debug)]
pub struct Progress {
    file: PathBuf,
    /// The expected size of the copy in bytes. The real size may differ a little.
    pub expected: u64,
}

/// Ends a copy that is being made.
#[derive(Clone)]
pub struct Interrupter(Arc<InterruptHandle>);

/// Why there is no copy. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no database.
    #[error("there is no database at {0}: nothing to copy")]
    Nothing(PathBuf),
    /// The path of the copy exists.
    #[error("{0} is there already and is not overwritten: name another file")]
    Exists(PathBuf),
    /// The disk has too little space for the copy.
    #[error("the copy takes {expected} bytes and {path} has room for {free}, of which 64 MiB stay free")]
    NoRoom {
        /// The folder of the copy.
        path: PathBuf,
        /// The expected size of the copy in bytes.
        expected: u64,
        /// The free space there, in bytes.
        free: u64,
    },
    /// The file of the copy cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy is not sound.
    #[error("the copy is not sound and was thrown away: {0}")]
    Unsound(String),
    /// The caller has interrupted the copy.
    #[error("interrupted")]
    Interrupted,
}

impl Backup {
    /// Prepares a copy of `database` at `to`, which must not exist.
    ///
    /// # Errors
    /// [`BackupError`] says why the copy cannot be made.
    pub fn prepare(database: &Path, to: &Path) -> Result<Self, BackupError> {
        if open::schema_of(database)?.is_none() {
            return Err(BackupError::Nothing(database.to_owned()));
        }
        if fs::symlink_metadata(to).is_ok() {
            return Err(BackupError::Exists(to.to_owned()));
        }
        let refused = |path: &Path| {
            let path = path.to_owned();
            |source| BackupError::Write { path, source }
        };
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // An absolute path, because a name that begins with `file:` would be taken for a URI.
        let folder = fs::canonicalize(folder).map_err(refused(folder))?;
        let source = open::open_reader(database)?;
        let expected = size(&source).map_err(|error| open::database(database, &error))?;
        let free = Disk::of(&folder).map_err(refused(&folder))?.free;
        if free < expected.saturating_add(RESERVE) {
            return Err(BackupError::NoRoom { path: folder, expected, free });
        }
        // Only the owner may read the copy, whatever the mode of the database: the folder may
        // belong to another user.
        let file = tempfile::Builder::new().prefix(".pepay-bridge-backup-").tempfile_in(&folder);
        let file = file.map_err(refused(&folder))?;
        let to = to.file_name().map_or_else(|| to.to_owned(), |name| folder.join(name));
        Ok(Self { source, file, to, expected, of: open::canonical(database) })
    }

    /// Returns a handle that shows the progress.
    pub fn progress(&self) -> Progress {
        Progress { file: self.file.path().to_owned(), expected: self.expected }
    }

    /// Returns a handle that interrupts the copy.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::new(self.source.get_interrupt_handle()))
    }

    /// Makes the copy, reads it back, and renames it once it is durable. Blocks.
    ///
    /// # Errors
    /// [`BackupError`]; then there is no copy.
    pub fn run(self) -> Result<Copied, BackupError> {
        let Self { source, file, to, of, .. } = self;
        let refused = |source| BackupError::Write { path: to.clone(), source };
        let name = file.path().to_str().ok_or_else(|| refused(io::Error::other("the path is not UTF-8")))?;
        let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => BackupError::Interrupted,
            _ => refused(io::Error::other(error.to_string())),
        };
        source.execute("VACUUM INTO ?1", [name]).map_err(failed)?;
        file.as_file().sync_all().map_err(refused)?;
        let copied = read_back(&source, name, file.as_file())?;
        drop(source);
        let named = file.persist_noclobber(&to).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(to.clone()),
            _ => refused(error.error),
        })?;
        drop(named);
        // The name is durable only after a sync of the folder.
        let folder = to.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)?;
        // The mark serves only a metric. A user who may only read the database cannot write it.
        let _ = file::note_backup(&of);
        Ok(copied)
    }
}

impl Progress {
    /// Returns the bytes that have been written.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }
}

impl Interrupter {
    /// Interrupts the present step of the copy. Has no effect between two steps, so call it until
    /// the copy has ended.
    pub fn interrupt(&self) {
        self.0.interrupt();
    }
}

impl std::fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupter")
    }
}

/// Returns the bytes in use: the size of a copy without free pages.
fn size(source: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma: &str| source.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(u64::try_from(pages * number("page_size")?).unwrap_or(0))
}

/// Reads the whole copy, on the connection that has made it.
fn read_back(source: &Connection, name: &str, file: &File) -> Result<Copied, BackupError> {
    let read = || -> rusqlite::Result<(String, i32, Copied)> {
        source.execute("ATTACH ?1 AS copy", params![name])?;
        let verdict = source.query_row("PRAGMA copy.integrity_check(1)", [], |row| row.get(0))?;
        let mark = source.query_row("PRAGMA copy.application_id", [], |row| row.get(0))?;
        let query = "SELECT count(*), coalesce(max(sequence), 0), \
                            (SELECT coalesce(max(version), 0) FROM copy._sqlx_migrations) FROM copy.event";
        let copied = source.query_row(query, [], |row| {
            let (events, newest_sequence, schema) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Copied { bytes: 0, events, newest_sequence, schema })
        })?;
        source.execute("DETACH copy", [])?;
        Ok((verdict, mark, copied))
    };
    let (verdict, mark, copied) = read().map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => BackupError::Interrupted,
        _ => BackupError::Unsound(error.to_string()),
    })?;
    if verdict != "ok" {
        return Err(BackupError::Unsound(verdict));
    }
    if mark != open::APPLICATION_ID {
        return Err(BackupError::Unsound("it is not marked as a database of pepay-bridge".to_owned()));
    }
    let bytes = file.metadata().map_err(|error| BackupError::Unsound(error.to_string()))?.len();
    Ok(Copied { bytes, ..copied })
}
