//! What a reload of the configuration comes to.

use serde::Serialize;

/// What has become of a configuration that was read again. The lists name
/// keys, and never show a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// What is in effect now, such as `targets.orders changed` or `streams.commerce added`.
    pub applied: Vec<String>,
    /// Keys whose new value waits for a restart, such as `server.listen`.
    pub restart_needed: Vec<String>,
    /// The files that were read anew: the configuration file, and each with a secret, a
    /// certificate or a key.
    pub files: Vec<FileRead>,
    /// Targets that are not configured any more while deliveries to them wait.
    pub removed_targets: Vec<RemovedTarget>,
}

/// A file that was read anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileRead {
    /// The key that names it, such as `pepay.api_key_file`; for the configuration file, its path.
    pub key: String,
    /// Whether its content is another than when it was read before.
    pub changed: bool,
    /// Whether the file is a mount point of its own: then a file that was renamed over it is
    /// not seen, and `changed` is false for it.
    pub own_mount: bool,
}

/// A target that is not configured any more, and what waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemovedTarget {
    /// Its name.
    pub target: String,
    /// Deliveries that were still to be made.
    pub backlog: u64,
    /// Deliveries whose outcome is unknown.
    pub held: u64,
    /// Deliveries given up.
    pub dead: u64,
}

/// Why a configuration that was read again is not in effect. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be used: everything that is wrong with it, a line each.
    #[error("the configuration is not valid: {}", .0.join("; "))]
    Invalid(Vec<String>),
    /// Nothing may be wrong with it, but the bridge cannot take it up now; says why.
    #[error("{0}")]
    Unavailable(String),
}
