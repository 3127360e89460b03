//! The connection's life: when to try, when to ping, when to let go.

use std::time::Duration;

use super::{Command, Ending, Gap, Machine, Moment, Pace, Wake};
use crate::domain::backoff::{Backoff, Jitter};
use crate::pepay::error::{Failure, FailureKind};
use crate::source::stream::{Auth, Settings};

/// A connection that lasted this long (or `backoff_max`, if that is less) was
/// healthy, and the next loss begins a new series of waits. Shorter ones do not
/// count, so that a server that accepts and closes is no hot loop.
const HEALTHY_SPELL: Duration = Duration::from_secs(30);

/// The connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// None; the next try is made when the pace allows it.
    Down,
    /// A token is being minted or a connection opened.
    Connecting {
        /// Whether it asked to resume after an event.
        resuming: bool,
    },
    /// Open.
    Up {
        /// Since when.
        since: Duration,
        /// When a byte last arrived.
        heard: Duration,
        /// When the last ping was sent.
        pinged: Duration,
        /// Since when the store has been behind.
        stalled: Option<Duration>,
    },
}

/// Which step of a try to connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectStep {
    /// Minting the token.
    Token,
    /// Opening the WebSocket.
    Upgrade,
}

impl Pace {
    /// After a failure: the next try waits as the schedule says, and never less
    /// than Pepay asked for.
    pub(super) fn failed(&mut self, now: Moment, backoff: Backoff, jitter: &Jitter, floor: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        let wait = match floor {
            // Above the floor, so that many bridges do not return as one.
            Some(floor) => {
                (floor + backoff.delay(1, jitter.next())).max(backoff.delay(self.failures, jitter.next()))
            }
            None => backoff.delay(self.failures, jitter.next()),
        };
        self.not_before = now.at + wait;
    }

    /// After a refusal that only a person can end: the slowest pace, never faster.
    pub(super) fn refused(
        &mut self,
        now: Moment,
        backoff: Backoff,
        jitter: &Jitter,
        floor: Option<Duration>,
    ) {
        self.failures = self.failures.saturating_add(1);
        let slowest = backoff.max().mul_f64(1.0 + 0.1 * jitter.next());
        self.not_before = now.at + slowest.max(floor.unwrap_or_default());
    }
}

impl Machine {
    /// The connection is open.
    pub fn opened(&mut self, now: Moment) {
        self.link = Link::Up { since: now.at, heard: now.at, pinged: now.at, stalled: None };
        self.refusals = 0;
        self.replace_link = None;
        self.epoch += 1;
        self.next_walk = now.at;
        if self.unlisted {
            // Whether there is a list by now is asked once for each connection.
            self.lists = Pace::default();
        }
    }

    /// No connection came about.
    pub fn connect_failed(&mut self, now: Moment, step: ConnectStep, failure: &Failure) -> Ending {
        let resuming = matches!(self.link, Link::Connecting { resuming: true });
        self.link = Link::Down;
        let (backoff, floor) = (self.settings.backoff, failure.retry_after);
        self.be_quiet_for(now, floor);
        let ending = match failure.kind {
            FailureKind::Refused => Ending::Refused,
            FailureKind::Rejected | FailureKind::Missing => Ending::Rejected,
            FailureKind::RateLimited => Ending::RateLimited,
            FailureKind::Unavailable | FailureKind::Malformed => Ending::Unavailable,
            FailureKind::Unreachable => Ending::Unreachable,
        };
        self.refusals = if ending == Ending::Refused { self.refusals + 1 } else { 0 };
        let slow = match ending {
            // A token may have been revoked: one mint anew at the usual pace.
            Ending::Refused => {
                step == ConnectStep::Token || self.refusals > 1 || self.settings.auth == Auth::Header
            }
            // A cursor may have been forgotten: without it, REST brings what it stood for.
            Ending::Rejected if step == ConnectStep::Upgrade && resuming => {
                self.since_rejected = true;
                false
            }
            Ending::Rejected => true,
            _ => false,
        };
        if slow {
            self.connects.refused(now, backoff, &self.jitter, floor);
        } else {
            self.connects.failed(now, backoff, &self.jitter, floor);
        }
        ending
    }

    /// A byte last arrived then.
    pub fn heard(&mut self, at: Duration) {
        if let Link::Up { heard, .. } = &mut self.link {
            *heard = at.max(*heard);
        }
    }

    /// The connection has ended.
    pub fn closed(&mut self, now: Moment) {
        let Link::Up { since, .. } = self.link else { return };
        self.link = Link::Down;
        if now.at.saturating_sub(since) >= HEALTHY_SPELL.min(self.settings.backoff.max()) {
            self.connects = Pace::default();
        }
        self.connects.failed(now, self.settings.backoff, &self.jitter, None);
        self.open_gap();
    }

    /// A person wants a new connection: the one there is, is given up, and the
    /// next try waits for nothing but what Pepay asked for. One that is being
    /// opened already is what was wanted.
    pub fn reconnect(&mut self) {
        self.connects = Pace::default();
        self.refusals = 0;
        if matches!(self.link, Link::Up { .. }) {
            self.replace_link = Some(Ending::Operator);
        }
    }

    /// Whether the store keeps up with the frames.
    pub(super) fn keeps_up(&self) -> bool {
        matches!(self.link, Link::Up { .. }) && !self.pending.is_full()
    }

    pub(super) fn attend_link(&mut self, now: Moment, wake: &mut Wake) -> Option<Command> {
        match self.link {
            Link::Connecting { .. } => None,
            Link::Down => {
                if matches!(self.gap, Gap::Unknown) || self.pending.is_full() {
                    return None;
                }
                if !wake.is_due(now, self.connects.not_before.max(self.quiet_until)) {
                    return None;
                }
                let since =
                    self.position.as_ref().filter(|_| !self.since_rejected).and_then(|p| p.event.clone());
                self.link = Link::Connecting { resuming: since.is_some() };
                Some(Command::Connect { since })
            }
            Link::Up { heard, pinged, stalled, .. } => {
                let stalled = if self.keeps_up() { None } else { stalled.or(Some(now.at)) };
                let Settings { idle_timeout, ping_interval, .. } = self.settings;
                if let Some(ending) = self.replace_link.take() {
                    return Some(self.disconnect(now, ending));
                }
                // A stall has the same limit as silence.
                let (limit, ending) = match stalled {
                    Some(since) => (since + idle_timeout, Ending::Stalled),
                    None => (heard + idle_timeout, Ending::Idle),
                };
                if wake.is_due(now, limit) {
                    return Some(self.disconnect(now, ending));
                }
                let ping = wake.is_due(now, pinged + ping_interval);
                if let Link::Up { heard, pinged, stalled: was, .. } = &mut self.link {
                    if was.is_some() && stalled.is_none() {
                        *heard = now.at;
                    }
                    *was = stalled;
                    if ping {
                        *pinged = now.at;
                    }
                }
                ping.then_some(Command::Ping)
            }
        }
    }

    fn disconnect(&mut self, now: Moment, ending: Ending) -> Command {
        self.closed(now);
        if ending == Ending::Operator {
            self.connects = Pace::default();
        }
        Command::Disconnect(ending)
    }
}
