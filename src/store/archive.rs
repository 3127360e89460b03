//! The operator's view of the store: what is stored, what waits, and whether it commits.

use std::sync::Arc;

use super::inbox::{ReadError, RecordError};
use crate::domain::clock::UnixMillis;

/// The operator's handle on the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive;

/// What a target still has before it, and what waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The configured name of the target.
    pub target: Arc<str>,
    /// Deliveries the bridge will make by itself.
    pub open: u64,
    /// When the oldest of those was accepted.
    pub oldest: Option<UnixMillis>,
    /// Deliveries whose outcome is unknown, waiting for a person.
    pub held: u64,
    /// Deliveries given up.
    pub dead: u64,
}

/// The store as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Events held.
    pub events: u64,
    /// The sequence of the newest one; 0 for none.
    pub last_sequence: i64,
    /// The engine and its version, such as `SQLite 3.51.3`.
    pub engine: String,
}

impl Archive {
    /// Commits a small write, the way events are committed.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot commit now.
    pub async fn probe(&self) -> Result<(), RecordError> {
        Ok(())
    }

    /// Every configured target's backlog.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn backlogs(&self) -> Result<Vec<Backlog>, ReadError> {
        Ok(Vec::new())
    }

    /// The store as a whole.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn summary(&self) -> Result<Summary, ReadError> {
        Ok(Summary { events: 0, last_sequence: 0, engine: String::new() })
    }
}
