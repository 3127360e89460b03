//! The breaker of a target: where everything fails it stops the traffic and lets
//! single probes through, so that what waits spends no attempts on a target that
//! is down. Pure; time is an argument.
//!
//! It judges the target and not an event. What has failed before, fails again
//! whatever the target's state, and a target that answers may be refusing one
//! event alone. `evidence.rs` weighs that; one success outweighs all of it.

use std::collections::VecDeque;
use std::time::Duration;

use super::evidence::{Evidence, Finding, Health};
use crate::domain::backoff::Backoff;
use crate::domain::clock::UnixMillis;
use crate::domain::status::{Circuit, NextProbe};

/// The longest interval between probes, however long retries may wait.
const LONGEST_INTERVAL: Duration = Duration::from_mins(1);

/// A target that answers everything with an error, such as 500, may take the next
/// event: first attempts go on one at a time, in a trickle.
const TRICKLE: Ladder =
    Ladder { first: Duration::from_millis(5), step: 500, longest: Duration::from_secs(1) };

/// One that says it is busy may mean the event as well, and is to be spared.
const SPARING: Ladder = Ladder { first: Duration::from_millis(300), step: 8, longest: LONGEST_INTERVAL };

/// Intervals that double after so many probes each.
struct Ladder {
    first: Duration,
    step: u32,
    longest: Duration,
}

impl Ladder {
    fn interval(&self, probes: u32) -> Duration {
        self.first.saturating_mul(1 << (probes / self.step).min(16)).min(self.longest)
    }
}

/// How many of the latest probes are remembered, so that the next is about something else.
const PROBED: usize = 64;

/// What a request was let through as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// One of many.
    Regular,
    /// The one that tries whether the target is back.
    Probe,
}

/// An attempt, as far as a breaker needs to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// What it was let through as.
    pub(super) role: Role,
    /// What it was about: one number for each lane, or delivery.
    pub(super) subject: i64,
    /// Whether it was the delivery's first.
    pub(super) first: bool,
}

/// A target's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    backoff: Backoff,
    evidence: Evidence,
    state: State,
    /// What the latest probes were about, the newest last.
    probed: VecDeque<i64>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(Schedule),
    Probing(Schedule),
}

/// When probes may go out.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    /// The next first attempt.
    fresh_at: UnixMillis,
    /// The next retry.
    retry_at: UnixMillis,
    /// How many have failed.
    probes: u32,
    /// What the target is found to do, which decides how often first attempts go out.
    finding: Finding,
}

/// Whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// Now.
    Yes,
    /// One first attempt now, as the probe.
    ProbeFresh,
    /// One retry now, as the probe.
    ProbeRetry,
    /// Not before this time.
    NotBefore(UnixMillis),
    /// Not before the probe that is out has come back.
    AfterProbe,
}

impl Breaker {
    /// A closed breaker whose probes follow `backoff`.
    pub(super) fn new(backoff: Backoff) -> Self {
        let longest = backoff.max().min(LONGEST_INTERVAL);
        let first = backoff.ceiling(1).min(longest);
        let backoff = Backoff::new(first, longest).unwrap_or(backoff);
        Self { backoff, evidence: Evidence::default(), state: State::Closed, probed: VecDeque::new() }
    }

    /// Whether a request may go out at `now`, where `fresh` says that a first attempt
    /// waits and `retries` that a further one does. The caller reports one that it sends by
    /// [`sent`](Self::sent).
    pub(super) fn ask(&self, now: UnixMillis, fresh: bool, retries: bool) -> Permit {
        let schedule = match &self.state {
            State::Closed => return Permit::Yes,
            State::Probing(_) => return Permit::AfterProbe,
            State::Open(schedule) => schedule,
        };
        // Further away than any interval: the clock was set back.
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

    /// Takes note that a request about `subject` has gone out. Returns its role.
    pub(super) fn sent(&mut self, subject: i64) -> Role {
        let State::Open(schedule) = self.state else { return Role::Regular };
        self.state = State::Probing(schedule);
        if self.probed.len() == PROBED {
            self.probed.pop_front();
        }
        self.probed.push_back(subject);
        Role::Probe
    }

    /// Whether one of the latest probes of this outage was about `subject`.
    pub(super) fn has_probed(&self, subject: i64) -> bool {
        self.probed.contains(&subject)
    }

    /// Takes note that a request said to have gone out has not: a probe is due still.
    pub(super) fn unsent(&mut self, role: Role) {
        if let (Role::Probe, State::Probing(schedule)) = (role, &self.state) {
            self.state = State::Open(*schedule);
        }
    }

    /// Takes note of an attempt's end; `jitter` is a random number in `0.0..1.0`.
    /// Returns the circuit if it has opened or closed.
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
                // What is known from retries alone does not keep a first attempt waiting.
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
            // Requests that were out when it opened say nothing new.
            (State::Open(_) | State::Probing(_), _) => None,
        }
    }

    /// What to show.
    pub(super) const fn circuit(&self) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open(_) => Circuit::Open,
            State::Probing(_) => Circuit::HalfOpen,
        }
    }

    /// When the next probes may go out, while the circuit is open.
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
        // A target that was found to be down stays so until a success.
        let finding = if finding == Finding::Nothing || before.finding == Finding::Down {
            before.finding
        } else {
            finding
        };
        let retry_at = now.plus(self.interval(probes.saturating_add(1), jitter));
        let fresh_at =
            if first { now.plus(self.between_first(finding, probes, jitter)) } else { before.fresh_at };
        // Errors about first attempts are no reason to put off the retries further.
        let retry_at = if first && finding == Finding::OnlyErrors { before.retry_at } else { retry_at };
        Schedule { fresh_at, retry_at, probes, finding }
    }

    /// The interval before the next first attempt, after so many probes.
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

    /// Between half the ceiling and the whole of it: probes must not come in a
    /// burst, and the target of a single bridge needs no full jitter.
    fn interval(&self, probe: u32, jitter: f64) -> Duration {
        self.backoff.delay(probe, 0.5 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests;
