//! The commands of an operator to a running stream: reconnect, and backfill.

use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::domain::clock::Clock;
use crate::domain::operator::{BackfillFrom, OperationError, StreamCommand};
use crate::domain::status::{BackfillStatus, StreamPhase, StreamStatus};

/// The number of commands that may wait for the driver, which takes them within moments.
const WAITING: usize = 8;

/// The operator's handle on one stream. Cheap to clone. It works as long as the stream runs; a
/// stream that replaces it has a new handle.
#[derive(Clone, Debug)]
pub struct Control {
    commands: mpsc::Sender<StreamCommand>,
    status: watch::Sender<StreamStatus>,
    clock: Clock,
}

/// The receiver of a stream's commands.
pub(super) type Commands = mpsc::Receiver<StreamCommand>;

impl Control {
    pub(super) fn new(status: watch::Sender<StreamStatus>, clock: Clock) -> (Self, Commands) {
        let (commands, received) = mpsc::channel(WAITING);
        (Self { commands, status, clock }, received)
    }

    /// Has the stream carry out `command`. A reconnect ends the connection, if there is one, and
    /// connects at once; the waits between tries begin anew, and a `Retry-After` of Pepay is still
    /// respected. A backfill reads Pepay's list up to the cursor of the stream, beside the live
    /// events, and stores the missing events. The cursor does not move. The status shows the
    /// progress. The backfill ends with the process.
    ///
    /// # Errors
    /// [`OperationError::Busy`] while several commands wait, or for a backfill while another one
    /// runs. [`OperationError::Refused`] if the stream has stopped, or if a backfill would begin in
    /// the future. [`OperationError::Elsewhere`] if another replica reads the stream.
    pub fn command(&self, command: StreamCommand) -> Result<(), OperationError> {
        match command {
            StreamCommand::Reconnect => self.send(command),
            StreamCommand::Backfill(from) => self.backfill(from),
        }
    }

    fn backfill(&self, from: BackfillFrom) -> Result<(), OperationError> {
        let now = self.clock.now();
        if matches!(from, BackfillFrom::Time(at) if at > now) {
            return Err(OperationError::Refused("a backfill cannot begin in the future".to_owned()));
        }
        let begun = BackfillStatus {
            running: true,
            from: from.to_string(),
            read: 0,
            recorded: 0,
            started_at: now,
            ended_at: None,
            error: None,
        };
        let mut before = None;
        let claimed = self.status.send_if_modified(|status| {
            let free = !status.backfill.as_ref().is_some_and(|backfill| backfill.running);
            if free {
                before = status.backfill.replace(begun);
            }
            free
        });
        if !claimed {
            return Err(OperationError::Busy);
        }
        self.send(StreamCommand::Backfill(from)).inspect_err(|_| {
            self.status.send_modify(|status| status.backfill = before);
        })
    }

    /// Returns the status of the stream.
    pub fn status(&self) -> StreamStatus {
        self.status.borrow().clone()
    }

    /// Shows the status of the stream as reported by the replica that reads it.
    pub fn show(&self, told: &Value) {
        // A later version may report a status in another form.
        if let Ok(told) = StreamStatus::deserialize(told) {
            self.status.send_replace(told);
        }
    }

    fn send(&self, command: StreamCommand) -> Result<(), OperationError> {
        match self.status.borrow().phase {
            StreamPhase::Stopped => return Err(stopped()),
            StreamPhase::Standby => return Err(OperationError::Elsewhere),
            _ => {}
        }
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => OperationError::Busy,
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })
    }
}

fn stopped() -> OperationError {
    OperationError::Refused("the stream has stopped".to_owned())
}
