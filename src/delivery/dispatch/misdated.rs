//! Finds retries whose due time is later than any wait allows. The clock was ahead when they were
//! planned and has been set back, or `retry_max` has been lowered. Waiting for such a due time could
//! take as long as the clock was wrong.

use super::SLOW_POLL;
use crate::domain::clock::UnixMillis;
use crate::store::types::{Found, Search};

/// The search for such retries.
#[derive(Debug, Default)]
pub(super) struct Misdated {
    /// The time by which the next search looks for due retries, if it is not the present.
    as_of: Option<UnixMillis>,
    /// Until when none is searched for, since the last ones found are known already.
    rests_until: Option<UnixMillis>,
}

impl Misdated {
    /// Returns the time by which a search that begins `now` looks for due retries.
    pub(super) fn as_of(&self, now: UnixMillis) -> UnixMillis {
        self.as_of.map_or(now, |as_of| as_of.max(now))
    }

    /// Notes the result of `search`. No wait ends after `latest`. Returns whether there are such
    /// retries, for which to search at once.
    pub(super) fn note(
        &mut self,
        search: &Search,
        found: &Found,
        now: UnixMillis,
        latest: UnixMillis,
    ) -> bool {
        if search.retries == 0 {
            return false;
        }
        if self.as_of.take().is_some() && found.lanes.is_empty() && found.singles.is_empty() {
            self.rests_until = Some(now.plus(SLOW_POLL));
        }
        self.rests_until = self.rests_until.filter(|until| now < *until && *until <= now.plus(SLOW_POLL));
        let rests = self.rests_until.is_some();
        self.as_of = found.last_due.filter(|last| *last > latest && !rests);
        self.as_of.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const LATEST: UnixMillis = UnixMillis(1_060_000);
    const FAR: UnixMillis = UnixMillis(4_600_000);

    fn search(now: UnixMillis) -> Search {
        Search {
            now,
            lookups: Vec::new(),
            lanes: HashMap::new(),
            singles: HashSet::new(),
            retries: 32,
            scan: None,
            census: None,
        }
    }

    fn not_due(last_due: UnixMillis) -> Found {
        Found { last_due: Some(last_due), ..Found::default() }
    }

    #[test]
    fn a_delivery_that_is_due_beyond_any_wait_is_searched_for_as_of_its_time() {
        let mut misdated = Misdated::default();
        assert!(!misdated.note(&search(NOW), &not_due(LATEST), NOW, LATEST));
        assert_eq!(misdated.as_of(NOW), NOW);
        assert!(misdated.note(&search(NOW), &not_due(FAR), NOW, LATEST));
        assert_eq!(misdated.as_of(NOW), FAR);
    }

    #[test]
    fn a_search_that_left_out_retries_changes_nothing() {
        let mut misdated = Misdated::default();
        misdated.note(&search(NOW), &not_due(FAR), NOW, LATEST);
        assert!(!misdated.note(&Search { retries: 0, ..search(FAR) }, &Found::default(), NOW, LATEST));
        assert_eq!(misdated.as_of(NOW), FAR);
    }

    #[test]
    fn a_search_that_finds_no_more_misdated_retries_is_not_repeated_at_once() {
        let mut misdated = Misdated::default();
        misdated.note(&search(NOW), &not_due(FAR), NOW, LATEST);
        assert!(!misdated.note(&search(FAR), &Found::default(), NOW, LATEST), "all of it was asked for");
        assert!(!misdated.note(&search(NOW), &not_due(FAR), NOW, LATEST), "it is known already");
        let later = NOW.plus(SLOW_POLL);
        assert!(misdated.note(&search(later), &not_due(FAR), later, LATEST));
    }
}
