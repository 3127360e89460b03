//! Looks for new and ended alerts, and sends their messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use metrics::counter;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::tracker::Tracker;
use super::{Settings, message};
use crate::delivery::{BuildError, MessageOutcome, Settings as Address, TargetClient};
use crate::domain::alert::{Alert, AlertOutcome, Findings, Kind};
use crate::domain::backoff::{Backoff, Jitter};
use crate::domain::clock::{Clock, millis};
use crate::domain::operator::OperationError;
use crate::telemetry::names;

/// The time between two looks at the state.
const LOOK: Duration = Duration::from_secs(5);

/// The largest number of waiting messages; beyond it the oldest is dropped.
const WAITING: usize = 100;

/// The shortest and the longest wait between two tries to send a message.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(5);

const BACKOFF: Backoff = Backoff::between(RETRY_MIN, RETRY_MAX);

/// How long the sender tries to send a message.
const GIVE_UP_AFTER: Duration = Duration::from_hours(1);

/// How long an alert is remembered that another replica has to send. A replica that takes the task over
/// sends these alerts: the other one may have ended before it noticed them, or before it sent them.
const TAKE_OVER: Duration = Duration::from_mins(1);

/// The receiver of alerts, ready to be used.
#[derive(Debug)]
pub struct Channel {
    settings: Settings,
    client: TargetClient,
}

impl Channel {
    fn new(settings: Settings, clock: Clock) -> Result<Self, BuildError> {
        let address = Address::of_messages("alerts", settings.url.clone(), settings.signing_keys.clone());
        Ok(Self { client: TargetClient::new(address, clock)?, settings })
    }

    async fn send(&self, id: &str, message: Vec<u8>) -> MessageOutcome {
        self.client.send_message(id, Bytes::from(message)).await
    }
}

/// The handle on the alerts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Alerts {
    channel: watch::Sender<Option<Arc<Channel>>>,
    clock: Clock,
    /// Locked while a test message is on the wire.
    testing: Arc<Mutex<()>>,
}

/// The task that sends the alerts.
#[derive(Debug)]
pub struct Watcher {
    channel: watch::Receiver<Option<Arc<Channel>>>,
    clock: Clock,
    jitter: Jitter,
    tracker: Tracker,
    /// Whether this process sends the alerts, among the replicas.
    here: watch::Receiver<bool>,
    waiting: VecDeque<Message>,
    /// The latest alerts that another replica has to send.
    of_others: VecDeque<(Instant, Alert)>,
    /// When the first waiting message may be sent.
    next_at: Instant,
    /// The number of messages since the start, for their ids.
    numbered: u64,
}

/// A waiting message.
#[derive(Debug)]
struct Message {
    alert: Alert,
    id: String,
    /// Since when it waits.
    since: Instant,
    failures: u32,
}

type Sending = BoxFuture<'static, (Message, MessageOutcome)>;
type Looking = BoxFuture<'static, Findings>;

/// Returns the handle of alerts to the receiver in `settings`, and the task that sends them while
/// this process is the one to do so (`here`).
///
/// # Errors
/// [`BuildError`] if the address cannot be used.
pub fn watcher(
    settings: Option<Settings>,
    clock: Clock,
    jitter: Jitter,
    here: watch::Receiver<bool>,
) -> Result<(Alerts, Watcher), BuildError> {
    let channel = settings.map(|settings| Channel::new(settings, clock.clone())).transpose()?;
    let (sender, channel) = watch::channel(channel.map(Arc::new));
    let watcher = Watcher {
        channel,
        clock: clock.clone(),
        jitter,
        tracker: Tracker::default(),
        here,
        waiting: VecDeque::new(),
        of_others: VecDeque::new(),
        next_at: Instant::now(),
        numbered: 0,
    };
    Ok((Alerts { channel: sender, clock, testing: Arc::default() }, watcher))
}

impl Alerts {
    /// Returns whether alerts are sent by `settings` now.
    pub fn are(&self, settings: Option<&Settings>) -> bool {
        self.channel.borrow().as_ref().map(|channel| &channel.settings) == settings
    }

    /// Returns a channel by `settings`, if there are any.
    ///
    /// # Errors
    /// [`BuildError`] if the address cannot be used.
    pub fn prepare(&self, settings: Option<&Settings>) -> Result<Option<Channel>, BuildError> {
        settings.map(|settings| Channel::new(settings.clone(), self.clock.clone())).transpose()
    }

    /// Sends alerts to `channel` from now on. Every firing alert is sent there again.
    pub fn replace(&self, channel: Option<Channel>) {
        self.channel.send_replace(channel.map(Arc::new));
    }

    /// Sends a message that says nothing is wrong, once.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if no alerts are configured, [`OperationError::Busy`]
    /// while another test is on the wire.
    pub async fn test(&self) -> Result<AlertOutcome, OperationError> {
        let unset =
            || OperationError::Refused("no alerts are configured: `alerts.url` is not set".to_owned());
        let channel = self.channel.borrow().clone().ok_or_else(unset)?;
        let _one = self.testing.try_lock().map_err(|_| OperationError::Busy)?;
        let now = self.clock.now();
        let id = format!("alert_test_{}", now.0);
        let outcome = channel.send(&id, message::test(channel.settings.format, now)).await;
        Ok(AlertOutcome {
            id,
            acknowledged: outcome.acknowledged,
            status: outcome.status,
            duration_ms: millis(outcome.duration),
            error: outcome.error,
        })
    }
}

impl Watcher {
    /// Looks at the state by `look`, and sends the alerts that have begun or ended, until `stop`.
    /// Messages that wait then are not sent.
    pub async fn run(mut self, look: impl Fn() -> Looking + Send, stop: CancellationToken) {
        // A series that begins at its first alert would hide that one from `increase()`.
        for kind in Kind::ALL {
            for outcome in ["sent", "failed"] {
                counter!(names::ALERTS, "kind" => kind.as_str(), "outcome" => outcome).increment(0);
            }
        }
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looking, mut sending): (Option<Looking>, Option<Sending>) = (None, None);
        loop {
            if sending.is_none() && self.next_at <= Instant::now() {
                sending = self.send_next();
            }
            let waits = sending.is_none() && !self.waiting.is_empty();
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick(), if looking.is_none() => {
                    looking = self.channel.borrow().is_some().then(&look);
                }
                findings = async { Some(looking.as_mut()?.as_mut().await) }, if looking.is_some() => {
                    looking = None;
                    if let Some(findings) = findings {
                        self.take(findings, Instant::now());
                    }
                }
                ended = async { Some(sending.as_mut()?.as_mut().await) }, if sending.is_some() => {
                    sending = None;
                    if let Some((message, outcome)) = ended {
                        self.take_ended(message, outcome, Instant::now());
                    }
                }
                () = sleep_until(self.next_at), if waits => {}
                Ok(()) = self.channel.changed() => {
                    // A new receiver has got none of the firing alerts yet.
                    self.tracker = Tracker::default();
                    self.next_at = Instant::now();
                }
            }
        }
    }

    fn take(&mut self, mut findings: Findings, now: Instant) {
        let Some(channel) = self.channel.borrow().clone() else { return };
        findings.all.retain(|finding| channel.settings.on.contains(&finding.kind));
        let news = self.tracker.observe(findings, self.clock.now());
        let here = *self.here.borrow();
        if here {
            let missed = std::mem::take(&mut self.of_others).into_iter();
            missed
                .filter(|(at, _)| now.duration_since(*at) < TAKE_OVER)
                .for_each(|(_, alert)| self.put(alert, now));
        }
        for alert in news {
            if here || alert.kind.is_of_one_replica() {
                self.put(alert, now);
            } else {
                if self.of_others.len() == WAITING {
                    self.of_others.pop_front();
                }
                self.of_others.push_back((now, alert));
            }
        }
    }

    /// Logs `alert`, and puts its message behind the waiting ones.
    fn put(&mut self, alert: Alert, now: Instant) {
        self.numbered += 1;
        let id = format!("alert_{}_{}", alert.at.0, self.numbered);
        let (kind, name) = (alert.kind.as_str(), &*alert.name);
        tracing::info!(kind, name, resolved = alert.resolved, summary = alert.summary, "alert");
        if self.waiting.len() == WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            oldest.left_out("too many wait");
        }
        self.waiting.push_back(Message { alert, id, since: now, failures: 0 });
    }

    fn send_next(&mut self) -> Option<Sending> {
        let Some(channel) = self.channel.borrow().clone() else {
            self.waiting.clear();
            return None;
        };
        let message = self.waiting.pop_front()?;
        Some(Box::pin(async move {
            let bytes = message::of(&message.alert, channel.settings.format);
            let outcome = channel.send(&message.id, bytes).await;
            (message, outcome)
        }))
    }

    fn take_ended(&mut self, mut message: Message, outcome: MessageOutcome, now: Instant) {
        if outcome.acknowledged {
            self.next_at = now;
            return message.count("sent");
        }
        message.failures = message.failures.saturating_add(1);
        let error = outcome.error.unwrap_or_default();
        let wish = outcome.retry_after.unwrap_or_default().min(RETRY_MAX);
        let wait = BACKOFF.delay(message.failures, self.jitter.next()).max(wish);
        self.next_at = now + wait;
        if now.duration_since(message.since) >= GIVE_UP_AFTER {
            message.left_out(&error);
        } else {
            if message.failures == 1 {
                let (kind, name) = (message.alert.kind.as_str(), &*message.alert.name);
                tracing::warn!(kind, name, error, "an alert could not be sent, trying again");
            }
            self.waiting.push_front(message);
        }
    }
}

impl Message {
    fn left_out(self, why: &str) {
        let (kind, name) = (self.alert.kind.as_str(), &*self.alert.name);
        tracing::error!(
            kind,
            name,
            summary = self.alert.summary,
            why,
            "an alert is left out: it could not be sent"
        );
        self.count("failed");
    }

    fn count(&self, outcome: &'static str) {
        counter!(names::ALERTS, "kind" => self.alert.kind.as_str(), "outcome" => outcome).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Format;
    use crate::domain::alert::Finding;
    use crate::domain::clock::UnixMillis;

    /// Returns a task of a replica, and the flag that says whether it sends the alerts.
    fn replica() -> (Watcher, watch::Sender<bool>) {
        let settings = Settings {
            url: "http://127.0.0.1:9/".parse().unwrap(),
            signing_keys: Vec::new(),
            format: Format::Json,
            on: Kind::ALL.into(),
        };
        let (clock, jitter) = (Clock::from_fn(|| UnixMillis(1_000_000)), Jitter::from_fn(|| 0.5));
        let (flag, here) = watch::channel(false);
        (watcher(Some(settings), clock, jitter, here).unwrap().1, flag)
    }

    fn found(kinds: &[Kind]) -> Findings {
        let finding = |kind: &Kind| Finding {
            kind: *kind,
            name: "orders".to_owned(),
            summary: "so it is".to_owned(),
            occurrence: 1,
        };
        Findings { all: kinds.iter().map(finding).collect(), unknown: Vec::new() }
    }

    /// Returns the waiting messages: the kind of each, and whether its state is over.
    fn waiting(watcher: &Watcher) -> Vec<(Kind, bool)> {
        watcher.waiting.iter().map(|message| (message.alert.kind, message.alert.resolved)).collect()
    }

    #[tokio::test]
    async fn what_began_or_ended_just_before_a_take_over_is_sent_by_the_new_sender() {
        let (mut watcher, here) = replica();
        let begin = Instant::now();
        watcher.take(found(&[Kind::Dead]), begin);
        let now = begin + TAKE_OVER;
        watcher.take(found(&[Kind::Held]), now);
        assert_eq!(waiting(&watcher), [], "another replica sends them");
        here.send_replace(true);
        watcher.take(found(&[Kind::Held, Kind::Rejecting]), now);
        let expected = [(Kind::Dead, true), (Kind::Held, false), (Kind::Rejecting, false)];
        assert_eq!(waiting(&watcher), expected, "the begin of the first one is long sent");
        watcher.take(found(&[Kind::Held, Kind::Rejecting]), now);
        assert_eq!(waiting(&watcher), expected, "once");
    }

    #[tokio::test]
    async fn a_conflict_is_sent_by_the_replica_that_has_found_it() {
        let (mut watcher, _here) = replica();
        watcher.take(found(&[Kind::Conflict, Kind::Gap]), Instant::now());
        assert_eq!(waiting(&watcher), [(Kind::Conflict, false)]);
    }

    #[tokio::test]
    async fn a_message_is_given_up_after_an_hour_whatever_the_clock_says() {
        let (mut watcher, here) = replica();
        here.send_replace(true);
        let begin = Instant::now();
        watcher.take(found(&[Kind::Dead]), begin);
        let failed = MessageOutcome {
            acknowledged: false,
            status: Some(500),
            retry_after: None,
            error: Some("answered 500".to_owned()),
            duration: Duration::ZERO,
        };
        for (passed, kept) in [(Duration::from_mins(59), 1), (Duration::from_mins(60), 0)] {
            let message = watcher.waiting.pop_front().unwrap();
            watcher.take_ended(message, failed.clone(), begin + passed);
            assert_eq!(watcher.waiting.len(), kept, "{passed:?}");
        }
    }
}
