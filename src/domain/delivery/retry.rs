//! Decides what follows an attempt.

use std::time::Duration;

use super::state::State;
use super::step::{OnUncertain, Step};
use crate::domain::backoff::Backoff;
use crate::domain::clock::UnixMillis;

/// The outcome of an attempt. Every attempt ends in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The target answered 2xx.
    Acknowledged,
    /// There was no connection to the target. The delivery is retried; after the first attempt at once,
    /// since the target may just have closed an idle connection.
    Unreached,
    /// The target answered, and not with 2xx. The delivery is retried, not before `retry_after`.
    Refused {
        /// The wait that the target asks for in `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The target's answer is configured as final.
    Rejected,
    /// The request may have arrived; the answer did not.
    Uncertain,
}

/// The rules of a target for retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Waits between attempts.
    pub backoff: Backoff,
    /// How long after the first attempt the last one may begin.
    pub give_up_after: Duration,
    /// What follows an unknown outcome.
    pub on_uncertain: OnUncertain,
}

/// The facts about an ended attempt on which the next step depends.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// When the first attempt of this delivery began.
    pub first_at: UnixMillis,
    /// When this one ended.
    pub ended_at: UnixMillis,
    /// The outcome.
    pub verdict: Verdict,
}

/// The next step of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The delivery is finished.
    Delivered,
    /// The delivery is retried.
    Retrying {
        /// When the next attempt is due.
        due_at: UnixMillis,
    },
    /// The delivery waits for an operator.
    Held,
    /// The delivery is given up.
    Dead,
}

impl Next {
    /// Returns the step for the table of steps.
    pub const fn step(self) -> Step {
        match self {
            Self::Delivered => Step::Deliver,
            Self::Retrying { .. } => Step::Retry,
            Self::Held => Step::Hold,
            Self::Dead => Step::GiveUp,
        }
    }

    /// Returns the state after it.
    pub const fn state(self) -> State {
        self.step().to()
    }
}

impl RetryPolicy {
    /// Returns what follows `attempt`; `jitter` is a random number in `0.0..1.0`.
    pub fn next(&self, attempt: &Attempt, jitter: f64) -> Next {
        let wish = match attempt.verdict {
            Verdict::Acknowledged => return Next::Delivered,
            Verdict::Rejected => return Next::Dead,
            Verdict::Uncertain if self.on_uncertain == OnUncertain::Hold => return Next::Held,
            Verdict::Unreached if attempt.number == 1 => {
                return Next::Retrying { due_at: attempt.ended_at };
            }
            Verdict::Uncertain | Verdict::Unreached => None,
            Verdict::Refused { retry_after } => retry_after,
        };
        let wish = wish.unwrap_or_default().min(self.backoff.max());
        let wait = self.backoff.delay(attempt.number, jitter).max(wish);
        let due_at = attempt.ended_at.plus(wait);
        if due_at > attempt.first_at.plus(self.give_up_after) {
            Next::Dead
        } else {
            Next::Retrying { due_at }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis(1_000_000);

    fn policy(on_uncertain: OnUncertain) -> RetryPolicy {
        RetryPolicy {
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).unwrap(),
            give_up_after: Duration::from_secs(600),
            on_uncertain,
        }
    }

    fn attempt(number: u32, verdict: Verdict) -> Attempt {
        Attempt { number, first_at: START, ended_at: START.plus(Duration::from_secs(10)), verdict }
    }

    fn refused(retry_after: Option<u64>) -> Verdict {
        Verdict::Refused { retry_after: retry_after.map(Duration::from_secs) }
    }

    fn due_in(next: Next) -> Duration {
        match next {
            Next::Retrying { due_at } => due_at.since(START.plus(Duration::from_secs(10))),
            other => panic!("{other:?} has no due time"),
        }
    }

    #[test]
    fn an_acknowledged_delivery_is_done_and_a_rejected_one_is_dead() {
        let policy = policy(OnUncertain::Retry);
        assert_eq!(policy.next(&attempt(1, Verdict::Acknowledged), 0.5), Next::Delivered);
        assert_eq!(policy.next(&attempt(1, Verdict::Rejected), 0.5), Next::Dead);
    }

    #[test]
    fn retry_after_lengthens_the_wait_up_to_the_maximum_and_never_shortens_it() {
        let policy = policy(OnUncertain::Retry);
        assert_eq!(due_in(policy.next(&attempt(1, refused(Some(30))), 0.5)), Duration::from_secs(30));
        assert_eq!(due_in(policy.next(&attempt(1, refused(Some(9_999))), 0.5)), Duration::from_secs(60));
        assert_eq!(due_in(policy.next(&attempt(6, refused(Some(1))), 0.5)), Duration::from_secs(16));
    }

    #[test]
    fn a_target_that_was_not_reached_is_tried_again_at_once_one_time() {
        let policy = policy(OnUncertain::Hold);
        assert_eq!(due_in(policy.next(&attempt(1, Verdict::Unreached), 0.5)), Duration::ZERO);
        assert_eq!(due_in(policy.next(&attempt(2, Verdict::Unreached), 0.5)), Duration::from_secs(1));
    }

    #[test]
    fn an_unknown_outcome_is_repeated_or_held_as_configured() {
        let attempt = attempt(1, Verdict::Uncertain);
        assert_eq!(due_in(policy(OnUncertain::Retry).next(&attempt, 0.5)), Duration::from_millis(500));
        assert_eq!(policy(OnUncertain::Hold).next(&attempt, 0.5), Next::Held);
    }

    #[test]
    fn a_delivery_dies_when_its_next_try_would_come_too_late() {
        let late = Attempt { ended_at: START.plus(Duration::from_secs(590)), ..attempt(9, refused(None)) };
        assert_eq!(policy(OnUncertain::Retry).next(&late, 0.5), Next::Dead);
        assert!(matches!(policy(OnUncertain::Retry).next(&late, 0.1), Next::Retrying { .. }));
    }
}
