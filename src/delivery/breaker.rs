//! The breaker of a target. If everything fails, it stops the traffic and lets single probes through,
//! so that waiting deliveries spend no attempts on a target that is down. Pure; time is an argument.
//!
//! It judges the target and not an event. A retry may fail because of its event, whatever the target's
//! state, and a target that answers may refuse one event alone. `evidence.rs` weighs the failures; one
//! success outweighs all of them.

use std::collections::VecDeque;
use std::time::Duration;

use super::evidence::{Evidence, Finding, Health};
use crate::domain::backoff::Backoff;
use crate::domain::clock::UnixMillis;
use crate::domain::status::{Circuit, NextProbe};

/// The longest interval between probes, even if retries may wait longer.
const LONGEST_INTERVAL: Duration = Duration::from_mins(1);

/// The intervals for a target that answers every request with an error, such as 500. It may take the
/// next event, so first attempts go on one at a time.
const TRICKLE: ProbeIntervals =
    ProbeIntervals { first: Duration::from_millis(5), step: 500, longest: Duration::from_secs(1) };

/// The intervals for a target that answers that it is busy. It may mean the event alone, but is to be
/// spared.
const SPARING: ProbeIntervals =
    ProbeIntervals { first: Duration::from_millis(300), step: 8, longest: LONGEST_INTERVAL };

/// Intervals that double after each `step` probes.
struct ProbeIntervals {
    first: Duration,
    step: u32,
    longest: Duration,
}

impl ProbeIntervals {
    fn interval(&self, probes: u32) -> Duration {
        self.first.saturating_mul(1 << (probes / self.step).min(16)).min(self.longest)
    }
}

/// The number of the latest probes that are remembered, so that the next probe is about another
/// subject.
const PROBED: usize = 64;

/// The role of a request that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A regular request of a closed breaker.
    Regular,
    /// A probe, which tries whether the target works again.
    Probe,
}

/// The facts about an attempt that the breaker needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// The role in which it was let through.
    pub(super) role: Role,
    /// The subject: the lane of the delivery, or else its sequence.
    pub(super) subject: i64,
    /// Whether it was the delivery's first attempt.
    pub(super) first: bool,
}

/// A target's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    backoff: Backoff,
    evidence: Evidence,
    state: State,
    /// The subjects of the latest probes, the newest last.
    probed: VecDeque<i64>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(Schedule),
    Probing(Schedule),
}

/// The times at which probes may go out.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    /// When the next first attempt may go out.
    fresh_at: UnixMillis,
    /// When the next retry may go out.
    retry_at: UnixMillis,
    /// How many probes have failed.
    probes: u32,
    /// The finding about the target, which decides how often first attempts go out.
    finding: Finding,
}

/// The answer to the question whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// A request may go out now.
    Yes,
    /// One first attempt may go out now, as the probe.
    ProbeFresh,
    /// One retry may go out now, as the probe.
    ProbeRetry,
    /// None may go out before this time.
    NotBefore(UnixMillis),
    /// None may go out before the probe on the wire has ended.
    AfterProbe,
}

impl Breaker {
    /// Creates a closed breaker whose probes follow `backoff`.
    pub(super) fn new(backoff: Backoff) -> Self {
        let longest = backoff.max().min(LONGEST_INTERVAL);
        let first = backoff.ceiling(1).min(longest);
        let backoff = Backoff::new(first, longest).unwrap_or(backoff);
        Self { backoff, evidence: Evidence::default(), state: State::Closed, probed: VecDeque::new() }
    }

    /// Returns whether a request may go out at `now`. `fresh` says whether first attempts wait, and
    /// `retries` whether further attempts do. The caller reports a request that it sends by
    /// [`sent`](Self::sent).
    pub(super) fn ask(&self, now: UnixMillis, fresh: bool, retries: bool) -> Permit {
        let schedule = match &self.state {
            State::Closed => return Permit::Yes,
            State::Probing(_) => return Permit::AfterProbe,
            State::Open(schedule) => schedule,
        };
        // A time further away than any interval is from before the clock was set back.
        let is_due = |at: UnixMillis| at <= now || at > now.plus(self.backoff.max().max(TRICKLE.longest));
        if fresh && is_due(schedule.fresh_at) {
            return Permit::ProbeFresh;
        }
        if retries && is_due(schedule.retry_at) {
            return Permit::ProbeRetry;
        }
        let times = [(fresh, schedule.fresh_at), (retries, schedule.retry_at)];
        let next = times.into_iter().filter(|(waits, _)| *waits).map(|(_, at)| at.0).min();
        Permit::NotBefore(UnixMillis(next.unwrap_or(schedule.retry_at.0)))
    }

    /// Notes that a request about `subject` was sent. Returns its role.
    pub(super) fn sent(&mut self, subject: i64) -> Role {
        let State::Open(schedule) = self.state else { return Role::Regular };
        self.state = State::Probing(schedule);
        if self.probed.len() == PROBED {
            self.probed.pop_front();
        }
        self.probed.push_back(subject);
        Role::Probe
    }

    /// Returns whether one of the latest probes of this outage was about `subject`.
    pub(super) fn has_probed(&self, subject: i64) -> bool {
        self.probed.contains(&subject)
    }

    /// Notes that a request which was reported as sent was not: the probe is still due.
    pub(super) fn unsent(&mut self, role: Role) {
        if let (Role::Probe, State::Probing(schedule)) = (role, &self.state) {
            self.state = State::Open(*schedule);
        }
    }

    /// Notes the end of an attempt; `jitter` is a random number in `0.0..1.0`. Returns the circuit if
    /// it has opened or closed.
    pub(super) fn note(
        &mut self,
        tried: Tried,
        health: Health,
        now: UnixMillis,
        jitter: f64,
    ) -> Option<Circuit> {
        if health == Health::Up {
            let was_closed = matches!(self.state, State::Closed);
            self.evidence.refute();
            self.probed.clear();
            self.state = State::Closed;
            return (!was_closed).then_some(Circuit::Closed);
        }
        let finding = self.evidence.add(tried.subject, tried.first, health);
        match (&self.state, tried.role) {
            (State::Closed, _) => {
                if finding == Finding::Nothing {
                    return None;
                }
                let retry_at = now.plus(self.interval(1, jitter));
                // A finding from retries alone does not make a first attempt wait.
                let waits = self.evidence.is_from_first_attempts();
                let fresh_at = if waits { now.plus(self.between_first(finding, 0, jitter)) } else { now };
                self.state = State::Open(Schedule { fresh_at, retry_at, probes: 0, finding });
                Some(Circuit::Open)
            }
            (State::Probing(schedule), Role::Probe) => {
                let schedule = self.after_probe(*schedule, tried.first, finding, now, jitter);
                self.state = State::Open(schedule);
                None
            }
            // Requests that were on the wire when the breaker opened say nothing new.
            (State::Open(_) | State::Probing(_), _) => None,
        }
    }

    /// Returns the state of the circuit for the status.
    pub(super) const fn circuit(&self) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open(_) => Circuit::Open,
            State::Probing(_) => Circuit::HalfOpen,
        }
    }

    /// Returns when the next probes may go out, while the circuit is open.
    pub(super) const fn next_probe(&self) -> Option<NextProbe> {
        match self.state {
            State::Open(Schedule { fresh_at, retry_at, .. }) => {
                Some(NextProbe { first_attempt_at: fresh_at, retry_at })
            }
            State::Closed | State::Probing(_) => None,
        }
    }

    fn after_probe(
        &self,
        before: Schedule,
        first: bool,
        finding: Finding,
        now: UnixMillis,
        jitter: f64,
    ) -> Schedule {
        let probes = before.probes.saturating_add(1);
        // The finding that a target is down stays until a success.
        let finding = if finding == Finding::Nothing || before.finding == Finding::Down {
            before.finding
        } else {
            finding
        };
        let retry_at = now.plus(self.interval(probes.saturating_add(1), jitter));
        let fresh_at =
            if first { now.plus(self.between_first(finding, probes, jitter)) } else { before.fresh_at };
        // Errors of first attempts do not put off the retries further.
        let retry_at = if first && finding == Finding::OnlyErrors { before.retry_at } else { retry_at };
        Schedule { fresh_at, retry_at, probes, finding }
    }

    /// Returns the interval before the next first attempt, after `probes` probes.
    fn between_first(&self, finding: Finding, probes: u32, jitter: f64) -> Duration {
        match finding {
            Finding::OnlyErrors => TRICKLE.interval(probes),
            Finding::Busy => {
                let interval = SPARING.interval(probes).min(self.backoff.max());
                interval.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
            }
            Finding::Nothing | Finding::Down => self.interval(probes.saturating_add(1), jitter),
        }
    }

    /// Returns an interval between half the ceiling and the ceiling. Probes must not come in a burst,
    /// and the target of a single bridge needs no full jitter.
    fn interval(&self, probe: u32, jitter: f64) -> Duration {
        self.backoff.delay(probe, 0.5 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests;
