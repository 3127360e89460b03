//! The way to the writer.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::error::RecordError;
use super::writer::{Command, Reply};

/// Where the writer takes its commands. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Commands(mpsc::Sender<Command>);

impl Commands {
    /// With room for so many that wait.
    pub(super) fn new(room: usize) -> (Self, mpsc::Receiver<Command>) {
        let (sender, queue) = mpsc::channel(room);
        (Self(sender), queue)
    }

    /// Hands over the command that is made of a way to answer it, waiting for room,
    /// and then for the answer.
    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, RecordError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// The same, but fails at once where there is no room.
    pub(super) async fn ask_at_once<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, RecordError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(command(reply)).map_err(|error| match error {
            TrySendError::Full(_) => RecordError::Overloaded,
            TrySendError::Closed(_) => stopped(),
        })?;
        answer.await.map_err(|_| stopped())?
    }

    /// Has the writer end, and waits until it has.
    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.0.send(Command::Close { reply }).await.is_ok() {
            // An error says that the writer is gone already, which is what was asked for.
            let _ = closed.await;
        }
    }
}

pub(super) fn stopped() -> RecordError {
    RecordError::Unavailable("it has stopped".to_owned())
}
