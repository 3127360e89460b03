//! The operator's view of the store: what is stored, what waits, and whether it commits.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub use super::inbox::{ReadError, RecordError};
use super::reader::Reader;
use super::writer::Command;
use crate::domain::clock::UnixMillis;

/// The operator's handle on the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    commands: mpsc::Sender<Command>,
    reader: Reader,
}

/// What a target still has before it, and what waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The name of the target: every one that was ever configured.
    pub target: Arc<str>,
    /// Deliveries the bridge will make by itself.
    pub open: u64,
    /// When the event of the oldest of those arrived.
    pub oldest: Option<UnixMillis>,
    /// Deliveries whose outcome is unknown, waiting for a person.
    pub held: u64,
    /// Deliveries given up.
    pub dead: u64,
}

/// The store as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The sequence of the oldest event held; 0 for none.
    pub first_sequence: i64,
    /// The sequence of the newest one; 0 for none. There are no gaps between the two.
    pub last_sequence: i64,
    /// The engine and its version, such as `SQLite 3.51.3`.
    pub engine: String,
}

impl Archive {
    pub(super) const fn new(commands: mpsc::Sender<Command>, reader: Reader) -> Self {
        Self { commands, reader }
    }

    /// Commits a small write, the way events are committed.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot commit now, or could not a moment ago.
    pub async fn probe(&self) -> Result<(), RecordError> {
        let stopped = || RecordError::Unavailable("it has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Probe { reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Every target's backlog, by name.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn backlogs(&self) -> Result<Vec<Backlog>, ReadError> {
        self.reader.backlogs().await
    }

    /// The store as a whole.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn summary(&self) -> Result<Summary, ReadError> {
        self.reader.summary().await
    }
}
