//! A copy of the store, while a bridge writes to it or while none does.
//!
//! Made by `VACUUM INTO` on a read-only connection: one statement, so one
//! snapshot, whatever is committed meanwhile. `SQLite`'s backup API copies page
//! by page instead and begins again whenever another connection commits, which a busy
//! bridge always does; kept to one snapshot it would hold the log just as long,
//! and copy the free pages too.
//!
//! What the bridge notices: commits never wait for a reader, and nothing here
//! takes a lock that a writer wants. But the log cannot begin anew while a
//! snapshot is read, so it grows by what is written meanwhile; the bridge's next
//! checkpoint and its `journal_size_limit` make it small again. The copy is one
//! file without a log beside it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, InterruptHandle, params};
use tempfile::NamedTempFile;

use super::file::{self, Disk};
use super::open;
use crate::store::error::OpenError;

/// Left free on the disk, in bytes, so that the copy does not take the last of
/// what the bridge needs to go on.
const RESERVE: u64 = 64 << 20;

/// A copy that is about to be made.
#[derive(Debug)]
pub struct Backup {
    source: Connection,
    /// Beside the copy's place; gone with this value unless it took that place.
    file: NamedTempFile,
    to: PathBuf,
    expected: u64,
    /// The database.
    of: PathBuf,
}

/// A copy that has been made, read back and found sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its size.
    pub bytes: u64,
    /// How many events it holds.
    pub events: i64,
    /// The sequence of the newest of them; 0 for none.
    pub newest_sequence: i64,
    /// The version of its schema.
    pub schema: i64,
}

/// How far a copy has come.
#[derive(Clone, Debug)]
pub struct Progress {
    file: PathBuf,
    /// How large the copy becomes, in bytes, or nearly so.
    pub expected: u64,
}

/// Ends a copy that is being made.
#[derive(Clone)]
pub struct Interrupter(Arc<InterruptHandle>);

/// Why there is no copy. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to copy.
    #[error("there is no database at {0}: nothing to copy")]
    Nothing(PathBuf),
    /// Something is where the copy belongs.
    #[error("{0} is there already and is not overwritten: name another file")]
    Exists(PathBuf),
    /// The copy has no room.
    #[error("the copy takes {expected} bytes and {path} has room for {free}, of which 64 MiB stay free")]
    NoRoom {
        /// The folder of the copy.
        path: PathBuf,
        /// The size of the copy.
        expected: u64,
        /// What is free there.
        free: u64,
    },
    /// The file of the copy cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database is none that can be copied.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy is not what it should be.
    #[error("the copy is not sound and was thrown away: {0}")]
    Unsound(String),
    /// It was ended by its caller.
    #[error("interrupted")]
    Interrupted,
}

impl Backup {
    /// Prepares a copy of `database` at `to`, which must not exist.
    ///
    /// # Errors
    /// [`BackupError`] says what stands in its way.
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
        // Made absolute, because a name that begins with `file:` would be taken for a URI.
        let folder = fs::canonicalize(folder).map_err(refused(folder))?;
        let source = open::open_reader(database)?;
        let expected = size(&source).map_err(|error| open::database(database, &error))?;
        let free = Disk::of(&folder).map_err(refused(&folder))?.free;
        if free < expected.saturating_add(RESERVE) {
            return Err(BackupError::NoRoom { path: folder, expected, free });
        }
        // For its owner alone, whatever the original allows: the folder may be another's.
        let file = tempfile::Builder::new().prefix(".pepay-bridge-backup-").tempfile_in(&folder);
        let file = file.map_err(refused(&folder))?;
        let to = to.file_name().map_or_else(|| to.to_owned(), |name| folder.join(name));
        Ok(Self { source, file, to, expected, of: open::canonical(database) })
    }

    /// To see how far it has come.
    pub fn progress(&self) -> Progress {
        Progress { file: self.file.path().to_owned(), expected: self.expected }
    }

    /// To end it early.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::new(self.source.get_interrupt_handle()))
    }

    /// Makes the copy, reads it back, and gives it its name once it is on disk. Blocks.
    ///
    /// # Errors
    /// [`BackupError`], and then there is no copy.
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
        // The name itself is on disk only once its folder is.
        let folder = to.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)?;
        // For a metric alone: a user who may only read the database cannot leave it.
        let _ = file::note_backup(&of);
        Ok(copied)
    }
}

impl Progress {
    /// How many bytes of the copy there are.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }
}

impl Interrupter {
    /// Ends what the copy is at. To be repeated until it has ended: between two
    /// of its steps it does not hear.
    pub fn interrupt(&self) {
        self.0.interrupt();
    }
}

impl std::fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupter")
    }
}

/// The bytes in use: what a copy without free pages takes.
fn size(source: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma: &str| source.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(u64::try_from(pages * number("page_size")?).unwrap_or(0))
}

/// Reads the copy from one end to the other, on the connection that has made it.
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
