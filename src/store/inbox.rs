//! How events enter the store: an event, its deliveries and the cursor it
//! moves are written in one transaction, and the caller hears of it only after
//! the commit.

use std::sync::Arc;

use super::commands::{Commands, stopped};
use super::reader::Reader;
use super::traced::Traced;
use super::writer::Command;
use crate::domain::event::{Digest, EventId, Received};

/// The sources' handle on the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    commands: Commands,
    reader: Reader,
}

/// What a stream has read from Pepay, to be written as one.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events, in Pepay's order.
    pub events: Vec<Received>,
    /// Where the stream stands once they are stored.
    pub cursor: Option<CursorMove>,
}

/// A stream's new position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// The configured name of the stream.
    pub stream: Arc<str>,
    /// Where it stands.
    pub position: Position,
    /// What the stream has subscribed to since when, in a form of its own; `None`
    /// leaves what is stored.
    pub history: Option<String>,
}

/// What a stream goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Where it stands.
    pub position: Position,
    /// What was last stored as its history, if anything was.
    pub history: Option<String>,
}

/// A place in Pepay's order up to which a stream has stored every event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last event covered. `None` for an account that held no event at all
    /// when the stream first looked: everything is newer than this.
    pub event: Option<EventId>,
    /// When that event was created, or when the account was found empty, in
    /// Unix seconds: what `created[gte]` starts from once Pepay has forgotten the id.
    pub created: i64,
}

/// What became of a recorded event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is new and now stored.
    New,
    /// Its id was held already.
    Duplicate,
    /// Its id was held already, of an event that says something else. This one is kept
    /// beside that and never delivered.
    Conflict,
}

/// What the store holds of an event that is listed somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Missing,
    /// The same, as far as can be told: an earlier version stored no digest.
    Same,
    /// Another event under its id.
    Different,
}

/// Why nothing was recorded. The same may be offered again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The writer has more waiting than it takes on.
    #[error("the store's queue is full")]
    Overloaded,
    /// The transaction failed, or the store does not answer.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// Why a question to the store went unanswered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct ReadError(pub String);

impl Inbox {
    pub(super) const fn new(commands: Commands, reader: Reader) -> Self {
        Self { commands, reader }
    }

    /// Records `batch` as one, waiting for room in the writer's queue: the road
    /// of a source that can slow down. Answers in the order of the events.
    ///
    /// # Errors
    /// [`RecordError::Unavailable`]; then neither an event nor the cursor was stored.
    pub async fn record(&self, batch: Batch) -> Result<Vec<Recorded>, RecordError> {
        let traced = Traced::new(&batch.events);
        let recorded = self.commands.ask(|reply| Command::Record { batch, reply }).await;
        Traced::stored(traced, &recorded);
        recorded
    }

    /// Records one event, or fails at once where the queue is full: the road of
    /// a source whose caller can come back.
    ///
    /// # Errors
    /// [`RecordError`]; then the event was not stored.
    pub async fn try_record(&self, event: Received) -> Result<Recorded, RecordError> {
        let batch = Batch { events: vec![event], cursor: None };
        let traced = Traced::new(&batch.events);
        let recorded = self.commands.ask_at_once(|reply| Command::Record { batch, reply }).await;
        Traced::stored(traced, &recorded);
        recorded?.first().copied().ok_or_else(stopped)
    }

    /// What `stream` goes on from; `None` if it has never been started.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn resume(&self, stream: &str) -> Result<Option<Resume>, ReadError> {
        self.reader.resume(stream).await
    }

    /// What is stored of `events`, each an id and what the event says, in their order.
    /// Recording one that is [`Held::Different`] keeps it as a conflict.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn compare(&self, events: &[(EventId, Option<Digest>)]) -> Result<Vec<Held>, ReadError> {
        self.reader.compare(events).await
    }
}
