//! The commands of an operator to a running stream: reconnect, and backfill.

use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::domain::clock::Clock;
use crate::domain::operator::{BackfillFrom, OperationError};
use crate::domain::status::{BackfillStatus, StreamPhase, StreamStatus};

/// The number of commands that may wait for the driver, which takes them within moments.
const WAITING: usize = 8;

/// The operator's handle on one stream. Cheap to clone. It works as long as the stream runs; a
/// stream that replaces it has a new handle.
#[derive(Clone, Debug)]
pub struct Control {
    orders: mpsc::Sender<Order>,
    status: watch::Sender<StreamStatus>,
    clock: Clock,
}

/// The receiver of a stream's commands.
pub(super) type Orders = mpsc::Receiver<Order>;

/// A command to a stream.
#[derive(Debug)]
pub(super) enum Order {
    /// Open a new connection now.
    Reconnect,
    /// Compare the history from this place on with the store.
    Backfill(BackfillFrom),
}

impl Control {
    pub(super) fn new(status: watch::Sender<StreamStatus>, clock: Clock) -> (Self, Orders) {
        let (orders, taken) = mpsc::channel(WAITING);
        (Self { orders, status, clock }, taken)
    }

    /// Ends the stream's connection, if it has one, and connects at once. The waits between tries
    /// begin anew. A `Retry-After` of Pepay is still respected.
    ///
    /// # Errors
    /// [`OperationError::Busy`] if several commands wait for the stream.
    /// [`OperationError::Refused`] if the stream has stopped. [`OperationError::Elsewhere`] if
    /// another replica reads it.
    pub fn reconnect(&self) -> Result<(), OperationError> {
        self.order(Order::Reconnect)
    }

    /// Reads Pepay's list from `from` up to the cursor of the stream, beside the live events, and
    /// stores the missing events. The cursor does not move. The status shows the progress. The
    /// backfill ends with the process.
    ///
    /// # Errors
    /// [`OperationError::Busy`] while another backfill runs or several commands wait.
    /// [`OperationError::Refused`] if `from` lies in the future or the stream has stopped.
    /// [`OperationError::Elsewhere`] if another replica reads it.
    pub fn backfill(&self, from: BackfillFrom) -> Result<(), OperationError> {
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
        self.order(Order::Backfill(from)).inspect_err(|_| {
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

    fn order(&self, order: Order) -> Result<(), OperationError> {
        match self.status.borrow().phase {
            StreamPhase::Stopped => return Err(stopped()),
            StreamPhase::Standby => return Err(OperationError::Elsewhere),
            _ => {}
        }
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => OperationError::Busy,
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })
    }
}

fn stopped() -> OperationError {
    OperationError::Refused("the stream has stopped".to_owned())
}
