//! What lies beside a database file: its lock, its write-ahead log, and the free
//! space of its disk.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::domain::clock::UnixMillis;

/// What is created is for its owner alone, whatever the umask of the process is.
const OWNERS_FILE: u32 = 0o600;
const OWNERS_FOLDER: u32 = 0o700;

/// Creates the folder `path`, and those above it that are missing.
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

/// Leaves a file to its owner alone.
pub(super) fn close_to_others(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(OWNERS_FILE))
}

/// Creates the file `path`, empty, if there is none. SQLite gives the files that it
/// creates beside a database the mode of the database.
pub(super) fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(OWNERS_FILE).open(path) {
        Ok(file) => file.set_permissions(Permissions::from_mode(OWNERS_FILE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// One process per database: an advisory lock on a file beside it, which the
/// operating system releases when the process ends, however it ends. Held for as
/// long as this lives.
#[derive(Debug)]
pub(in crate::store) struct Lock(#[expect(dead_code, reason = "holding the file open holds the lock")] File);

impl Lock {
    /// Takes the lock of `database`; `None` if another process has it.
    pub(super) fn take(database: &Path) -> io::Result<Option<Self>> {
        let path = Self::beside(database);
        create_file(&path)?;
        let file = File::options().write(true).open(path)?;
        // A user who can open a file can lock it, for reading is enough: one that an earlier
        // version has left for all to read is closed to them.
        let mode = file.metadata()?.mode() & 0o7777;
        if mode != OWNERS_FILE {
            // Another owner's stays as it is; a warning names it.
            let _ = file.set_permissions(Permissions::from_mode(OWNERS_FILE));
        }
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a process holds the lock of `database`. Creates no lock file.
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

    /// The lock file of `database`.
    pub(super) fn beside(database: &Path) -> PathBuf {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        name.into()
    }
}

/// The file beside `database` whose time of change is that of its newest backup. What is in
/// it says nothing.
fn backup_mark(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".backup");
    name.into()
}

/// Notes that a backup of `database` has been made now.
pub(super) fn note_backup(database: &Path) -> io::Result<()> {
    let mark = backup_mark(database);
    create_file(&mark)?;
    fs::write(mark, b"\n")
}

/// When the newest backup of `database` was made, as far as it was noted.
pub(in crate::store) fn last_backup(database: &Path) -> Option<UnixMillis> {
    let modified = fs::metadata(backup_mark(database)).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(UnixMillis)
}

/// Bytes of the write-ahead log of `database`; 0 if there is none.
pub(in crate::store) fn wal_bytes(database: &Path) -> u64 {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    fs::metadata(path).map_or(0, |file| file.len())
}

/// The size of a file system and what is free of it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What this process may still write.
    pub free: u64,
    /// The size of the file system.
    pub total: u64,
}

impl Disk {
    /// The file system that `path` lies on, or would lie on: that of the nearest
    /// folder above it that exists.
    ///
    /// # Errors
    /// If the operating system reports none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let existing = path.ancestors().find(|path| path.exists());
        // A relative path ends in an empty one, which is the folder one is in.
        let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let answer = rustix::fs::statvfs(existing)?;
        let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
        Ok(Self { free: bytes(answer.f_bavail), total: bytes(answer.f_blocks) })
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
