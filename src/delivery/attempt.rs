//! Makes one attempt, from its beginning to the record of its outcome.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;

use super::client::{Report, TargetClient};
use crate::domain::backoff::{Backoff, Jitter};
use crate::domain::clock::{Clock, UnixMillis, millis};
use crate::domain::delivery::{Attempt, Next, OnUncertain, RetryPolicy};
use crate::domain::log_limit::LogLimit;
use crate::store::error::RecordError;
use crate::store::lease::Tenure;
use crate::store::outbox::DeliveryLog;
use crate::store::types::{AttemptStarted, InterruptedAttempt, Job, Settlement};
use crate::telemetry::{names, traces};

/// The shortest and the longest wait between two tries to write an outcome. It has to be written, and
/// the store may fail for a while.
const REWRITE_MIN: Duration = Duration::from_millis(50);
const REWRITE_MAX: Duration = Duration::from_secs(1);

/// How long outcomes may wait to be written before no more attempts start, with several replicas.
const UNSETTLED_LIMIT: Duration = Duration::from_secs(1);

/// How long a request is on the wire before it is recorded with a commit of its own.
const SLOW: Duration = Duration::from_millis(100);

/// The values that all attempts at one target share.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) target: Arc<str>,
    pub(super) client: Arc<TargetClient>,
    /// The tenure of the target's lease, while this process has one.
    tenure: Option<Arc<Tenure>>,
    pub(super) log: DeliveryLog,
    pub(super) retry: RetryPolicy,
    /// The waits between two tries to write an outcome.
    rewrite: Backoff,
    pub(super) clock: Clock,
    pub(super) jitter: Jitter,
    meters: Meters,
    /// The lines about attempts that could not be recorded. A full disk would cause hundreds a second.
    unrecorded: Arc<LogLimit>,
}

/// An attempt whose request has ended and whose outcome is not yet written.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) job: Job,
    pub(super) report: Report,
    pub(super) settlement: Settlement,
    /// Its span, if traces are on.
    trace: Option<traces::Attempt>,
}

#[derive(Clone, Debug)]
struct Meters {
    delivered: Counter,
    retried: Counter,
    dead: Counter,
    held: Counter,
    duration: Histogram,
    end_to_end: Histogram,
}

impl Context {
    /// Creates the context. `clock` is the clock of due times.
    pub(super) fn new(client: Arc<TargetClient>, log: DeliveryLog, clock: Clock, jitter: Jitter) -> Self {
        let retry = client.settings().retry;
        let target = Arc::clone(&client.settings().name);
        let name = || target.to_string();
        let outcome =
            |outcome: &'static str| counter!(names::DELIVERIES, "target" => name(), "outcome" => outcome);
        let meters = Meters {
            delivered: outcome("delivered"),
            retried: outcome("retried"),
            dead: outcome("dead"),
            held: outcome("held"),
            duration: histogram!(names::DELIVERY_DURATION, "target" => name()),
            end_to_end: histogram!(names::END_TO_END, "target" => name()),
        };
        let rewrite = Backoff::new(REWRITE_MIN, REWRITE_MAX).unwrap_or(retry.backoff);
        let unrecorded = Arc::default();
        Self { target, client, tenure: None, log, retry, rewrite, clock, jitter, meters, unrecorded }
    }

    /// Returns the context for `tenure`, during which this process delivers to the target.
    pub(super) fn during(&self, tenure: &Arc<Tenure>) -> Self {
        Self { tenure: Some(Arc::clone(tenure)), log: self.log.under(tenure.term()), ..self.clone() }
    }

    /// Returns the context for the time after the tenure.
    pub(super) fn after(&self) -> Self {
        Self { tenure: None, ..self.clone() }
    }

    /// Returns whether an attempt may start now, if outcomes have waited to be written since
    /// `unsettled_since`. With several replicas, one that cannot write may soon be replaced, and its
    /// successor repeats the attempts that are not written.
    pub(super) fn may_start(&self, unsettled_since: Option<Instant>) -> bool {
        let Some(tenure) = &self.tenure else { return false };
        let waits = || unsettled_since.is_some_and(|since| since.elapsed() >= UNSETTLED_LIMIT);
        tenure.is_trusted() && !(tenure.is_shared() && waits())
    }

    /// Ends the tenure if `error` says that another process owns the target. Returns whether it does.
    fn is_superseded(&self, error: &RecordError) -> bool {
        let superseded = *error == RecordError::Superseded;
        if superseded && let Some(tenure) = &self.tenure {
            tenure.lose();
        }
        superseded
    }

    /// Makes one attempt at `job`. An error says that the attempt was not made, because it could not be
    /// recorded first.
    pub(super) async fn attempt(&self, job: Job) -> Result<Ended, (Job, RecordError)> {
        let (number, started_at) = (job.attempts + 1, self.clock.now());
        let event_id = job.event.event.id.as_str();
        tracing::debug!(event_id, target = &*self.target, attempt = number, "sending");
        let trace = traces::of(event_id).map(traces::Trace::attempt);
        let begun = AttemptStarted { sequence: job.sequence, number, at: started_at };
        let report = match self.retry.on_uncertain {
            OnUncertain::Hold => match self.log.begin(begun).await {
                Ok(()) => self.send(&job, number, trace.as_ref()).await,
                Err(error) => {
                    let is_shared = self.tenure.as_ref().is_some_and(|tenure| tenure.is_shared());
                    if !self.is_superseded(&error) && is_shared {
                        self.note_unmade(&job, started_at).await;
                    }
                    return Err((job, error));
                }
            },
            OnUncertain::Retry => self.send_and_record_if_slow(&job, begun, trace.as_ref()).await,
        };
        let attempt = Attempt {
            number,
            first_at: job.first_attempt_at.unwrap_or(started_at),
            ended_at: self.clock.now(),
            verdict: report.verdict,
        };
        let next = self.retry.next(&attempt, self.jitter.next());
        let mut settlement = job.settlement(started_at, report.duration, next);
        settlement.status = report.status.map(|status| status.as_u16());
        settlement.error.clone_from(&report.error);
        settlement.answer.clone_from(&report.answer);
        Ok(Ended { job, report, settlement, trace })
    }

    /// Writes that an attempt at `job` was not made and is due again, however long the store takes. The
    /// commit that recorded the attempt may have succeeded although its answer was lost: then the
    /// attempt would be taken for one on the wire.
    async fn note_unmade(&self, job: &Job, started_at: UnixMillis) {
        let again = Next::Retrying { due_at: self.clock.now() };
        let mut unmade = job.settlement(started_at, Duration::ZERO, again);
        unmade.error = Some("not made: it could not be recorded first".to_owned());
        let mut failures = 0;
        while let Err(error) = self.log.settle(vec![unmade.clone()]).await {
            if self.is_superseded(&error) {
                return;
            }
            failures += 1;
            let event_id = job.event.event.id.as_str();
            tracing::debug!(target = %self.target, event_id, %error, "an attempt that was not made could not be noted, trying again");
            self.pause(failures).await;
        }
    }

    async fn send(&self, job: &Job, number: u32, trace: Option<&traces::Attempt>) -> Report {
        let term = self.tenure.as_ref().map_or(0, |tenure| tenure.term().number());
        self.client.send(job, number, term, trace).await
    }

    /// Sends `job`, where a repeat is allowed. A commit before each request would be wasted: only a
    /// slow request is recorded while it is on the wire, so that its repeat after a crash has a higher
    /// number.
    async fn send_and_record_if_slow(
        &self,
        job: &Job,
        begun: AttemptStarted,
        trace: Option<&traces::Attempt>,
    ) -> Report {
        let mut sending = pin!(self.send(job, begun.number, trace));
        if let Ok(report) = tokio::time::timeout(SLOW, &mut sending).await {
            return report;
        }
        let (report, recorded) = tokio::join!(sending, self.log.begin(begun));
        if let Err(error) = recorded
            && let Some(unlogged) = self.unrecorded.note(self.clock.now())
        {
            let event_id = job.event.event.id.as_str();
            tracing::warn!(target = %self.target, event_id, %error, unlogged, "an attempt under way could not be recorded");
        }
        report
    }

    /// Writes the outcomes, all or none. Returns them as an error if that fails.
    pub(super) async fn settle(&self, ended: Vec<Ended>) -> Result<Vec<Ended>, Vec<Ended>> {
        let settlements = ended.iter().map(|one| one.settlement.clone()).collect();
        match self.log.settle(settlements).await {
            Ok(()) => {
                for one in &ended {
                    self.report(one);
                }
                Ok(ended)
            }
            // The process that owns the target now decides about these deliveries.
            Err(error) if self.is_superseded(&error) => Ok(ended),
            Err(error) => {
                tracing::debug!(target = %self.target, %error, "outcomes could not be written, trying each by itself");
                Err(ended)
            }
        }
    }

    /// Writes one outcome, however long the store takes.
    pub(super) async fn settle_alone(&self, ended: Ended) -> Ended {
        let mut failures = 0;
        while let Err(error) = self.log.settle(vec![ended.settlement.clone()]).await {
            if self.is_superseded(&error) {
                return ended;
            }
            failures += 1;
            let event_id = ended.job.event.event.id.as_str();
            // The committer logs trouble of the store at a higher level.
            tracing::debug!(target = %self.target, event_id, %error, "an outcome could not be written, trying again");
            self.pause(failures).await;
        }
        self.report(&ended);
        ended
    }

    /// Settles the attempts that a stopped process left on the wire. Returns the stored end of the
    /// target's `Retry-After`.
    pub(super) async fn recover(&self) -> Option<UnixMillis> {
        let mut failures = 0;
        loop {
            match self.recovered().await {
                Ok((attempts, retry_after_until)) => {
                    for attempt in &attempts {
                        self.report_cut_off(attempt);
                    }
                    return retry_after_until;
                }
                Err(error) if self.is_superseded(&error) => return None,
                Err(error) => {
                    failures += 1;
                    tracing::error!(target = %self.target, %error, "attempts that were cut off cannot be looked up, trying again");
                    self.pause(failures).await;
                }
            }
        }
    }

    async fn recovered(&self) -> Result<(Vec<InterruptedAttempt>, Option<UnixMillis>), RecordError> {
        let retry_after_until = self.log.retry_after(&self.client.settings().address_digest()).await?;
        Ok((self.log.recover(self.retry.on_uncertain).await?, retry_after_until))
    }

    async fn pause(&self, failures: u32) {
        tokio::time::sleep(self.rewrite.delay(failures, self.jitter.next())).await;
    }

    fn report_cut_off(&self, attempt: &InterruptedAttempt) {
        let (meter, what) = match self.retry.on_uncertain {
            OnUncertain::Retry => (&self.meters.retried, "will retry"),
            OnUncertain::Hold => (&self.meters.held, "held: its outcome is unknown"),
        };
        meter.increment(1);
        let (event_id, target, attempt) = (&*attempt.event_id, &*self.target, attempt.number);
        tracing::warn!(event_id, target, attempt, "cut off by the end of the last process, {what}");
    }

    /// Logs that an attempt was not made because it could not be recorded first, once in a while.
    pub(super) fn report_unmade(&self, job: &Job, error: &RecordError) {
        let (event_id, target) = (job.event.event.id.as_str(), &*self.target);
        if *error == RecordError::Superseded {
            tracing::debug!(target, event_id, "an attempt was not made: another replica delivers");
        } else if let Some(unlogged) = self.unrecorded.note(self.clock.now()) {
            tracing::error!(target, event_id, %error, unlogged, "an attempt could not be recorded and was not made");
        }
    }

    fn report(&self, ended: &Ended) {
        let Ended { job, report, settlement, trace } = ended;
        let event_id = job.event.event.id.as_str();
        let (target, attempt, status) = (&*self.target, settlement.number, settlement.status);
        let duration_ms = millis(report.duration);
        let error = report.error.as_deref();
        let now = self.clock.now();
        let retry_in_ms = due_again(settlement).map(|due_at| millis(due_at.since(now)));
        // The level of a line has to be constant: one line for each level, with the same fields.
        macro_rules! tell {
            ($level:ident, $message:literal) => {
                tracing::$level!(event_id, target, attempt, status, duration_ms, error, retry_in_ms, $message)
            };
        }
        self.meters.duration.record(report.duration);
        if let Some(trace) = trace {
            trace.ended(&traces::Outcome {
                event_id,
                target,
                number: attempt,
                status,
                outcome: outcome(settlement.next),
                error,
                started: settlement.started_at.into(),
                duration: report.duration,
            });
        }
        match settlement.next {
            Next::Delivered => {
                self.meters.delivered.increment(1);
                // The time of a replay or retry by an operator is not the time of a delivery.
                if job.replays == 0 && !job.renewed {
                    self.meters.end_to_end.record(now.since(job.event.received_at));
                }
                // There are thousands of these a second. A delivery with earlier attempts was in the
                // log before.
                if attempt == 1 {
                    tell!(debug, "delivered");
                } else {
                    tell!(info, "delivered");
                }
            }
            Next::Retrying { .. } => {
                self.meters.retried.increment(1);
                tell!(warn, "delivery failed, will retry");
            }
            Next::Held => {
                self.meters.held.increment(1);
                tell!(warn, "delivery held: its outcome is unknown");
            }
            Next::Dead => {
                self.meters.dead.increment(1);
                tell!(error, "delivery dead: given up");
            }
        }
    }
}

/// Returns the name of an attempt's outcome in metrics and traces.
const fn outcome(next: Next) -> &'static str {
    match next {
        Next::Delivered => "delivered",
        Next::Retrying { .. } => "retried",
        Next::Held => "held",
        Next::Dead => "dead",
    }
}

/// Returns when a settled delivery is due again, if it is retried.
pub(super) const fn due_again(settlement: &Settlement) -> Option<UnixMillis> {
    match settlement.next {
        Next::Retrying { due_at } => Some(due_at),
        Next::Delivered | Next::Held | Next::Dead => None,
    }
}
