//! The permissions of files and folders, and warnings and errors about them.

use std::error::Error;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::problem::{Warning, escaped};
use crate::domain::cause::innermost;
use crate::store;

/// The permissions of a file for its group and for all users.
const NOT_THE_OWNERS: u32 = 0o066;
const NOT_THE_OWNERS_WRITE: u32 = 0o022;

/// The permissions of a file for all users.
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;

/// The sticky bit of a folder. With it no user can replace the files of another user.
const STICKY: u32 = 0o1000;

/// Returns `error` about the file at `path` as text. If a permission is the cause, the text has the owner
/// and a remedy. The text has no path, since the value of a key may be a misplaced secret.
pub fn explained(path: &Path, error: &io::Error) -> String {
    match denied(path, error) {
        Some(reason) => format!("{error}: {reason}"),
        None => error.to_string(),
    }
}

/// Returns the reason if a permission is the cause of `error` about the file at `path`. The text has the
/// user of this process, the owner and the mode of the file or folder that denies access, and a remedy.
pub fn denied(path: &Path, error: &(dyn Error + 'static)) -> Option<String> {
    let cause = innermost(error).downcast_ref::<io::Error>()?;
    if cause.kind() == io::ErrorKind::PermissionDenied { owner(path) } else { None }
}

/// Returns the reason why this process may not write the file at `path`, or create a missing file.
pub fn unwritable(path: &Path) -> Option<String> {
    let existing = path.ancestors().find(|path| exists(path))?;
    let needed = if existing == path { Access::WRITE_OK } else { Access::WRITE_OK | Access::EXEC_OK };
    let reason = || owner(path).unwrap_or_else(|| "its file system takes no writing".to_owned());
    (!may(existing, needed)).then(reason)
}

/// Returns the owner of the file or folder that denies access to `path`, and a remedy, as text.
fn owner(path: &Path) -> Option<String> {
    let user = rustix::process::geteuid().as_raw();
    let folders = path.ancestors().skip(1).filter(|folder| exists(folder));
    let closed = folders.filter(|folder| !may(folder, Access::EXEC_OK)).last();
    let (what, remedy) = match closed {
        Some(_) => ("a folder above it", "allow that user to enter it"),
        None if path.exists() => ("it", "give it to that user, or run as its owner"),
        None => ("its folder", "give it to that user, or run as its owner"),
    };
    let denying = closed.or_else(|| path.ancestors().find(|path| exists(path)))?;
    let metadata = denying.metadata().ok()?;
    Some(format!("this process runs as user {user}, and {what} {}; {remedy}", owned(&metadata)))
}

/// Returns whether a file or folder exists at `path`. If its existence is unknown, it counts as existing.
fn exists(path: &Path) -> bool {
    !path.as_os_str().is_empty() && path.try_exists().unwrap_or(true)
}

fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

fn owned(metadata: &Metadata) -> String {
    let mode = metadata.mode() & 0o7777;
    format!("belongs to user {} and group {} with mode {mode:04o}", metadata.uid(), metadata.gid())
}

/// Returns warnings about the store: files that other users than their owner may read or write, a folder
/// that others may write, and a folder that every user may list. Missing files will be created for their
/// owner alone.
pub(super) fn of_store(settings: &store::Settings) -> Vec<Warning> {
    let mode = |path: &Path| Some(path.metadata().ok()?.mode() & 0o777);
    let warning = |path: &Path, mode: u32, what: &str, remedy: &str| Warning {
        key: "store.url".to_owned(),
        found: format!("is at {}, {what} (mode {mode:04o})", escaped(&path.to_string_lossy())),
        advice: format!("take that permission away ({remedy})"),
    };
    let Some(database) = settings.file() else { return Vec::new() };
    let folder = folder_of(database);
    let of_folder = mode(folder).and_then(|mode| {
        let (what, remedy) = if mode & NOT_THE_OWNERS_WRITE != 0 {
            ("a folder in which others than its owner may replace files", "chmod go-w")
        } else if mode & OTHERS_READ != 0 {
            ("a folder whose files every user of this machine can list", "chmod o-rx")
        } else {
            return None;
        };
        Some(warning(folder, mode, what, remedy))
    });
    let files = settings.files();
    let open = files.iter().filter_map(|path| Some((path, mode(path)?)));
    let open = open.filter(|(_, mode)| mode & NOT_THE_OWNERS != 0);
    let of_files = open.map(|(path, mode)| {
        let what = match mode & NOT_THE_OWNERS_WRITE {
            0 => "which others than its owner may read",
            _ => "which others than its owner may write",
        };
        warning(path, mode, what, "chmod 600")
    });
    of_folder.into_iter().chain(of_files).collect()
}

/// Returns a warning if every user may write the configuration file at `path`.
pub(super) fn writable(path: &Path) -> Option<Warning> {
    let mode = path.metadata().ok()?.mode() & 0o777;
    (mode & OTHERS_WRITE != 0).then(|| Warning {
        key: escaped(&path.to_string_lossy()),
        found: format!("can be written by every user of this machine (mode {mode:04o})"),
        advice: "take that permission away (chmod o-w)".to_owned(),
    })
}

/// Returns the folder of the file at `path`.
fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Returns a finding and a remedy if every user may list the folder of the secret's file at `path`, or
/// replace files in it.
pub(super) fn open_folder(path: &Path) -> Option<(String, &'static str)> {
    let folder = folder_of(path);
    let mode = folder.metadata().ok()?.mode() & 0o7777;
    let (what, remedy) = if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        ("can be written by every user of this machine", "chmod o-w")
    } else if mode & OTHERS_READ != 0 {
        ("can be listed by every user of this machine", "chmod o-rx")
    } else {
        return None;
    };
    let folder = escaped(&folder.to_string_lossy());
    Some((format!("is in {folder}, a folder that {what} (mode {mode:04o})"), remedy))
}

/// Returns a finding if every user may read a secret's file.
pub(super) fn readable(metadata: &Metadata) -> Option<String> {
    let mode = metadata.mode() & 0o777;
    (mode & OTHERS_READ != 0).then(|| format!("can be read by every user of this machine (mode {mode:04o})"))
}
