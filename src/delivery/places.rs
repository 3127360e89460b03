//! Decides which kind of delivery gets a free place on the wire. Each kind has a share of a target's
//! `concurrency`, and other kinds may use the places that a kind does not use. Pure.

use crate::store::types::{Kind, PerKind};

/// The denominator of the shares.
const SHARES: u32 = 8;

/// Returns the share of `kind`, in eighths: half for new events, an eighth for retries. It counts while
/// every kind has waiting deliveries.
const fn share(kind: Kind) -> u32 {
    match kind {
        Kind::New => 4,
        Kind::Waiting => 3,
        Kind::Retry => 1,
    }
}

/// The places of one target.
#[derive(Debug)]
pub(super) struct Places {
    concurrency: usize,
    taken: PerKind<usize>,
    /// When each kind last got a place, as the number of places given before.
    given_at: PerKind<u64>,
    given: u64,
    /// The number of places that retries may take if no other kind needs them. It is their share while
    /// they fail, since a failing retry can hold its place until `timeout`, and one more for each retry
    /// that succeeds.
    window: usize,
}

impl Places {
    pub(super) fn new(concurrency: usize) -> Self {
        let (taken, given_at) = (PerKind::default(), PerKind::default());
        Self { concurrency, taken, given_at, given: 0, window: least_window(concurrency) }
    }

    /// Returns which kind with `waiting` deliveries gets the next place; `None` if no kind may have it.
    /// The kind furthest below its share is first; among equal ones, the kind that has waited for
    /// longest.
    pub(super) fn next(&self, waiting: impl Fn(Kind) -> bool) -> Option<Kind> {
        let may_have =
            |kind: &Kind| waiting(*kind) && (*kind != Kind::Retry || self.taken[*kind] < self.window);
        Kind::ALL.into_iter().filter(may_have).min_by_key(|kind| {
            // In units of a place divided by the product of all shares (4 × 3 × 1).
            let parts = self.taken[*kind] * (12 / share(*kind) as usize);
            (parts, self.given_at[*kind])
        })
    }

    /// Notes that a delivery of `kind` has got a place.
    pub(super) fn take(&mut self, kind: Kind) {
        self.given += 1;
        self.given_at[kind] = self.given;
        self.taken[kind] += 1;
    }

    /// Notes that a delivery of `kind` has left its place.
    pub(super) fn leave(&mut self, kind: Kind) {
        self.taken[kind] -= 1;
    }

    /// Notes that a retry was delivered, or has failed again.
    pub(super) fn note_retry(&mut self, delivered: bool) {
        self.window = if delivered {
            (self.window + 1).min(self.concurrency)
        } else {
            (self.window / 2).max(least_window(self.concurrency))
        };
    }
}

/// Returns the number of places that retries may always take: their share, and at least one.
const fn least_window(concurrency: usize) -> usize {
    let share = concurrency * share(Kind::Retry) as usize / SHARES as usize;
    if share == 0 { 1 } else { share }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONCURRENCY: usize = 16;

    /// Gives away all places while the kinds in `kinds` want them. Returns how many each kind got.
    fn filled(places: &mut Places, kinds: &[Kind]) -> [usize; 3] {
        let taken = |places: &Places| Kind::ALL.map(|kind| places.taken[kind]);
        while taken(places).iter().sum::<usize>() < places.concurrency
            && let Some(kind) = places.next(|kind| kinds.contains(&kind))
        {
            places.take(kind);
        }
        taken(places)
    }

    #[test]
    fn each_kind_has_its_share_while_all_want_places() {
        assert_eq!(filled(&mut Places::new(CONCURRENCY), &Kind::ALL), [8, 6, 2]);
    }

    #[test]
    fn places_that_one_kind_does_not_use_go_to_the_others() {
        assert_eq!(filled(&mut Places::new(CONCURRENCY), &[Kind::New]), [CONCURRENCY, 0, 0]);
        assert_eq!(filled(&mut Places::new(CONCURRENCY), &[Kind::Waiting]), [0, CONCURRENCY, 0]);
        assert_eq!(filled(&mut Places::new(CONCURRENCY), &[Kind::Waiting, Kind::Retry]), [0, 14, 2]);
    }

    #[test]
    fn retries_have_no_more_than_their_share_until_they_succeed() {
        let mut places = Places::new(CONCURRENCY);
        assert_eq!(filled(&mut places, &[Kind::Retry]), [0, 0, 2]);
        for _ in 0..CONCURRENCY {
            places.note_retry(true);
        }
        assert_eq!(filled(&mut places, &[Kind::Retry]), [0, 0, CONCURRENCY]);
        for _ in 0..3 {
            places.note_retry(false);
        }
        for _ in 0..CONCURRENCY {
            places.leave(Kind::Retry);
        }
        assert_eq!(filled(&mut places, &[Kind::Retry]), [0, 0, 2]);
    }

    #[test]
    fn a_new_event_gets_the_next_place_however_many_the_others_have() {
        let mut places = Places::new(CONCURRENCY);
        filled(&mut places, &[Kind::Waiting, Kind::Retry]);
        places.leave(Kind::Waiting);
        assert_eq!(places.next(|_| true), Some(Kind::New));
    }

    #[test]
    fn a_single_place_is_given_to_each_kind_in_turn() {
        let mut places = Places::new(1);
        let mut given = Vec::new();
        for _ in 0..6 {
            let kind = places.next(|_| true).unwrap();
            places.take(kind);
            places.leave(kind);
            given.push(kind);
        }
        let round = [Kind::New, Kind::Waiting, Kind::Retry];
        assert_eq!(given, [round, round].concat());
    }
}
