//! What the writer can be asked to do.

use std::sync::Arc;

use rusqlite::ErrorCode;
use tokio::sync::oneshot;

use super::Chore;
use super::outlets::Opened;
use crate::domain::delivery::{OnUncertain, State};
use crate::domain::event::EventId;
use crate::domain::operator::Action;
use crate::store::error::{ActError, RecordError};
use crate::store::settings::Route;
use crate::store::types::{Batch, Begun, CutOff, Due, Key, Recorded, Search, Settlement, TargetId};

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
    /// Find deliveries that are due. Asked of the writer, because whatever it
    /// finds has then been offered to the dispatcher before it answers.
    Due { target: TargetId, search: Search, reply: Reply<Due> },
    /// Do to one delivery what a person asks for.
    Act { action: Action, target: String, id: EventId, reply: Reply<Result<(), ActError>> },
    /// The same to many, as far as they are in one of `states`; answers how many
    /// have changed.
    ActOn { action: Action, states: Vec<State>, keys: Vec<Key>, reply: Reply<u64> },
    /// Send an event to a target again.
    Replay { target: String, id: EventId, reply: Reply<Result<u32, ActError>> },
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
            Self::Due { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Act { reply, .. } | Self::Pause { reply, .. } => drop(reply.send(Err(refusal))),
            Self::ActOn { reply, .. } => drop(reply.send(Err(refusal))),
            Self::Replay { reply, .. } => drop(reply.send(Err(refusal))),
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
