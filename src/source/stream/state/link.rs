//! The life of a connection: when to connect, when to ping, when to disconnect.

use std::time::Duration;

use super::{Effect, Ending, Gap, LeftOut, Machine, Moment, Notice, RetryTimer, Wake};
use crate::pepay::error::{Failure, FailureKind};
use crate::source::stream::{Auth, Settings};

/// How long a connection has to last (or `backoff_max`, if that is less) to be healthy. The next
/// loss then begins a new series of waits. Shorter connections do not count, so that a server that
/// accepts and closes does not cause a hot loop.
const HEALTHY_FOR: Duration = Duration::from_secs(30);

/// A live connection that lasts for this many times `backoff_min` is reliable too. A server that
/// ends each connection after a while is then connected again at once.
const LIVE_FOR: u32 = 10;

/// The number of connections in a row that end early before that is reported.
const THROWN_OUT: u32 = 3;

/// The number of connections in a row that resumed, brought no event and ended early before the
/// cursor is left out.
const FRUITLESS: u32 = 3;

/// How the present connection and those before it have fared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stability {
    /// The number of connections in a row that ended before they were reliable.
    short: u32,
    /// The number of these in a row that resumed and brought no event.
    fruitless: u32,
    /// Whether this connection asked to resume.
    resumed: bool,
    /// Whether it has brought an event.
    brought: bool,
    /// Since when it is live.
    live: Option<Duration>,
    /// Whether it is reliable.
    steady: bool,
}

impl Stability {
    fn begin(&mut self, resumed: bool) {
        *self = Self { short: self.short, fruitless: self.fruitless, resumed, ..Self::default() };
    }

    /// Notes that an event has arrived.
    pub(super) const fn brought(&mut self) {
        self.brought = true;
    }
}

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// There is no connection. The next try is made at the time that the pace allows.
    Down,
    /// A token is being minted or a connection is being opened.
    Connecting {
        /// Whether it asked to resume after an event.
        resuming: bool,
    },
    /// The connection is open.
    Up {
        /// Since when it is open.
        since: Duration,
        /// When a byte last arrived.
        heard: Duration,
        /// When the last ping was sent.
        pinged: Duration,
        /// Since when the store has been behind.
        stalled: Option<Duration>,
    },
}

/// The step of a try to connect that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectStep {
    /// Comparing the account of the token with that of the stored events.
    Identity,
    /// Minting the token.
    Token,
    /// Opening the WebSocket.
    Upgrade,
}

impl Machine {
    /// Notes that the connection is open.
    pub fn opened(&mut self, now: Moment) {
        let resuming = matches!(self.link, Link::Connecting { resuming: true });
        self.link = Link::Up { since: now.at, heard: now.at, pinged: now.at, stalled: None };
        self.stability.begin(resuming);
        self.refusals = 0;
        self.replace_link = None;
        self.epoch += 1;
        self.next_walk = self.next_walk.min(now.at);
        match &mut self.gap {
            Gap::Closed => self.went_live(now),
            Gap::Open(open) => {
                open.walked = false;
                self.leave_list_to_walk();
            }
            Gap::Unknown { .. } => {}
        }
    }

    /// Notes that everything before the live frames is stored.
    pub(super) fn went_live(&mut self, now: Moment) {
        if matches!(self.link, Link::Up { .. }) {
            self.stability.live.get_or_insert(now.at);
            if self.stability.short < THROWN_OUT {
                self.notices.push_back(Notice::Steady);
            }
        }
    }

    /// Notes that the connection is reliable, once it has lasted.
    fn note_steady(&mut self, now: Moment, since: Duration, wake: &mut Wake) {
        if self.stability.steady {
            return;
        }
        let backoff = self.settings.backoff;
        let lasted = since + HEALTHY_FOR.min(backoff.max());
        let live = self.stability.live.map(|live| live + (backoff.min() * LIVE_FOR).min(backoff.max()));
        if wake.is_due(now, live.map_or(lasted, |live| live.min(lasted))) {
            self.stability.steady = true;
            (self.stability.short, self.stability.fruitless) = (0, 0);
            self.notices.push_back(Notice::Steady);
        }
    }

    /// Notes that no connection was opened.
    pub fn connect_failed(&mut self, now: Moment, step: ConnectStep, failure: &Failure) -> Ending {
        let resuming = matches!(self.link, Link::Connecting { resuming: true });
        self.link = Link::Down;
        let (backoff, floor) = (self.settings.backoff, failure.retry_after);
        self.be_quiet_for(now, floor);
        // The silence that the list has asked for does not count here: it has a limit of its own.
        self.link_quiet_until = self.link_quiet_until.max(now.at + floor.unwrap_or_default());
        let ending = match failure.kind {
            FailureKind::Refused => Ending::Refused,
            FailureKind::Rejected | FailureKind::Missing => Ending::Rejected,
            FailureKind::RateLimited => Ending::RateLimited,
            FailureKind::Unavailable | FailureKind::Malformed => Ending::Unavailable,
            FailureKind::Unreachable => Ending::Unreachable,
        };
        self.refusals = if ending == Ending::Refused { self.refusals + 1 } else { 0 };
        let slow = match ending {
            // The token may have been revoked: one is minted anew at the usual pace.
            Ending::Refused => {
                step == ConnectStep::Token || self.refusals > 1 || self.settings.auth == Auth::Header
            }
            // Pepay may have forgotten the cursor. Without it, REST brings the events after it.
            Ending::Rejected if step == ConnectStep::Upgrade && resuming => {
                self.since_rejected = true;
                false
            }
            // Pepay may reject one of the filters. The bridge then applies it itself.
            Ending::Rejected if step == ConnectStep::Upgrade && failure.kind == FailureKind::Rejected => {
                let narrowing = self.stream_refusals.refused(now);
                let notice = |narrowing| Notice::Narrowed { what: "subscription", narrowing };
                self.notices.extend(narrowing.map(notice));
                narrowing.is_none()
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

    /// Notes when a byte last arrived.
    pub fn heard(&mut self, at: Duration) {
        if let Link::Up { heard, .. } = &mut self.link {
            *heard = at.max(*heard);
        }
    }

    /// Notes that the connection has ended.
    pub fn closed(&mut self, now: Moment) {
        self.end_link(now, false);
    }

    fn end_link(&mut self, now: Moment, is_ours: bool) {
        let Link::Up { since, .. } = self.link else { return };
        self.note_steady(now, since, &mut Wake::default());
        self.link = Link::Down;
        if self.stability.steady {
            self.connects = RetryTimer::default();
        } else if !is_ours {
            self.note_thrown_out();
        }
        self.connects.failed(now, self.settings.backoff, &self.jitter, None);
        self.open_gap();
    }

    fn note_thrown_out(&mut self) {
        let Stability { resumed, brought, .. } = self.stability;
        self.stability.short = self.stability.short.saturating_add(1);
        self.stability.fruitless = if resumed && !brought { self.stability.fruitless + 1 } else { 0 };
        if self.stability.short >= THROWN_OUT {
            self.notices.push_back(Notice::ThrownOut { times: self.stability.short });
        }
        if self.stability.fruitless >= FRUITLESS {
            self.stability.fruitless = 0;
            self.since_rejected = true;
            self.notices.push_back(Notice::CursorRefused);
        }
    }

    /// Replaces the connection for an operator. The next try waits only as long as Pepay has asked
    /// for. A connection that is already being opened is kept.
    pub fn reconnect(&mut self) {
        self.connects = RetryTimer::default();
        self.refusals = 0;
        if !matches!(self.link, Link::Connecting { .. }) {
            (self.since_rejected, self.stream_refusals) = (false, LeftOut::default());
        }
        if matches!(self.link, Link::Up { .. }) {
            self.replace_link = Some(Ending::Operator);
        }
    }

    /// Returns whether the store keeps up with the frames.
    pub(super) fn keeps_up(&self) -> bool {
        matches!(self.link, Link::Up { .. }) && !self.pending.is_full()
    }

    pub(super) fn attend_link(&mut self, now: Moment, wake: &mut Wake) -> Option<Effect> {
        match self.link {
            Link::Connecting { .. } => None,
            Link::Down => {
                if matches!(self.gap, Gap::Unknown { .. }) || self.pending.is_full() {
                    return None;
                }
                if !wake.is_due(now, self.connects.not_before.max(self.link_quiet_until)) {
                    return None;
                }
                let since =
                    self.position.as_ref().filter(|_| !self.since_rejected).and_then(|p| p.event.clone());
                self.link = Link::Connecting { resuming: since.is_some() };
                Some(Effect::Connect { since, narrowing: self.stream_refusals.begin(now) })
            }
            Link::Up { since: opened, heard, pinged, stalled } => {
                self.note_steady(now, opened, wake);
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
                ping.then_some(Effect::Ping)
            }
        }
    }

    fn disconnect(&mut self, now: Moment, ending: Ending) -> Effect {
        self.end_link(now, ending != Ending::Idle);
        if ending == Ending::Operator {
            self.connects = RetryTimer::default();
        }
        Effect::Disconnect(ending)
    }
}
