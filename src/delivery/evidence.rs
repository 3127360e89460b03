//! How much the failures since the last success say about a target as a whole. Pure.

use std::collections::HashSet;

/// The weight at which a target counts as down, as long as no success has refuted less.
const ENOUGH: u32 = 1000;

/// Failures to connect in a row that are enough, whatever they were about.
const UNREACHED: u32 = 5;

/// How much more than [`ENOUGH`] may come to be asked for.
const MOST_TOLERANCE: f64 = 64.0;

/// By how much a refuted run of failures is to be exceeded before it counts.
const MARGIN: f64 = 8.0;

/// What is left of the tolerance above 1 after each success.
const FORGETTING: f64 = 0.9995;

/// Subjects that are counted separately within a run of failures. More add nothing.
const SUBJECTS: usize = 4096;

/// What an attempt says about the target as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It took the event, or said no to it.
    Up,
    /// It failed over this event, at least: 408 or 5xx, but for 503.
    Failing,
    /// It said that it cannot take more for now: 429 or 503.
    Busy,
    /// It did not answer a request that had left.
    Silent,
    /// There was no connection to it.
    Unreached,
}

/// What is found about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It may be the events.
    Nothing,
    /// It answers, and everything with an error.
    OnlyErrors,
    /// It answers, mostly that it takes nothing for now.
    Busy,
    /// It is not reached or does not answer.
    Down,
}

/// The failures since the last success. Each subject counts once.
#[derive(Debug)]
pub(super) struct Evidence {
    subjects: HashSet<i64>,
    /// The weight of requests without an answer.
    of_silence: u32,
    /// The weight of 429 and 503.
    of_busy: u32,
    /// The weight of other errors.
    of_errors: u32,
    /// The weight of first attempts among them.
    of_first: u32,
    /// Failures to connect, since the last request that could be sent.
    unreached: u32,
    /// How many times [`ENOUGH`] is asked for. A run of failures that ends in a success
    /// was none of the target's: where many events are refused, longer runs are usual.
    tolerance: f64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            subjects: HashSet::new(),
            of_silence: 0,
            of_busy: 0,
            of_errors: 0,
            of_first: 0,
            unreached: 0,
            tolerance: 1.0,
        }
    }
}

/// The weight of a failure: [`ENOUGH`] divided by how many subjects have to fail like that.
/// A retry says little, since it failed before.
const fn weight(first: bool, health: Health) -> u32 {
    match (first, health) {
        (_, Health::Up | Health::Unreached) => 0,
        (true, Health::Silent) => ENOUGH / 10,
        (true, Health::Busy) => ENOUGH / 20,
        (true, Health::Failing) => ENOUGH / 100,
        (false, Health::Silent | Health::Busy) => ENOUGH / 50,
        (false, Health::Failing) => ENOUGH / 500,
    }
}

impl Evidence {
    /// Adds a failure. Returns what is found now.
    pub(super) fn add(&mut self, subject: i64, first: bool, health: Health) -> Finding {
        if health == Health::Unreached {
            self.unreached = self.unreached.saturating_add(1);
        } else {
            self.unreached = 0;
            let is_new = self.subjects.len() >= SUBJECTS || self.subjects.insert(subject);
            let weight = if is_new { weight(first, health) } else { 0 };
            let sum = match health {
                Health::Failing => &mut self.of_errors,
                Health::Busy => &mut self.of_busy,
                Health::Silent | Health::Up | Health::Unreached => &mut self.of_silence,
            };
            *sum = sum.saturating_add(weight);
            if first {
                self.of_first = self.of_first.saturating_add(weight);
            }
        }
        if self.unreached >= UNREACHED {
            return Finding::Down;
        }
        if self.sum() < f64::from(ENOUGH) * self.tolerance {
            Finding::Nothing
        } else if self.of_silence >= self.of_busy.max(self.of_errors) {
            Finding::Down
        } else if self.of_busy >= self.of_errors {
            Finding::Busy
        } else {
            Finding::OnlyErrors
        }
    }

    /// Whether first attempts alone, or failures to connect, say enough to count.
    pub(super) fn is_from_first_attempts(&self) -> bool {
        self.unreached >= UNREACHED || f64::from(self.of_first) * 2.0 >= self.sum()
    }

    /// A success: what was held against the target was none of its doing.
    pub(super) fn refute(&mut self) {
        let refuted = self.sum() / f64::from(ENOUGH) * MARGIN;
        let remembered = 1.0 + (self.tolerance - 1.0) * FORGETTING;
        self.tolerance = remembered.max(refuted).min(MOST_TOLERANCE);
        self.subjects.clear();
        (self.of_silence, self.of_busy, self.of_errors) = (0, 0, 0);
        (self.of_first, self.unreached) = (0, 0);
    }

    fn sum(&self) -> f64 {
        f64::from(self.of_silence) + f64::from(self.of_busy) + f64::from(self.of_errors)
    }
}
