//! The plan of faults for the next requests of a sample target.

use std::collections::VecDeque;
use std::time::Duration;

use http::StatusCode;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The most entries of the plan.
const MAX_WAITING: usize = 64;

/// The reaction to a request, other than the answer 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Sends this status, and `Retry-After` if there is one.
    Answer(StatusCode, Option<String>),
    /// Sends no answer; the sender has to give up by itself.
    Hang,
    /// Resets the connection instead of answering.
    Reset,
}

#[derive(Debug)]
pub(super) struct FaultPlan {
    waiting: VecDeque<(Reaction, u32)>,
    /// The share of the other requests that fail, and how.
    usual: Option<(f64, Reaction)>,
    pub(super) delay: Duration,
    rng: StdRng,
}

impl FaultPlan {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            usual: None,
            delay: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn next(&mut self, times: u32, reaction: Reaction) {
        if times > 0 && self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((reaction, times));
        }
    }

    pub(super) fn fail_ratio(&mut self, ratio: f64, reaction: Reaction) {
        self.usual = Some((ratio.clamp(0.0, 1.0), reaction));
    }

    pub(super) fn heal(&mut self) {
        self.waiting.clear();
        self.usual = None;
        self.delay = Duration::ZERO;
    }

    /// Returns the reaction to the present request, and its delay.
    pub(super) fn react(&mut self) -> (Option<Reaction>, Duration) {
        let ordered = self.waiting.front_mut().map(|(reaction, times)| {
            *times -= 1;
            (reaction.clone(), *times == 0)
        });
        let reaction = match ordered {
            Some((reaction, last)) => {
                if last {
                    self.waiting.pop_front();
                }
                Some(reaction)
            }
            None => match &self.usual {
                Some((ratio, reaction)) if self.rng.random_bool(*ratio) => Some(reaction.clone()),
                _ => None,
            },
        };
        (reaction, self.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Reaction = Reaction::Answer(StatusCode::GONE, None);

    #[test]
    fn ordered_reactions_come_first_and_run_out() {
        let mut plan = FaultPlan::new(1);
        plan.fail_ratio(1.0, GONE);
        plan.next(2, Reaction::Hang);
        let met: Vec<_> = (0..3).filter_map(|_| plan.react().0).collect();
        assert_eq!(met, [Reaction::Hang, Reaction::Hang, GONE]);
        plan.heal();
        assert_eq!(plan.react().0, None);
    }

    #[test]
    fn a_ratio_is_met_on_the_whole_and_repeats_with_its_seed() {
        let failures = |seed| {
            let mut plan = FaultPlan::new(seed);
            plan.fail_ratio(0.3, GONE);
            (0..1000).map(|_| plan.react().0.is_some()).collect::<Vec<_>>()
        };
        let met = failures(1).into_iter().filter(|failed| *failed).count();
        assert!((250..350).contains(&met), "{met}");
        assert_eq!(failures(1), failures(1));
    }
}
