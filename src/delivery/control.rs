//! What an operator can have one target do: pause, resume, and take a test event.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64,
    Ordering::{Relaxed, SeqCst},
};

use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::{Mutex, Notify, watch};

use super::Settings;
use super::attempt::millis;
use super::client::TargetClient;
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::delivery::Verdict;
use crate::domain::event::Event;
use crate::domain::operator::{OperationError, TestOutcome};
use crate::domain::status::TargetStatus;

/// Why a target is paused that an operator has paused.
pub const BY_OPERATOR: &str = "by an operator";

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

/// Whether a target is paused, shared with its dispatcher.
#[derive(Debug)]
pub(super) struct Pause {
    on: AtomicBool,
    /// Whether the dispatcher has paused it, and the store does not know of that yet.
    unsaved: AtomicBool,
    /// Whether an operator has resumed it, and the dispatcher has not seen that yet.
    resumed: AtomicBool,
    changed: Notify,
    /// Until when the target has asked to be left alone, in Unix milliseconds; 0 if it has not.
    retry_after_until: AtomicI64,
    /// Whether the store does not know of that yet.
    unsaved_retry_after: AtomicBool,
    /// Told when there is something unsaved.
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

    /// Notes until when the target has asked to be left alone, to be saved by
    /// the worker that waits for that.
    pub(super) fn note_retry_after(&self, until: Option<UnixMillis>) {
        // Before the flag: what takes the flag sees this value or a later one.
        self.retry_after_until.store(until.map_or(0, |until| until.0), SeqCst);
        self.unsaved_retry_after.store(true, SeqCst);
        self.saver.notify_one();
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Whether an operator has resumed the target since the last call.
    pub(super) fn take_resumed(&self) -> bool {
        self.resumed.swap(false, Relaxed)
    }

    /// Pauses, to be saved by the worker that waits for that.
    pub(super) fn begin_unsaved(&self) {
        self.on.store(true, Relaxed);
        self.unsaved.store(true, Relaxed);
        self.saver.notify_one();
    }

    /// Resolves after a change: one that came before the call, too, so that a
    /// dispatcher that was not waiting just then misses none.
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

    /// How the target is configured.
    pub fn settings(&self) -> &Settings {
        self.client.settings()
    }

    /// Stops the target, or lets it go on, as an operator has decided. While it is paused
    /// nothing is started, probes neither; what is on the wire ends and is settled. One
    /// that goes on is asked at once, whatever it has said before: neither its
    /// `Retry-After` nor its refusals count any more. The store remembers a pause
    /// beforehand: here it lasts as long as the process.
    pub fn pause(&self, paused: bool) {
        self.status.send_modify(|status| {
            // Within the lock of the status, so that the two never disagree.
            self.pause.set(paused);
            status.paused = paused;
            status.paused_reason = paused.then(|| BY_OPERATOR.to_owned());
        });
    }

    /// Whether the target has paused itself, and that was not said to be saved yet.
    pub fn has_unsaved_pause(&self) -> bool {
        self.pause.unsaved.load(Relaxed)
    }

    /// The store remembers the pause.
    pub fn pause_is_saved(&self) {
        self.pause.unsaved.store(false, Relaxed);
    }

    /// How the target is.
    pub fn status(&self) -> TargetStatus {
        self.status.borrow().clone()
    }

    /// Shows what another replica says of the target, which delivers to it.
    pub fn show(&self, told: &Value) {
        // A later version may say it otherwise.
        if let Ok(told) = TargetStatus::deserialize(told) {
            self.status.send_replace(told);
        }
    }

    /// Pauses or resumes the target as the store has it, since an operator has asked another
    /// replica for that.
    pub fn follow_store(&self, paused: bool) {
        if self.pause.is_on() != paused && !self.has_unsaved_pause() {
            self.pause(paused);
        }
    }

    /// Until when the target has asked to be left alone, if that was not taken yet: to be
    /// saved. The inner value is `None` if it does not ask for it any more.
    pub fn take_unsaved_retry_after(&self) -> Option<Option<UnixMillis>> {
        let taken = self.pause.unsaved_retry_after.swap(false, SeqCst);
        let until = self.pause.retry_after_until.load(SeqCst);
        taken.then(|| (until > 0).then_some(UnixMillis(until)))
    }

    /// What was taken could not be saved: it is to be taken again.
    pub fn retry_after_is_unsaved(&self) {
        self.pause.unsaved_retry_after.store(true, SeqCst);
    }

    /// Why the target is paused, if it is.
    pub fn paused_reason(&self) -> Option<String> {
        self.status.borrow().paused_reason.clone()
    }

    /// Pauses this target as `before`, its predecessor, is by now.
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
