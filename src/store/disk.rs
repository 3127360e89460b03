//! Room on the disk that a file lives on.

use std::io;
use std::path::Path;

/// How much a file system holds and has left, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What this process may still write.
    pub free: u64,
    /// What there is in all.
    pub total: u64,
}

impl Disk {
    /// The file system that `path` lies on, or would lie on: the nearest folder
    /// above it that exists is asked.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn of(path: &Path) -> io::Result<Self> {
        let existing = path.ancestors().find(|path| path.exists());
        // A relative path ends in an empty one, which is the folder one is in.
        let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let answer = rustix::fs::statvfs(existing)?;
        let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
        Ok(Self { free: bytes(answer.f_bavail), total: bytes(answer.f_blocks) })
    }
}

/// Bytes of the write-ahead log of `database`; a missing one has none.
pub(super) fn wal_bytes(database: &Path) -> u64 {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    std::fs::metadata(path).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_yet_has_the_room_of_the_folder_above_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let disk = Disk::of(folder.path()).unwrap();
        assert!(disk.total > 0 && disk.free <= disk.total, "{disk:?}");
        assert_eq!(Disk::of(&folder.path().join("data/bridge.db")).unwrap().total, disk.total);
        assert!(Disk::of(Path::new("no-such-folder/bridge.db")).unwrap().total > 0);
    }
}
