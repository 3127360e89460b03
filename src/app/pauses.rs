//! Stopping a target and letting it go on. The store remembers it and the running
//! target obeys it: two steps that must not come apart. So they belong to a task of
//! their own, which takes one wish at a time and each to its end, however long the
//! store takes, and although whoever asked may have stopped waiting for it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::operations::Directed;
use crate::domain::operator::OperationError;
use crate::store::error::ActError;
use crate::store::operator::OperatorStore;

/// Wishes that wait for their turn; a further one waits for room.
const WAITING: usize = 16;

/// Has targets stopped, or let go on. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pauses(mpsc::Sender<Wish>);

/// What somebody wants of one target, and where the outcome goes.
#[derive(Debug)]
struct Wish {
    target: String,
    paused: bool,
    reply: oneshot::Sender<Result<(), OperationError>>,
}

/// What fulfils the wishes.
pub(super) struct Fulfilment {
    operator: OperatorStore,
    directed: watch::Receiver<Arc<Directed>>,
    wishes: mpsc::Receiver<Wish>,
}

/// The handle, and what does its work once it [runs](Fulfilment::run).
pub(super) fn channel(
    operator: OperatorStore,
    directed: watch::Receiver<Arc<Directed>>,
) -> (Pauses, Fulfilment) {
    let (pauses, wishes) = mpsc::channel(WAITING);
    (Pauses(pauses), Fulfilment { operator, directed, wishes })
}

impl Pauses {
    /// Stops `target`, or lets it go on. Once this has been waited for a first time
    /// it is going to be done, even if nobody waits for it any more.
    pub(super) async fn set(&self, target: String, paused: bool) -> Result<(), OperationError> {
        let stopping = || OperationError::Unavailable("the bridge is stopping".to_owned());
        let (reply, outcome) = oneshot::channel();
        self.0.send(Wish { target, paused, reply }).await.map_err(|_| stopping())?;
        outcome.await.map_err(|_| stopping())?
    }
}

impl Fulfilment {
    /// Runs until `stop`, and then to the end of the wish in hand: a store that has
    /// closed answers at once.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(Wish { target, paused, reply })) =
            stop.run_until_cancelled(self.wishes.recv()).await
        {
            let outcome = self.set(&target, paused).await;
            if let Err(outcome) = reply.send(outcome) {
                let failure = outcome.err().map(|error| error.to_string());
                tracing::info!(
                    target,
                    paused,
                    failure,
                    "what was asked for has ended after its asker had gone"
                );
            }
        }
    }

    async fn set(&self, target: &str, paused: bool) -> Result<(), OperationError> {
        self.directed.borrow().target(target)?;
        self.operator.set_paused(target, paused).await.map_err(|error| match error {
            ActError::Store(error) => OperationError::Unavailable(error.to_string()),
            _ => OperationError::Unknown,
        })?;
        // Looked up again: a reload may have replaced it meanwhile. One that comes
        // now waits for this look-up to end, and takes over what it has brought about.
        let directed = self.directed.borrow();
        directed.target(target)?.pause(paused);
        Ok(())
    }
}
