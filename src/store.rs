//! All SQL. Narrow handles for those outside: [`inbox`] records what the
//! sources bring; later rooms read from the others.

pub mod archive;
pub mod inbox;
mod reader;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

/// Where the store lives and what a commit is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The database file; its folder is created if missing.
    pub path: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// How long delivered events keep their bodies and attempts.
    pub payload_retention: Duration,
    /// How long event ids are kept for deduplication.
    pub dedupe_retention: Duration,
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss (`synchronous = FULL`).
    Full,
    /// A killed process (`synchronous = NORMAL`).
    Normal,
}
