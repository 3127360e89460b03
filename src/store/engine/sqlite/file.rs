//! The files beside a database file: its lock, its write-ahead log, the mark of its backups and the
//! copy that is about to replace it. Also the free space of its disk.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::domain::clock::UnixMillis;
use crate::store::view::Usage;

/// The modes of new files and folders. Only the owner may use them, whatever the umask of the
/// process.
const OWNERS_FILE: u32 = 0o600;
const OWNERS_FOLDER: u32 = 0o700;

/// Creates the folder `path`, and the missing folders above it.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        create_folder(above)?;
    }
    match DirBuilder::new().mode(OWNERS_FOLDER).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(OWNERS_FOLDER)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates the empty file `path`, if it does not exist. SQLite gives the files that it creates
/// beside a database the mode of the database.
pub(super) fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(OWNERS_FILE).open(path) {
        Ok(file) => file.set_permissions(Permissions::from_mode(OWNERS_FILE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The lock that admits one process for each database. It is an advisory lock on a file beside the
/// database. The operating system releases it when the process ends in any way. Held while this
/// value exists.
#[derive(Debug)]
pub(in crate::store) struct Lock(#[expect(dead_code, reason = "holding the file open holds the lock")] File);

impl Lock {
    /// Takes the lock of `database`; `None` if another process has it.
    pub(super) fn take(database: &Path) -> io::Result<Option<Self>> {
        let path = Self::beside(database);
        create_file(&path)?;
        let file = File::options().write(true).open(path)?;
        // A user who can open a file for reading can lock it. An earlier version left lock files
        // readable for all, so their mode is changed.
        let mode = file.metadata()?.mode() & 0o7777;
        if mode != OWNERS_FILE {
            // The file of another owner stays as it is. A warning at start names it.
            let _ = file.set_permissions(Permissions::from_mode(OWNERS_FILE));
        }
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns whether a process holds the lock of `database`. Creates no lock file.
    pub(super) fn is_held(database: &Path) -> io::Result<bool> {
        let file = match File::open(Self::beside(database)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns the path of the lock file of `database`.
    pub(super) fn beside(database: &Path) -> PathBuf {
        extended(database, ".lock")
    }
}

/// Returns `path` with `end` added to its name.
fn extended(path: &Path, end: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Returns the folder of the file at `path`.
pub(super) fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// A restore whose copy is verified and durable, and only has to be put in the place of the database.
///
/// The copy has a name of its own beside the database, `….restoring-STAMP`, until that is done. So a
/// restore that was interrupted between two renames is recognised by this file, and completed.
#[derive(Debug)]
pub(super) struct Replacement {
    database: PathBuf,
    /// The copy.
    pub(super) copy: PathBuf,
    /// The end of the names under which the former files are kept.
    kept: String,
}

impl Replacement {
    /// The ends of the names of the copy and of the kept files, before the stamp.
    const COPY: &str = ".restoring-";
    const KEPT: &str = ".before-restore-";

    /// Names the copy that is to replace `database`. `stamp` distinguishes this restore from others.
    pub(super) fn new(database: &Path, stamp: &str) -> Self {
        let copy = extended(database, format!("{}{stamp}", Self::COPY));
        Self { database: database.to_owned(), copy, kept: format!("{}{stamp}", Self::KEPT) }
    }

    /// Returns the replacement of `database` that was interrupted; `None` if there is none, or if its
    /// folder cannot be listed.
    pub(super) fn interrupted(database: &Path) -> Option<Self> {
        let begin = extended(Path::new(database.file_name()?), Self::COPY);
        let stamp = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name();
            let stamp = name.as_bytes().strip_prefix(begin.as_os_str().as_bytes())?;
            Some(std::str::from_utf8(stamp).ok()?.to_owned())
        };
        let stamp = fs::read_dir(folder_of(database)).ok()?.find_map(stamp)?;
        Some(Self::new(database, &stamp))
    }

    /// Returns the present and the kept name of the database and of each file that SQLite keeps beside
    /// it. The log comes first: without its log, a database has another content.
    fn names(&self) -> [(PathBuf, PathBuf); 3] {
        ["-wal", "-shm", ""].map(|beside| {
            let kept = extended(&self.database, format!("{}{beside}", self.kept));
            (extended(&self.database, beside), kept)
        })
    }

    /// Checks that no file would be overwritten.
    pub(super) fn check(&self) -> io::Result<()> {
        for (present, kept) in self.names() {
            if present.try_exists()? && kept.try_exists()? {
                return Err(io::Error::other(format!("{} is there already", kept.display())));
            }
        }
        Ok(())
    }

    /// Sets aside the database and the files that SQLite keeps beside it, and renames the copy to the
    /// database. The files are set aside also if the database itself is missing: SQLite would apply a
    /// log that is left to the new database. Returns the new path of the former database, if there was
    /// one. The caller holds the lock. A call that has failed or was interrupted may be repeated.
    pub(super) fn complete(&self) -> io::Result<Option<PathBuf>> {
        self.check()?;
        // Each step is durable before the next one begins.
        let settle = || File::open(folder_of(&self.database))?.sync_all();
        settle()?;
        for (present, kept) in self.names() {
            if present.try_exists()? {
                fs::rename(present, kept)?;
            }
        }
        settle()?;
        fs::rename(&self.copy, &self.database)?;
        settle()?;
        let [.., (_, kept)] = self.names();
        Ok(kept.try_exists()?.then_some(kept))
    }
}

/// Returns the path of the file beside `database` whose modification time is that of its newest
/// backup. Its content has no meaning.
fn backup_mark(database: &Path) -> PathBuf {
    extended(database, ".backup")
}

/// Notes that a backup of `database` has been made now.
pub(super) fn note_backup(database: &Path) -> io::Result<()> {
    let mark = backup_mark(database);
    create_file(&mark)?;
    fs::write(mark, b"\n")
}

/// Returns the time of the newest noted backup of `database`.
pub(in crate::store) fn last_backup(database: &Path) -> Option<UnixMillis> {
    let modified = fs::metadata(backup_mark(database)).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(UnixMillis)
}

/// Returns the size of the write-ahead log of `database` in bytes; 0 if there is none.
pub(in crate::store) fn wal_bytes(database: &Path) -> u64 {
    fs::metadata(extended(database, "-wal")).map_or(0, |file| file.len())
}

/// The size and the free space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The space that this process may still use.
    pub free: u64,
    /// The size of the file system.
    pub total: u64,
}

impl Disk {
    /// Returns the values for the file system of `path`. If `path` does not exist, the nearest
    /// existing folder above it counts.
    ///
    /// # Errors
    /// If the operating system reports none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let existing = path.ancestors().find(|path| path.exists());
        // The last ancestor of a relative path is empty, which means the working directory.
        let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let answer = rustix::fs::statvfs(existing)?;
        let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
        Ok(Self { free: bytes(answer.f_bavail), total: bytes(answer.f_blocks) })
    }

    /// Returns the least free space with which a bridge is ready.
    pub fn least_free(&self) -> u64 {
        Usage::least_free(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_exist_has_the_disk_of_the_folder_above_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let disk = Disk::of(folder.path()).unwrap();
        assert!(disk.total > 0 && disk.free <= disk.total, "{disk:?}");
        assert_eq!(Disk::of(&folder.path().join("data/bridge.db")).unwrap().total, disk.total);
        assert!(Disk::of(Path::new("no-such-folder/bridge.db")).unwrap().total > 0);
    }
}
