//! What the writer can be asked to do.

use std::sync::Arc;

use rusqlite::ErrorCode;
use tokio::sync::oneshot;

use super::Chore;
use super::outlets::Opened;
use crate::domain::delivery::OnUncertain;
use crate::domain::event::EventId;
use crate::store::error::ActError;
use crate::store::error::RecordError;
use crate::store::settings::Route;
use crate::store::types::{Act, Acted, Begun, CutOff, Found, Search, Settlement, TargetId};
use crate::store::types::{Batch, Key, Recorded};

/// Where the answer to a command goes.
pub(in crate::store) type Reply<T> = oneshot::Sender<Result<T, RecordError>>;

/// What the writer can be asked to do.
#[derive(Debug)]
pub(in crate::store) enum Command {
    /// Store events, their deliveries, and the cursor they move.
    Record { batch: Batch, reply: Reply<Vec<Recorded>> },
    /// Store what attempts came to.
    Settle { target: TargetId, settlements: Vec<Settlement>, reply: Reply<()> },
    /// Store that an attempt is about to go out.
    Begin { target: TargetId, attempt: Begun, reply: Reply<()> },
    /// Decide what becomes of the attempts that a stopped process left on the wire.
    Recover { target: TargetId, on_uncertain: OnUncertain, reply: Reply<Vec<CutOff>> },
    /// Search the open deliveries. Asked of the writer, because whatever was stored
    /// before has then been offered to the dispatcher before it answers.
    Search { target: TargetId, search: Search, reply: Reply<Found> },
    /// Find the delivery of an event to a target, by their names.
    Find { target: String, id: EventId, reply: Reply<Result<Key, ActError>> },
    /// Do to deliveries what an operator asks for.
    Act { target: TargetId, acts: Vec<Act>, reply: Reply<Vec<Acted>> },
    /// Note that a person has a target stopped, or started again.
    Pause { target: String, paused: bool, reply: Reply<Result<(), ActError>> },
    /// Do a piece of a chore. Answers whether there is more of it.
    Remove { chore: Chore, reply: Reply<bool> },
    /// Move the log into the database and cut it off, if nobody reads it.
    Checkpoint { reply: Reply<()> },
    /// Commit a small write.
    Probe { reply: Reply<()> },
    /// Replace the routes: these targets stay as they are, those are opened anew,
    /// all others closed.
    Reroute { kept: Vec<Arc<str>>, opened: Vec<Route>, reply: Reply<Vec<Opened>> },
    /// End.
    Close { reply: oneshot::Sender<()> },
}

impl Command {
    /// Answers that it was not done.
    pub(super) fn refuse(self, error: &rusqlite::Error) {
        let refusal = RecordError::Unavailable(error.to_string());
        // A caller that has gone does not need its answer.
        match self {
            Self::Record { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Recover { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Search { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Find { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Act { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Pause { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Remove { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Settle { reply, .. }
            | Self::Begin { reply, .. }
            | Self::Checkpoint { reply }
            | Self::Probe { reply } => drop(reply.send(Err(refusal))),
            Self::Reroute { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Close { .. } => {}
        }
    }
}

/// Why a group was not written.
pub(super) enum Failure {
    /// This command cannot be carried out; its neighbours can.
    Command(usize, rusqlite::Error),
    /// The store cannot write at all.
    Store(rusqlite::Error),
}

impl Failure {
    /// Whether `error` is about the command it came from, or about the store.
    pub(super) fn of(index: usize, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) | None => {
                Self::Command(index, error)
            }
            Some(_) => Self::Store(error),
        }
    }
}
