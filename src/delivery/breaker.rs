//! The breaker of a target: after failures in a row it stops the traffic and
//! lets single probes through at growing intervals, so that what waits spends no
//! attempts on a target that is down. Pure; time is an argument.

use std::time::Duration;

use crate::domain::backoff::Backoff;
use crate::domain::clock::UnixMillis;
use crate::domain::status::Circuit;

/// Failures in a row after which the breaker opens.
const THRESHOLD: u32 = 5;

/// The longest interval between probes, however long retries may wait.
const LONGEST_INTERVAL: Duration = Duration::from_mins(1);

/// What an attempt says about the target as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered, if only to say no to this event.
    Up,
    /// It was not reached, did not answer, or said that it is in trouble.
    Down,
}

/// What a request was let through as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// One of many.
    Regular,
    /// The one that tries whether the target is back.
    Probe,
}

/// A target's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    backoff: Backoff,
    failures: u32,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: UnixMillis, probes: u32 },
    Probing { probes: u32 },
}

/// Whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// Now.
    Yes,
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
        Self { backoff, failures: 0, state: State::Closed }
    }

    /// Whether a request may go out at `now`. Whoever sends one says so by
    /// [`sent`](Self::sent).
    pub(super) fn ask(&self, now: UnixMillis) -> Permit {
        match self.state {
            // Further away than any interval: the clock was set back.
            State::Open { until, .. } if until > now.plus(self.backoff.max()) => Permit::Yes,
            State::Open { until, .. } if now < until => Permit::NotBefore(until),
            State::Closed | State::Open { .. } => Permit::Yes,
            State::Probing { .. } => Permit::AfterProbe,
        }
    }

    /// Takes note that a request has gone out, and answers as what.
    pub(super) const fn sent(&mut self) -> Role {
        if let State::Open { probes, .. } = self.state {
            self.state = State::Probing { probes: probes + 1 };
            Role::Probe
        } else {
            Role::Regular
        }
    }

    /// Takes note that a request said to have gone out has not: a probe is due still.
    pub(super) fn unsent(&mut self, role: Role, now: UnixMillis) {
        if let (Role::Probe, State::Probing { probes }) = (role, &self.state) {
            self.state = State::Open { until: now, probes: probes.saturating_sub(1) };
        }
    }

    /// Takes note of an attempt's end; `jitter` is a random number in `0.0..1.0`.
    /// Answers the circuit if it changed.
    pub(super) fn note(
        &mut self,
        role: Role,
        health: Health,
        now: UnixMillis,
        jitter: f64,
    ) -> Option<Circuit> {
        let before = self.circuit();
        match health {
            Health::Up => {
                self.failures = 0;
                self.state = State::Closed;
            }
            Health::Down => {
                self.failures = self.failures.saturating_add(1);
                match (&self.state, role) {
                    (State::Closed, _) if self.failures >= THRESHOLD => self.open(0, now, jitter),
                    (State::Probing { probes }, Role::Probe) => self.open(*probes, now, jitter),
                    // Requests that were out when it opened say nothing new.
                    (State::Closed | State::Open { .. } | State::Probing { .. }, _) => {}
                }
            }
        }
        Some(self.circuit()).filter(|after| *after != before)
    }

    /// What to show.
    pub(super) const fn circuit(&self) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open { .. } => Circuit::Open,
            State::Probing { .. } => Circuit::HalfOpen,
        }
    }

    fn open(&mut self, probes: u32, now: UnixMillis, jitter: f64) {
        // Between half the ceiling and the whole of it: probes must not come in a
        // burst, and the target of a single bridge needs no full jitter.
        let wait = self.backoff.delay(probes + 1, 0.5 + jitter / 2.0);
        self.state = State::Open { until: now.plus(wait), probes };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn breaker() -> Breaker {
        Breaker::new(Backoff::new(Duration::from_secs(1), Duration::from_secs(3600)).unwrap())
    }

    fn open_breaker() -> Breaker {
        let mut breaker = breaker();
        for _ in 1..THRESHOLD {
            assert_eq!(breaker.note(Role::Regular, Health::Down, NOW, 1.0), None);
        }
        assert_eq!(breaker.note(Role::Regular, Health::Down, NOW, 1.0), Some(Circuit::Open));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not_count_as_one() {
        let mut breaker = breaker();
        for _ in 0..20 {
            for _ in 1..THRESHOLD {
                breaker.note(Role::Regular, Health::Down, NOW, 0.5);
            }
            breaker.note(Role::Regular, Health::Up, NOW, 0.5);
        }
        assert_eq!(breaker.ask(NOW), Permit::Yes);
        assert_eq!(open_breaker().ask(NOW), Permit::NotBefore(NOW.plus(Duration::from_secs(1))));
    }

    #[test]
    fn one_probe_goes_out_at_a_time_and_the_intervals_grow() {
        let mut breaker = open_breaker();
        let (mut now, mut intervals) = (NOW, Vec::new());
        for _ in 0..9 {
            let Permit::NotBefore(until) = breaker.ask(now) else { panic!("open") };
            intervals.push(until.since(now).as_secs());
            now = until;
            assert_eq!(breaker.ask(now), Permit::Yes);
            assert_eq!(breaker.sent(), Role::Probe);
            assert_eq!(breaker.ask(now), Permit::AfterProbe);
            breaker.note(Role::Probe, Health::Down, now, 1.0);
        }
        assert_eq!(intervals, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_probe_that_never_left_is_still_due() {
        let (mut breaker, later) = (open_breaker(), NOW.plus(Duration::from_secs(1)));
        let role = breaker.sent();
        breaker.unsent(role, later);
        assert_eq!(breaker.ask(later), Permit::Yes);
    }

    #[test]
    fn the_first_success_closes_it() {
        let mut breaker = open_breaker();
        let role = breaker.sent();
        assert_eq!(breaker.note(role, Health::Up, NOW, 0.5), Some(Circuit::Closed));
        assert_eq!(breaker.ask(NOW), Permit::Yes);
        assert_eq!(breaker.note(Role::Regular, Health::Down, NOW, 0.5), None);
    }

    #[test]
    fn the_failure_of_a_request_from_before_is_not_that_of_the_probe() {
        let mut breaker = open_breaker();
        breaker.sent();
        assert_eq!(breaker.note(Role::Regular, Health::Down, NOW, 0.5), None);
        assert_eq!(breaker.ask(NOW), Permit::AfterProbe);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_put_off_the_next_probe() {
        assert_eq!(open_breaker().ask(UnixMillis(NOW.0 - 3_600_000)), Permit::Yes);
    }
}
