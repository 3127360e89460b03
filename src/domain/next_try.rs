//! Finds the reason why a delivery waits before its next attempt. Pure.

use serde::Serialize;

use super::clock::UnixMillis;
use super::delivery::State;
use super::status::{Circuit, TargetStatus};

/// The reason why a delivery waits, and the end of the wait if it is a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextTry {
    /// The reason.
    pub waits_for: WaitsFor,
    /// When the wait ends; null if that is not known.
    pub at: Option<UnixMillis>,
    /// The event before it in its lane, if it waits for one.
    pub event_id: Option<String>,
}

/// The reason why a delivery waits. If there are several, the one that lasts longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// A place on the wire, or its time by `rate_limit`: it is sent as soon as there is one.
    Place,
    /// The end of its own wait after a failed attempt.
    Time,
    /// The end of the target's `Retry-After`.
    RetryAfter,
    /// The next probe of the target's breaker. It is sent at the first success, or as a probe itself.
    Probe,
    /// An earlier event of its lane.
    Event,
    /// A paused target, until an operator resumes it.
    Pause,
    /// An operator's decision about it: it is held.
    Operator,
    /// A target of this name: none is configured.
    Target,
}

/// The facts about a delivery on which its next attempt depends.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// Its state.
    pub state: State,
    /// Whether an attempt was made.
    pub tried: bool,
    /// When its own wait ends.
    pub due_at: Option<UnixMillis>,
    /// The event before it in its lane.
    pub behind: Option<&'a str>,
}

impl Waiting<'_> {
    /// Returns why the delivery waits at `now`; `None` if it is on the wire, or has ended. `target` is
    /// the status of its target, if that is configured.
    pub fn next_try(&self, target: Option<&TargetStatus>, now: UnixMillis) -> Option<NextTry> {
        if self.state.is_settled() || self.state == State::Sending {
            return None;
        }
        let wait = |waits_for| Some(NextTry { waits_for, at: None, event_id: None });
        if self.state == State::Held {
            return wait(WaitsFor::Operator);
        }
        let Some(target) = target else { return wait(WaitsFor::Target) };
        if target.paused {
            return wait(WaitsFor::Pause);
        }
        if let Some(before) = self.behind {
            let event_id = Some(before.to_owned());
            return Some(NextTry { waits_for: WaitsFor::Event, at: None, event_id });
        }
        let probe = (target.circuit != Circuit::Closed).then(|| {
            let next = target.next_probe;
            // While a probe is on the wire, its end decides.
            next.map_or(now, |next| if self.tried { next.retry_at } else { next.first_attempt_at })
        });
        let waits = [
            (WaitsFor::Time, self.due_at.filter(|at| *at > now)),
            (WaitsFor::RetryAfter, target.retry_after_until.filter(|at| *at > now)),
            (WaitsFor::Probe, probe),
        ];
        let longest = waits.into_iter().filter_map(|(what, at)| Some((what, at?))).max_by_key(|(_, at)| *at);
        let Some((waits_for, at)) = longest else { return wait(WaitsFor::Place) };
        Some(NextTry { waits_for, at: Some(at).filter(|at| *at > now), event_id: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::status::NextProbe;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const SOON: UnixMillis = UnixMillis(1_001_000);
    const LATER: UnixMillis = UnixMillis(1_002_000);

    fn target() -> TargetStatus {
        TargetStatus::new("orders".into())
    }

    fn of(state: State) -> Waiting<'static> {
        Waiting { state, tried: state == State::Retrying, due_at: None, behind: None }
    }

    fn waits(waiting: &Waiting<'_>, target: &TargetStatus) -> (WaitsFor, Option<UnixMillis>) {
        let next = waiting.next_try(Some(target), NOW).unwrap();
        (next.waits_for, next.at)
    }

    #[test]
    fn a_delivery_that_is_on_the_wire_or_has_ended_waits_for_nothing() {
        for state in State::ALL {
            let waits = of(state).next_try(Some(&target()), NOW).is_some();
            assert_eq!(waits, matches!(state, State::Pending | State::Retrying | State::Held), "{state:?}");
        }
    }

    #[test]
    fn the_longest_of_several_waits_is_reported() {
        let probing = NextProbe { first_attempt_at: SOON, retry_at: LATER };
        let open = TargetStatus { circuit: Circuit::Open, next_probe: Some(probing), ..target() };
        let asks = |at| TargetStatus { retry_after_until: Some(at), ..target() };
        let retry = |at| Waiting { due_at: Some(at), ..of(State::Retrying) };
        assert_eq!(waits(&of(State::Pending), &target()), (WaitsFor::Place, None));
        assert_eq!(waits(&retry(NOW), &target()), (WaitsFor::Place, None));
        assert_eq!(waits(&retry(SOON), &target()), (WaitsFor::Time, Some(SOON)));
        assert_eq!(waits(&retry(SOON), &asks(LATER)), (WaitsFor::RetryAfter, Some(LATER)));
        assert_eq!(waits(&retry(LATER), &asks(SOON)), (WaitsFor::Time, Some(LATER)));
        assert_eq!(waits(&of(State::Pending), &asks(NOW)), (WaitsFor::Place, None), "that is over");
        assert_eq!(waits(&of(State::Pending), &open), (WaitsFor::Probe, Some(SOON)));
        assert_eq!(waits(&retry(SOON), &open), (WaitsFor::Probe, Some(LATER)));
        let trying = TargetStatus { circuit: Circuit::HalfOpen, ..target() };
        assert_eq!(waits(&retry(NOW), &trying), (WaitsFor::Probe, None));
    }

    #[test]
    fn a_wait_without_an_end_comes_before_one_with_an_end() {
        let paused = TargetStatus { paused: true, retry_after_until: Some(LATER), ..target() };
        let behind = Waiting { behind: Some("evt_1"), due_at: Some(SOON), ..of(State::Pending) };
        assert_eq!(waits(&behind, &paused), (WaitsFor::Pause, None));
        assert_eq!(waits(&behind, &target()), (WaitsFor::Event, None));
        assert_eq!(waits(&of(State::Held), &paused), (WaitsFor::Operator, None));
        let none = behind.next_try(None, NOW).unwrap();
        assert_eq!(none.waits_for, WaitsFor::Target);
    }
}
