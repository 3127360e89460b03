//! Counters that the committer keeps in memory while it runs, and percentiles.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::types::Recorded;
use super::types::TargetId;
use super::view::{Quiet, SourceTally, Tally, TargetTally};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::Source;

/// The counters of a store.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sources: [OfSource; Source::ALL.len()],
    targets: Mutex<Vec<TargetTally>>,
    unfinished: Mutex<Vec<(TargetId, Unfinished)>>,
    /// Whether a failed group may be stored all the same.
    doubtful: AtomicBool,
    quiet: Mutex<Vec<Quiet>>,
}

#[derive(Debug, Default)]
struct OfSource {
    unique: AtomicU64,
    duplicate: AtomicU64,
    conflicting: AtomicU64,
    /// When the newest event arrived; 0 for none.
    last_at: AtomicI64,
}

/// The unfinished deliveries of a target: open ones, which the bridge attempts, and held and dead
/// ones, which wait for an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) open: i64,
    pub(super) held: i64,
    pub(super) dead: i64,
}

impl Unfinished {
    /// Adds `by` deliveries in `state`.
    pub(super) fn change(&mut self, state: State, by: i64) {
        match state {
            State::Pending | State::Sending | State::Retrying => self.open += by,
            State::Held => self.held += by,
            State::Dead => self.dead += by,
            State::Delivered | State::Closed | State::Cancelled => {}
        }
    }
}

/// The changes of a group to the numbers of unfinished deliveries, by target. The deliveries are
/// counted once, when the store is opened, and the number is kept up to date by these changes:
/// counting a million takes some tenths of a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BacklogChanges(Vec<(TargetId, Unfinished)>);

/// The result of an engine's count.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) unfinished: BacklogChanges,
    /// The targets that have an attempt on the wire.
    pub(super) sending: BTreeSet<TargetId>,
}

impl Backlog {
    /// Adds `number` deliveries to `target` in `state`.
    pub(super) fn add(&mut self, target: TargetId, state: State, number: i64) {
        self.unfinished.change(target, state, number);
        if state == State::Sending {
            self.sending.insert(target);
        }
    }
}

impl BacklogChanges {
    /// Notes that a delivery to `target` has changed its state; `from` is `None` for a new one.
    pub(super) fn step(&mut self, target: TargetId, from: Option<State>, to: State) {
        if let Some(from) = from {
            self.change(target, from, -1);
        }
        self.change(target, to, 1);
    }

    /// Adds `by` deliveries to `target` in `state`.
    pub(super) fn change(&mut self, target: TargetId, state: State, by: i64) {
        let index = self.0.iter().position(|(known, _)| *known == target).unwrap_or_else(|| {
            self.0.push((target, Unfinished::default()));
            self.0.len() - 1
        });
        self.0[index].1.change(state, by);
    }
}

impl Counters {
    /// Adds `changes` to the numbers of unfinished deliveries.
    pub(super) fn change_unfinished(&self, BacklogChanges(changes): &BacklogChanges) {
        if changes.is_empty() {
            return;
        }
        let mut unfinished = lock(&self.unfinished);
        for (target, change) in changes {
            match unfinished.iter_mut().find(|(known, _)| known == target) {
                Some((_, known)) => {
                    known.open += change.open;
                    known.held += change.held;
                    known.dead += change.dead;
                }
                None => unfinished.push((*target, *change)),
            }
        }
    }

    /// Replaces the numbers of unfinished deliveries by a count.
    pub(super) fn set_unfinished(&self, BacklogChanges(counted): BacklogChanges) {
        *lock(&self.unfinished) = counted;
    }

    /// Notes that a group has failed. If it may be stored all the same, the unfinished deliveries
    /// have to be counted.
    pub(super) fn doubt(&self, may_be_stored: bool) {
        self.doubtful.fetch_or(may_be_stored, Relaxed);
    }

    /// Returns whether they have to be counted, and resets that.
    pub(super) fn take_doubt(&self) -> bool {
        self.doubtful.swap(false, Relaxed)
    }

    /// Returns the numbers of unfinished deliveries of `target`.
    pub(super) fn unfinished(&self, target: TargetId) -> Unfinished {
        let unfinished = lock(&self.unfinished);
        unfinished.iter().find(|(known, _)| *known == target).map(|(_, known)| *known).unwrap_or_default()
    }

    /// Counts an event of `source` that arrived at `at`, by the result of recording it.
    pub(super) fn count(&self, source: Source, recorded: Recorded, at: UnixMillis) {
        let counters = &self.sources[source as usize];
        match recorded {
            Recorded::New => counters.unique.fetch_add(1, Relaxed),
            Recorded::Duplicate | Recorded::Conflict => counters.duplicate.fetch_add(1, Relaxed),
        };
        counters.last_at.store(at.0, Relaxed);
    }

    /// Counts a new conflict that `source` has brought.
    pub(super) fn count_conflict(&self, source: Source) {
        self.sources[source as usize].conflicting.fetch_add(1, Relaxed);
    }

    /// Returns when `source` last brought an event since the start.
    fn last_at(&self, source: Source) -> Option<UnixMillis> {
        let at = self.sources[source as usize].last_at.load(Relaxed);
        (at > 0).then_some(UnixMillis(at))
    }

    /// Counts the attempts at `target` from here on; a known target keeps its counts.
    pub(super) fn add_target(&self, target: &Arc<str>) {
        let mut targets = lock(&self.targets);
        if !targets.iter().any(|known| known.target == *target) {
            targets.push(TargetTally { target: Arc::clone(target), delivered: 0, failed: 0 });
        }
    }

    /// Counts an acknowledged attempt at `target`.
    pub(super) fn count_delivered(&self, target: &str) {
        if let Some(tally) = lock(&self.targets).iter_mut().find(|known| *known.target == *target) {
            tally.delivered += 1;
        }
    }

    /// Counts a failed attempt at `target`.
    pub(super) fn count_failed(&self, target: &str) {
        if let Some(tally) = lock(&self.targets).iter_mut().find(|known| *known.target == *target) {
            tally.failed += 1;
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let sources = Source::ALL.map(|source| {
            let counters = &self.sources[source as usize];
            let (unique, duplicate) = (counters.unique.load(Relaxed), counters.duplicate.load(Relaxed));
            let (conflicting, last_event_at) = (counters.conflicting.load(Relaxed), self.last_at(source));
            let received = unique + duplicate;
            SourceTally { source, received, unique, duplicate, conflicting, last_event_at }
        });
        Tally { sources: sources.to_vec(), targets: lock(&self.targets).clone() }
    }

    /// Notes which sources are quiet.
    pub(super) fn set_quiet(&self, quiet: Vec<Quiet>) {
        *lock(&self.quiet) = quiet;
    }

    /// Returns the sources that were last noted as quiet and have brought nothing since.
    pub(super) fn quiet(&self) -> Vec<Quiet> {
        let mut quiet = lock(&self.quiet).clone();
        quiet.retain(|one| self.last_at(one.source).is_none_or(|at| at < one.since));
        quiet
    }
}

/// Each change is one step, so a panic elsewhere leaves no half-done change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the percentile of `sorted` by the nearest rank; 0 for an empty slice.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_at_the_nearest_rank() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (100, 198));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99), percentile(&[], 50)), (7, 7, 0));
    }
}
