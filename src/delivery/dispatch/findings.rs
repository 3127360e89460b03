//! Draws conclusions from ended attempts about a target as a whole, and shows its status.

use std::time::Duration;

use super::super::attempt::Ended;
use super::super::breaker::{Role, Tried};
use super::super::evidence::Health;
use super::super::refusals::{Refusal, Refusals};
use super::{Dispatcher, SLOW_POLL};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Next, Verdict};
use crate::domain::status::{Circuit, TargetError};
use crate::store::types::Kind;

/// By how much the end of a `Retry-After` has to be after the stored one to be stored again.
const WORTH_SAVING: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Notes an ended attempt in the breaker, the places and the refusals.
    pub(super) fn note(&mut self, role: Role, kind: Kind, ended: &Ended, now: UnixMillis) {
        let target = &*self.context.target;
        let (job, health) = (&ended.job, ended.report.health);
        let tried = Tried { role, subject: job.subject(), first: job.attempts == 0 };
        let changed = self.breaker.note(tried, health, now, self.context.jitter.next());
        if kind == Kind::Retry {
            self.places.note_retry(ended.report.verdict == Verdict::Acknowledged);
        }
        match changed {
            Some(Circuit::Open) => tracing::warn!(target, "target is down: deliveries wait, probes go on"),
            Some(Circuit::Closed) => tracing::info!(target, "target is up"),
            Some(Circuit::HalfOpen) | None => {}
        }
        self.note_retry_after(ended, now);
        self.note_refusal(ended, now);
    }

    /// Notes the `Retry-After` of an answer. It applies to the whole target, up to `retry_max`.
    fn note_retry_after(&mut self, ended: &Ended, now: UnixMillis) {
        let Some(wait) = ended.report.retry_after.filter(|wait| !wait.is_zero()) else { return };
        let wait = wait.min(self.context.retry.backoff.max());
        let until = now.plus(wait);
        // One line is enough for several requests that were on the wire together.
        if self.work.retry_after_until.is_none() {
            let (target, seconds) = (&*self.context.target, wait.as_secs());
            tracing::info!(target, seconds, "target asks to wait: nothing is sent to it meanwhile");
        }
        let before = self.work.retry_after_until;
        self.work.retry_after_until = before.max(Some(until));
        // A small change makes no difference to the next owner, and is not worth a write.
        let noted = before.and(self.pause.noted_retry_after());
        if noted.is_none_or(|noted| noted.plus(WORTH_SAVING) <= until) {
            self.pause.note_retry_after(self.work.retry_after_until);
        }
    }

    /// Goes on with the `Retry-After` of the last tenure, which may have been another process's: with
    /// the `stored` one, unless this process knows a later answer.
    pub(super) fn restore_retry_after(&mut self, stored: Option<UnixMillis>) {
        self.work.retry_after_until = self.pause.restore_retry_after(stored);
    }

    /// Returns until when nothing is started because of the target's `Retry-After`. A time well beyond
    /// `retry_max` is from before the clock was set back.
    pub(super) fn present_retry_after(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        let most = now.plus(self.context.retry.backoff.max() + SLOW_POLL);
        self.work.retry_after_until =
            self.work.retry_after_until.filter(|until| now < *until && *until <= most);
        self.work.retry_after_until
    }

    fn note_refusal(&mut self, ended: &Ended, now: UnixMillis) {
        let (target, report) = (&*self.context.target, &ended.report);
        if report.verdict == Verdict::Acknowledged {
            if self.work.refusals.end() {
                tracing::info!(target, "target takes events again");
            }
            return;
        }
        let is_refusal = report.verdict == Verdict::Rejected || report.health == Health::Up;
        let Some(status) = report.status.filter(|_| is_refusal) else { return };
        let refusal = Refusal {
            sequence: ended.job.sequence,
            status,
            is_final: ended.settlement.next == Next::Dead,
            error: report.error.as_deref().unwrap_or_default(),
        };
        if self.work.refusals.add(refusal, now) {
            let error = refusal.error;
            tracing::warn!(
                target,
                error,
                "target refuses everything: its address or credentials may be wrong"
            );
        }
        let limit = self.context.client.settings().pause_when_rejecting;
        if limit.is_some_and(|limit| self.work.refusals.final_ones() >= limit.get()) {
            self.pause_itself(refusal.error);
        }
    }

    /// Pauses the target because of its refusals. Requests on the wire still end.
    fn pause_itself(&self, error: &str) {
        if self.pause.is_on() {
            return;
        }
        let refusals = self.work.refusals.final_ones();
        let reason = format!("by `pause_when_rejecting`, after {refusals} final refusals in a row: {error}");
        let target = &*self.context.target;
        tracing::error!(target, refusals, error, "target is paused, since it refuses everything for good");
        self.status.send_modify(|status| {
            // It is set within the lock of the status, so that the two never differ.
            self.pause.begin_unsaved();
            (status.paused, status.paused_reason) = (true, Some(reason));
        });
    }

    /// Forgets refusals and `Retry-After` after an operator has resumed the target, so that attempts
    /// start at once.
    pub(super) fn begin_anew(&mut self) {
        self.work.refusals = Refusals::default();
        if self.work.retry_after_until.take().is_some() {
            self.pause.note_retry_after(None);
        }
    }

    /// Shows `outcomes` in the status of the target.
    pub(super) fn show(&self, outcomes: &[Ended], now: UnixMillis) {
        self.status.send_modify(|status| {
            for ended in outcomes {
                if ended.report.verdict == Verdict::Acknowledged {
                    status.last_delivered_at = Some(now);
                }
                if let Some(error) = &ended.report.error {
                    let event_id = ended.job.event.event.id.to_string();
                    status.last_error = Some(TargetError { event_id, error: error.clone(), at: now });
                }
            }
        });
    }

    /// Shows in the status the requests on the wire, and what holds the other deliveries back.
    pub(super) fn show_present(&self) {
        let (in_flight, circuit) = (self.work.on_the_wire.len(), self.breaker.circuit());
        let is_full = in_flight + self.work.reading.len() >= self.concurrency;
        let is_limited = is_full && Kind::ALL.into_iter().any(|kind| self.work.order.has(kind));
        let (now, next_probe) = (self.context.clock.now(), self.breaker.next_probe());
        let retry_after_until = self.work.retry_after_until;
        let rejecting = if self.work.refusals.is_rejecting() { self.work.refusals.run() } else { None };
        self.status.send_if_modified(|status| {
            let limited_since = is_limited.then(|| status.limited_since.unwrap_or(now));
            let before = (status.in_flight, status.circuit, status.limited_since);
            let held_back_before = (status.next_probe, status.retry_after_until);
            let changed = before != (in_flight, circuit, limited_since)
                || held_back_before != (next_probe, retry_after_until)
                || status.rejecting != rejecting;
            (status.in_flight, status.circuit, status.limited_since) = (in_flight, circuit, limited_since);
            (status.next_probe, status.retry_after_until) = (next_probe, retry_after_until);
            status.rejecting = rejecting;
            changed
        });
    }
}
