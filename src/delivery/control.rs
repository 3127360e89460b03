//! What an operator can have one target do: pause, resume, and take a test event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::{Mutex, Notify, watch};

use super::attempt::millis;
use super::client::TargetClient;
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::delivery::Verdict;
use crate::domain::event::Event;
use crate::domain::operator::{OperationError, TestOutcome};
use crate::domain::status::TargetStatus;

/// An operator's handle on one target. Cheap to clone. It works as long as the
/// target does; a target that is set up anew has a new one.
#[derive(Clone, Debug)]
pub struct Control {
    pause: Arc<Pause>,
    status: watch::Sender<TargetStatus>,
    client: Arc<TargetClient>,
    clock: Clock,
    /// Held while a test is out; the time that made up the last one's id.
    testing: Arc<Mutex<UnixMillis>>,
}

/// Whether an operator has paused a target, shared with its dispatcher.
#[derive(Debug)]
pub(super) struct Pause {
    on: AtomicBool,
    changed: Notify,
}

impl Pause {
    pub(super) fn new(on: bool) -> Self {
        Self { on: AtomicBool::new(on), changed: Notify::new() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Resolves after a change: one that came before the call, too, so that a
    /// dispatcher that was not waiting just then misses none.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, on: bool) {
        self.on.store(on, Relaxed);
        self.changed.notify_one();
    }
}

impl Control {
    pub(super) fn new(
        pause: Arc<Pause>,
        status: watch::Sender<TargetStatus>,
        client: Arc<TargetClient>,
    ) -> Self {
        let clock = client.clock().clone();
        Self { pause, status, client, clock, testing: Arc::new(Mutex::new(UnixMillis(0))) }
    }

    /// Stops the target, or lets it go on. While it is paused nothing is started,
    /// probes neither; what is on the wire ends and is settled. The store
    /// remembers it beforehand: here it lasts as long as the process.
    pub fn pause(&self, paused: bool) {
        self.status.send_if_modified(|status| {
            // Within the lock of the status, so that the two never disagree.
            self.pause.set(paused);
            std::mem::replace(&mut status.paused, paused) != paused
        });
    }

    /// Sends a made-up event, once, as deliveries are sent but for the headers
    /// that describe a stored event, and with `pepay-bridge-test: 1`. It is neither
    /// stored nor counted, changes nothing about the circuit, and goes out while
    /// the target is paused or its circuit open.
    ///
    /// # Errors
    /// [`OperationError::Busy`] while another test is out to this target.
    pub async fn test(&self) -> Result<TestOutcome, OperationError> {
        let mut last = self.testing.try_lock().map_err(|_| OperationError::Busy)?;
        // Two tests within a millisecond are two events all the same.
        *last = UnixMillis(self.clock.now().0.max(last.0.saturating_add(1)));
        let event = Event::made_up(*last);
        let report = self.client.send_test(&event).await;
        let outcome = TestOutcome {
            event_id: event.id.to_string(),
            acknowledged: report.verdict == Verdict::Acknowledged,
            status: report.status.map(|status| status.as_u16()),
            duration_ms: millis(report.duration),
            error: report.error,
        };
        let (target, event_id) = (self.status.borrow().name.to_string(), &*outcome.event_id);
        let (status, duration_ms, error) = (outcome.status, outcome.duration_ms, outcome.error.as_deref());
        tracing::info!(target, event_id, status, duration_ms, error, "a test event was sent");
        Ok(outcome)
    }
}
