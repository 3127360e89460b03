//! What an operator can have a running stream do: connect anew, and read history again.

use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::domain::clock::Clock;
use crate::domain::operator::{BackfillFrom, OperationError};
use crate::domain::status::{BackfillStatus, StreamPhase, StreamStatus};

/// Orders that may wait for the driver. It takes them within moments.
const WAITING: usize = 8;

/// The operator's handle on one stream. Cheap to clone. It works as long as the
/// stream runs; one that is set up anew has a new one.
#[derive(Clone, Debug)]
pub struct Control {
    orders: mpsc::Sender<Order>,
    status: watch::Sender<StreamStatus>,
    clock: Clock,
}

/// Where a stream finds what it is asked for.
pub(super) type Orders = mpsc::Receiver<Order>;

/// What an operator asks of a stream.
#[derive(Debug)]
pub(super) enum Order {
    /// A new connection, now.
    Reconnect,
    /// The history from there on, compared with the store.
    Backfill(BackfillFrom),
}

impl Control {
    pub(super) fn new(status: watch::Sender<StreamStatus>, clock: Clock) -> (Self, Orders) {
        let (orders, taken) = mpsc::channel(WAITING);
        (Self { orders, status, clock }, taken)
    }

    /// Ends the stream's connection, if it has one, and connects at once:
    /// the waits between tries begin anew. A `Retry-After` of Pepay's is still waited for.
    ///
    /// # Errors
    /// [`OperationError::Busy`] if it was asked several times and has not yet got
    /// to it; [`OperationError::Refused`] if it has stopped.
    pub fn reconnect(&self) -> Result<(), OperationError> {
        self.order(Order::Reconnect)
    }

    /// Reads Pepay's list from `from` up to where the stream stands, beside the live
    /// events, and takes in what is missing. The cursor does not
    /// move. How it goes is shown in the status. It ends with the process.
    ///
    /// # Errors
    /// [`OperationError::Busy`] while another one runs; [`OperationError::Refused`]
    /// if `from` lies in the future, or the stream has stopped.
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

    /// How the stream is.
    pub fn status(&self) -> StreamStatus {
        self.status.borrow().clone()
    }

    /// Shows what another replica says of the stream, which reads it.
    pub fn show(&self, told: &Value) {
        // A later version may say it otherwise.
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
