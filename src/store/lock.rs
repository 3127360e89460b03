//! One process per database: an advisory lock on a file beside it, which the
//! operating system releases when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Held for as long as it lives.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "holding the file open holds the lock")] File);

impl Lock {
    /// Takes the lock of `database`; `None` if another process has it.
    pub(super) fn take(database: &Path) -> io::Result<Option<Self>> {
        let path = Self::beside(database);
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
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
