//! Weighs how much the failures since the last success say about a target as a whole. Pure.

use std::collections::HashSet;

/// The weight at which a target counts as down, at the lowest tolerance.
const ENOUGH: u32 = 1000;

/// The number of failures to connect in a row that is enough, whatever their subjects.
const UNREACHED: u32 = 5;

/// The largest tolerance, as a multiple of [`ENOUGH`].
const MOST_TOLERANCE: f64 = 64.0;

/// The tolerance after a refuted run of failures, as a multiple of that run.
const MARGIN: f64 = 8.0;

/// The part of the tolerance above 1 that is left after each success.
const FORGETTING: f64 = 0.9995;

/// The largest number of subjects that are counted within a run of failures. More add nothing.
const SUBJECTS: usize = 4096;

/// What an attempt shows about the target as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// The target took the event, or refused this event.
    Up,
    /// The target failed with this event at least: 408, or 5xx except 503.
    Failing,
    /// The target said that it takes no more for now: 429 or 503.
    Busy,
    /// The target did not answer a request that was sent.
    Silent,
    /// There was no connection to the target.
    Unreached,
}

/// The finding about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The failures may be due to the events.
    Nothing,
    /// The target answers every request with an error.
    OnlyErrors,
    /// The target answers, mostly that it takes nothing for now.
    Busy,
    /// The target cannot be reached or does not answer.
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
    /// The number of failures to connect since the last request that could be sent.
    unreached: u32,
    /// The multiple of [`ENOUGH`] at which the target counts as down. A run of failures that ends in a
    /// success was not the target's fault: if many events are refused, longer runs are usual.
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

/// Returns the weight of a failure: [`ENOUGH`] divided by the number of subjects that have to fail in
/// this way. A retry weighs little, since it failed before.
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
    /// Adds a failure. Returns the present finding.
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

    /// Returns whether first attempts alone, or failures to connect, are enough for the finding.
    pub(super) fn is_from_first_attempts(&self) -> bool {
        self.unreached >= UNREACHED || f64::from(self.of_first) * 2.0 >= self.sum()
    }

    /// Notes a success: the failures before it were not the target's fault.
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
