//! The actions of an operator on one target: pause, resume, and send a test event.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64,
    Ordering::{Relaxed, SeqCst},
};

use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::{Mutex, Notify, watch};

use super::Settings;
use super::client::TargetClient;
use crate::domain::clock::{Clock, UnixMillis, millis};
use crate::domain::delivery::Verdict;
use crate::domain::event::Event;
use crate::domain::operator::{OperationError, TestOutcome};
use crate::domain::status::TargetStatus;

/// The reason of a pause by an operator.
pub const BY_OPERATOR: &str = "by an operator";

/// An operator's handle on one target. Cheap to clone. It works as long as the target does; a replaced
/// target has a new one.
#[derive(Clone, Debug)]
pub struct Control {
    pause: Arc<Pause>,
    status: watch::Sender<TargetStatus>,
    client: Arc<TargetClient>,
    clock: Clock,
    /// Locked while a test event is on the wire. The value is the time in the last test event's id.
    testing: Arc<Mutex<UnixMillis>>,
}

/// The pause and the `Retry-After` of a target, shared with its dispatcher.
#[derive(Debug)]
pub(super) struct Pause {
    on: AtomicBool,
    /// Whether the dispatcher has paused the target, and the pause is not stored yet.
    unsaved: AtomicBool,
    /// Whether an operator has resumed the target, and the dispatcher has not noticed it yet.
    resumed: AtomicBool,
    changed: Notify,
    /// The end of the target's `Retry-After`, in Unix milliseconds; 0 if it has none.
    retry_after_until: AtomicI64,
    /// Whether that end is not stored yet.
    unsaved_retry_after: AtomicBool,
    /// Notified when a pause or a `Retry-After` is to be stored.
    saver: Arc<Notify>,
}

impl Pause {
    pub(super) fn new(on: bool, saver: Arc<Notify>) -> Self {
        Self {
            on: AtomicBool::new(on),
            unsaved: AtomicBool::new(false),
            resumed: AtomicBool::new(false),
            changed: Notify::new(),
            retry_after_until: AtomicI64::new(0),
            unsaved_retry_after: AtomicBool::new(false),
            saver,
        }
    }

    /// Notes the end of the target's `Retry-After`, and notifies the worker that stores it.
    pub(super) fn note_retry_after(&self, until: Option<UnixMillis>) {
        // The value is set before the flag: the worker that takes the flag sees this value or a later
        // one.
        self.retry_after_until.store(until.map_or(0, |until| until.0), SeqCst);
        self.unsaved_retry_after.store(true, SeqCst);
        self.saver.notify_one();
    }

    /// Returns the end of the target's `Retry-After` that was noted last.
    pub(super) fn noted_retry_after(&self) -> Option<UnixMillis> {
        let until = self.retry_after_until.load(SeqCst);
        (until > 0).then_some(UnixMillis(until))
    }

    /// Notes the `stored` end of the target's `Retry-After`, unless a later answer is not stored yet.
    /// Returns the end that counts.
    pub(super) fn restore_retry_after(&self, stored: Option<UnixMillis>) -> Option<UnixMillis> {
        if !self.unsaved_retry_after.load(SeqCst) {
            self.retry_after_until.store(stored.map_or(0, |until| until.0), SeqCst);
        }
        self.noted_retry_after()
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Returns whether an operator has resumed the target since the last call.
    pub(super) fn take_resumed(&self) -> bool {
        self.resumed.swap(false, Relaxed)
    }

    /// Pauses the target, and notifies the worker that stores the pause.
    pub(super) fn begin_unsaved(&self) {
        self.on.store(true, Relaxed);
        self.unsaved.store(true, Relaxed);
        self.saver.notify_one();
    }

    /// Resolves after a change of the pause. A change before the call counts too, so that a dispatcher
    /// that was not waiting misses none.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, on: bool) {
        self.on.store(on, Relaxed);
        self.unsaved.store(false, Relaxed);
        self.resumed.store(!on, Relaxed);
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

    /// Returns the settings of the target.
    pub fn settings(&self) -> &Settings {
        self.client.settings()
    }

    /// Pauses or resumes the target for an operator. While it is paused, no attempt or probe is
    /// started; requests on the wire end and are settled. A resumed target gets requests at once: its
    /// earlier `Retry-After` and refusals no longer count. The caller stores the pause beforehand: here
    /// it lasts as long as the process.
    pub fn pause(&self, paused: bool) {
        self.status.send_modify(|status| {
            // It is set within the lock of the status, so that the two never differ.
            self.pause.set(paused);
            status.paused = paused;
            status.paused_reason = paused.then(|| BY_OPERATOR.to_owned());
        });
    }

    /// Returns whether the target has paused itself, and the pause is not stored yet.
    pub fn has_unsaved_pause(&self) -> bool {
        self.pause.unsaved.load(Relaxed)
    }

    /// Notes that the pause is stored.
    pub fn pause_is_saved(&self) {
        self.pause.unsaved.store(false, Relaxed);
    }

    /// Returns the status of the target.
    pub fn status(&self) -> TargetStatus {
        self.status.borrow().clone()
    }

    /// Shows the status that another replica, which delivers to the target, has reported.
    pub fn show(&self, told: &Value) {
        // A later version may report another form.
        if let Ok(told) = TargetStatus::deserialize(told) {
            self.status.send_replace(told);
        }
    }

    /// Pauses or resumes the target as it is stored, after an operator has asked another replica for
    /// that.
    pub fn follow_store(&self, paused: bool) {
        if self.pause.is_on() != paused && !self.has_unsaved_pause() {
            self.pause(paused);
        }
    }

    /// Returns the end of the target's `Retry-After`, if it is not stored yet. The inner value is
    /// `None` if the target has none any more.
    pub fn take_unsaved_retry_after(&self) -> Option<Option<UnixMillis>> {
        let taken = self.pause.unsaved_retry_after.swap(false, SeqCst);
        let until = self.pause.noted_retry_after();
        taken.then_some(until)
    }

    /// Notes that the taken value could not be stored: it has to be taken again.
    pub fn retry_after_is_unsaved(&self) {
        self.pause.unsaved_retry_after.store(true, SeqCst);
    }

    /// Returns the reason of the pause, if the target is paused.
    pub fn paused_reason(&self) -> Option<String> {
        self.status.borrow().paused_reason.clone()
    }

    /// Takes over the pause of `before`, its predecessor.
    pub fn follow(&self, before: &Self) {
        if before.settings().url == self.settings().url
            && let Some(until) = before.take_unsaved_retry_after()
        {
            self.pause.note_retry_after(until);
        }
        let (paused, reason) = {
            let before = before.status.borrow();
            (before.paused, before.paused_reason.clone())
        };
        self.status.send_modify(|status| {
            if before.has_unsaved_pause() {
                self.pause.begin_unsaved();
            } else if self.pause.is_on() != paused {
                self.pause.set(paused);
            }
            (status.paused, status.paused_reason) = (paused, reason);
        });
    }

    /// Sends a test event, once, in the same way as deliveries, but without the headers that describe a
    /// stored event and with `pepay-bridge-test: 1`. It is neither stored nor counted, does not change
    /// the circuit, and is sent even while the target is paused or its circuit is open.
    ///
    /// # Errors
    /// [`OperationError::Busy`] while another test event to this target is on the wire.
    pub async fn test(&self) -> Result<TestOutcome, OperationError> {
        let mut last = self.testing.try_lock().map_err(|_| OperationError::Busy)?;
        // Two tests within a millisecond get different ids.
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
