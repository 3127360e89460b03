//! The files that a configuration names, with the digests of their contents.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::problem::Warning;

/// The file with the mount points of this process, one per line; see `proc_pid_mountinfo(5)`.
const MOUNTS: &str = "/proc/self/mountinfo";
/// The most that is read of it, in bytes. A machine with thousands of containers has less.
const MOST_MOUNTS: u64 = 8 * 1024 * 1024;
/// The most that is read of a file of certificates to detect a change, in bytes.
const MOST_CONTENT: u64 = 4 * 1024 * 1024;

/// A file that the configuration names, with a secret, a certificate or a key; or the configuration file
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The full path of the key that names the file, such as `pepay.api_key_file`. For the configuration
    /// file it is the path of the file.
    pub key: String,
    /// Whether the file itself is a mount point, as when a single file is mounted into a container. The
    /// mount keeps the original file: a file that is renamed over the original is not seen.
    pub own_mount: bool,
    /// The SHA-256 of the content.
    digest: [u8; 32],
}

impl NamedFile {
    /// Creates the record of the file at `path`, whose content is `content`.
    pub(super) fn new(key: String, path: &Path, content: &[u8], mounts: &Mounts) -> Self {
        Self { key, own_mount: mounts.has(path), digest: Sha256::digest(content).into() }
    }

    /// Returns whether the content differs from that of the file in `earlier` with the same key. Also
    /// returns `true` if `earlier` has no file with that key.
    pub fn has_changed_since(&self, earlier: &[Self]) -> bool {
        !earlier.iter().any(|other| other.key == self.key && other.digest == self.digest)
    }

    /// Returns a warning if a replacement of the file would not be seen.
    pub(super) fn warning(&self) -> Option<Warning> {
        self.own_mount.then(|| Warning {
            key: self.key.clone(),
            found: "is mounted as a single file, so a file that replaces it is not seen by a reload"
                .to_owned(),
            advice: "mount the folder that holds it".to_owned(),
        })
    }
}

/// Opens the regular file at `path`, to which links may lead. The opening of a named pipe waits until
/// another process writes to it, and a reload could not read a pipe a second time.
///
/// # Errors
/// If the file cannot be opened, or is not a regular file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    let fault = "it is a pipe, a device or a folder, and not a regular file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, fault))
}

/// Returns the content of the file at `path`, up to [`MOST_CONTENT`].
pub(super) fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.take(MOST_CONTENT).read_to_end(&mut content)?;
    Ok(content)
}

/// The mount points of this process.
#[derive(Debug, Default)]
pub(super) struct Mounts(BTreeSet<PathBuf>);

impl Mounts {
    /// Reads the present mount points. Returns none if the system does not list them.
    pub(super) fn read() -> Self {
        let mut text = Vec::new();
        let read = File::open(MOUNTS).and_then(|file| file.take(MOST_MOUNTS).read_to_end(&mut text));
        if read.is_err() {
            return Self::default();
        }
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
        Self(points.map(|point| PathBuf::from(OsString::from_vec(unescaped(point)))).collect())
    }

    /// Returns whether `path` is a mount point, after its links are followed.
    fn has(&self, path: &Path) -> bool {
        path.canonicalize().is_ok_and(|path| self.0.contains(&path))
    }
}

/// Decodes a path of the kernel, in which white space and backslashes are octal escapes.
fn unescaped(escaped: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(escaped.len()), escaped);
    while let [first, tail @ ..] = rest {
        rest = tail;
        let octal = |digit: &u8| digit.checked_sub(b'0').filter(|value| *value < 8);
        let code = match (first, tail) {
            (b'\\', [a, b, c, ..]) => octal(a).zip(octal(b)).zip(octal(c)),
            _ => None,
        };
        match code {
            Some(((a, b), c)) if a < 4 => {
                bytes.push(a * 64 + b * 8 + c);
                rest = &tail[3..];
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_spaces_and_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (file, link) = (folder.join("a b\\c"), folder.join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let escaped = file.to_str().unwrap().replace('\\', "\\134").replace(' ', "\\040");
        let text = format!(
            "1 2 0:3 / / rw - ext4 /dev/sda rw\n4 1 0:3 /x {escaped} rw shared:1 - ext4 d rw\n\nshort\n"
        );
        let mounts = Mounts::parse(text.as_bytes());
        assert!(mounts.has(&file) && mounts.has(&link) && mounts.has(Path::new("/")));
        assert!(!mounts.has(&folder) && !mounts.has(Path::new("/does/not/exist")));
    }

    #[test]
    fn text_that_only_looks_like_an_escape_is_kept() {
        for (escaped, plain) in [
            (&b"a\\040b"[..], &b"a b"[..]),
            (b"\\12", b"\\12"),
            (b"\\089", b"\\089"),
            (b"\\777", b"\\777"),
            (b"\\", b"\\"),
        ] {
            assert_eq!(unescaped(escaped), plain);
        }
    }

    #[test]
    fn a_file_has_changed_if_its_content_or_its_key_is_new() {
        let mounts = Mounts::default();
        let file = |key: &str, content: &str| {
            NamedFile::new(key.to_owned(), Path::new("/"), content.as_bytes(), &mounts)
        };
        let earlier = [file("a", "one"), file("b", "two")];
        assert!(!file("a", "one").has_changed_since(&earlier));
        assert!(file("a", "two").has_changed_since(&earlier));
        assert!(file("c", "one").has_changed_since(&earlier));
    }
}
