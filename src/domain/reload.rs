//! The outcome of a reload of the configuration.

use serde::Serialize;

/// The changes of a reload. The lists name keys, and never show a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The applied changes, such as `targets.orders changed` or `streams.commerce added`.
    pub applied: Vec<String>,
    /// Keys whose new value waits for a restart, such as `server.listen`.
    pub restart_needed: Vec<String>,
    /// The files that the reload has read: the configuration file, and each with a secret, a
    /// certificate or a key.
    pub files: Vec<FileRead>,
    /// Removed targets with waiting deliveries.
    pub removed_targets: Vec<RemovedTarget>,
}

/// A file that a reload has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileRead {
    /// The key that names it, such as `pepay.api_key_file`; for the configuration file, its path.
    pub key: String,
    /// Whether its content has changed since it was last read.
    pub changed: bool,
    /// Whether the file is a mount point of its own. Then a file that was renamed over it is not seen,
    /// and `changed` is false.
    pub own_mount: bool,
}

/// A removed target, and its waiting deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemovedTarget {
    /// Its name.
    pub target: String,
    /// The number of open deliveries.
    pub backlog: u64,
    /// The number of held deliveries.
    pub held: u64,
    /// The number of dead deliveries.
    pub dead: u64,
}

/// Why a reload failed. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The configuration is not valid: all faults, a line each.
    #[error("the configuration is not valid: {}", .0.join("; "))]
    Invalid(Vec<String>),
    /// The bridge cannot apply the configuration now, for this reason.
    #[error("{0}")]
    Unavailable(String),
}
