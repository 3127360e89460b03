//! Pauses and resumes targets. A pause is written to the store and then applied to the running
//! target. Both steps have to happen, so a task of its own completes one request at a time,
//! regardless of the store's duration and of a caller that has gone. The same task saves the pause
//! of a target that has paused itself, so that the store always has the last of both, and the
//! `Retry-After` of a target.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::parts::Controls;
use crate::delivery::BY_OPERATOR;
use crate::domain::operator::OperationError;
use crate::store::error::ActError;
use crate::store::operator::OperatorStore;
use crate::store::view::RetryAfter;

/// The number of requests that may wait in the channel; a further caller waits for a slot.
const WAITING: usize = 16;

/// The time between two tries to save a pause.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// Sends pause requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pauses(mpsc::Sender<PauseRequest>);

/// A target to pause or resume, and the channel for the outcome.
#[derive(Debug)]
struct PauseRequest {
    target: String,
    paused: bool,
    reply: oneshot::Sender<Result<(), OperationError>>,
}

/// The task that applies the requests.
pub(super) struct PauseWorker {
    operator: OperatorStore,
    controls: watch::Receiver<Arc<Controls>>,
    requests: mpsc::Receiver<PauseRequest>,
    /// Notified when a target has paused itself, or has sent a `Retry-After`.
    unsaved: Arc<Notify>,
}

/// Returns the handle, and the task behind it, which the caller [runs](PauseWorker::run).
pub(super) fn channel(
    operator: OperatorStore,
    controls: watch::Receiver<Arc<Controls>>,
    unsaved: Arc<Notify>,
) -> (Pauses, PauseWorker) {
    let (pauses, requests) = mpsc::channel(WAITING);
    (Pauses(pauses), PauseWorker { operator, controls, requests, unsaved })
}

impl Pauses {
    /// Pauses or resumes `target`. Once the future has been polled, the request is
    /// carried out even if the future is dropped.
    pub(super) async fn set(&self, target: String, paused: bool) -> Result<(), OperationError> {
        let stopping = || OperationError::Unavailable("the bridge is stopping".to_owned());
        let (reply, outcome) = oneshot::channel();
        self.0.send(PauseRequest { target, paused, reply }).await.map_err(|_| stopping())?;
        outcome.await.map_err(|_| stopping())?
    }
}

impl PauseWorker {
    /// Runs until `stop`, and then to the end of the request it has begun: a store that
    /// has closed returns at once.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut all_saved = true;
        loop {
            let request = tokio::select! {
                () = stop.cancelled() => return,
                request = self.requests.recv() => request,
                () = self.unsaved.notified() => {
                    all_saved = self.save().await;
                    continue;
                }
                () = tokio::time::sleep(SAVE_AGAIN), if !all_saved => {
                    all_saved = self.save().await;
                    continue;
                }
            };
            let Some(PauseRequest { target, paused, reply }) = request else { return };
            let outcome = self.set(&target, paused).await;
            if let Err(outcome) = reply.send(outcome) {
                let failure = outcome.err().map(|error| error.to_string());
                tracing::info!(
                    target,
                    paused,
                    failure,
                    "a pause request has ended after its caller had gone"
                );
            }
        }
    }

    /// Saves the pauses of targets that have paused themselves, and the `Retry-After` of targets.
    /// Returns whether the store has written all of them.
    async fn save(&self) -> bool {
        let controls = Arc::clone(&self.controls.borrow());
        let mut all_saved = true;
        for (target, control) in controls.targets.iter().filter(|(_, control)| control.has_unsaved_pause()) {
            let target = &*target.name;
            let reason = control.paused_reason();
            match self.operator.set_paused(target, reason.as_deref()).await {
                Ok(()) => control.pause_is_saved(),
                Err(error) => {
                    all_saved = false;
                    tracing::warn!(target, %error, "the pause of a target cannot be saved, trying again");
                }
            }
        }
        for (target, control) in &controls.targets {
            let Some(until) = control.take_unsaved_retry_after() else { continue };
            let target = &*target.name;
            let address = control.settings().address_digest();
            let retry_after = until.map(|until| RetryAfter { until, address });
            if let Err(error) = self.operator.set_retry_after(target, retry_after).await {
                all_saved = false;
                control.retry_after_is_unsaved();
                tracing::warn!(target, %error, "the Retry-After of a target cannot be saved, trying again");
            }
        }
        all_saved
    }

    async fn set(&self, target: &str, paused: bool) -> Result<(), OperationError> {
        self.controls.borrow().target(target)?;
        self.operator.set_paused(target, paused.then_some(BY_OPERATOR)).await.map_err(
            |error| match error {
                ActError::Store(error) => OperationError::Unavailable(error.to_string()),
                _ => OperationError::Unknown,
            },
        )?;
        // Looked up again: a reload may have replaced the target meanwhile. A reload that
        // comes now waits until this borrow ends, and takes over the state it has set.
        let controls = self.controls.borrow();
        controls.target(target)?.pause(paused);
        Ok(())
    }
}
