//! Whether a process may hold leases: while its writer gets on, and not at once again after
//! it did not. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::progress::Waiting;

/// A writer that the database has not answered for so long has stalled. Shorter than a lease
/// lasts, so that another process has taken over within a take-over's time.
pub(super) const SILENT: Duration = Duration::from_millis(2500);

/// A writer whose groups all fail, or take so long, has stalled as well.
const FRUITLESS: Duration = Duration::from_secs(15);

/// For so long after a stall a process claims no share of the leases: a writer that stalls
/// again and again must not have them move back and forth.
const CALM: Duration = Duration::from_secs(10);

/// What a process may do about leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fitness {
    /// Everything.
    #[default]
    Fit,
    /// It keeps what it has, and takes what the others leave.
    Recovering,
    /// It holds none.
    Stalled,
}

/// Follows the writer.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Since when the database answers beside the writer. Where it does not, the trust in the
    /// leases runs out, and what was not taken meanwhile is held again afterwards.
    reached_since: Option<Instant>,
    /// When the process last ran.
    ran_at: Option<Instant>,
    stalled_at: Option<Instant>,
}

impl Watch {
    /// Whether the database has just answered, beside the writer.
    pub(super) fn reached(&mut self, is_reached: bool, now: Instant) {
        self.runs(now);
        self.reached_since = is_reached.then(|| self.reached_since.unwrap_or(now));
    }

    /// When the writer, for which that is waited, counts as stalled.
    pub(super) fn stalls_at(&self, waiting: Option<Waiting>) -> Option<Instant> {
        let (Waiting { since, answered }, reached) = (waiting?, self.reached_since?);
        let fruitless = since.max(reached) + FRUITLESS;
        Some(answered.map_or(fruitless, |answered| fruitless.min(answered.max(reached) + SILENT)))
    }

    /// What may be done `now`, while the writer waits for that.
    pub(super) fn look(&mut self, waiting: Option<Waiting>, now: Instant) -> Fitness {
        self.runs(now);
        if self.stalls_at(waiting).is_some_and(|at| now >= at) {
            self.stalled_at = Some(now);
            return Fitness::Stalled;
        }
        if self.stalled_at.is_some_and(|at| now.duration_since(at) < CALM) {
            return Fitness::Recovering;
        }
        self.stalled_at = None;
        Fitness::Fit
    }

    /// Notes that the process runs. If it has stood still, its writer has as well, and did not stall.
    /// A call that takes long is no standstill, so this is noted after each one too.
    pub(super) fn runs(&mut self, now: Instant) {
        if self.ran_at.replace(now).is_some_and(|before| now.duration_since(before) >= SILENT) {
            self.reached_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// One whose database answers from `start` on.
    fn reached(start: Instant) -> Watch {
        let mut watch = Watch::default();
        watch.reached(true, start);
        watch
    }

    fn waiting(since: Instant, answered: Instant) -> Waiting {
        Waiting { since, answered: Some(answered) }
    }

    /// Looks twice a second from `start` until `end`. Returns the result of the last look.
    fn look_until(end: Instant, watch: &mut Watch, waiting: Option<Waiting>, start: Instant) -> Fitness {
        let mut now = start;
        while now < end {
            watch.look(waiting, now);
            now += SECOND / 2;
        }
        watch.look(waiting, end)
    }

    #[test]
    fn a_process_holds_leases_while_its_writer_is_answered_and_completes_what_it_begins() {
        let start = Instant::now();
        let almost = start + SILENT - SECOND / 10;
        let fitness = |waiting, end| look_until(end, &mut reached(start), waiting, start);
        assert_eq!(fitness(None, start + 60 * SECOND), Fitness::Fit);
        assert_eq!(fitness(Some(waiting(start, start)), almost), Fitness::Fit);
        assert_eq!(fitness(Some(waiting(start, start)), start + SILENT), Fitness::Stalled);
        let slow = start + FRUITLESS - SECOND;
        assert_eq!(fitness(Some(waiting(start, slow)), slow), Fitness::Fit);
        assert_eq!(fitness(Some(waiting(start, slow)), slow + SECOND), Fitness::Stalled);
    }

    #[test]
    fn a_call_that_looks_at_every_row_has_longer() {
        let start = Instant::now();
        let counting = Some(Waiting { since: start, answered: None });
        let fitness = |end| look_until(end, &mut reached(start), counting, start);
        assert_eq!(fitness(start + FRUITLESS - SECOND), Fitness::Fit);
        assert_eq!(fitness(start + FRUITLESS), Fitness::Stalled);
    }

    #[test]
    fn calls_that_take_long_do_not_hide_a_stall() {
        let start = Instant::now();
        let (mut watch, asks) = (reached(start), Some(waiting(start, start)));
        assert_eq!(watch.look(asks, start + SECOND), Fitness::Fit);
        watch.reached(true, start + 2 * SECOND);
        assert_eq!(watch.look(asks, start + 4 * SECOND), Fitness::Stalled);
    }

    #[test]
    fn a_writer_has_not_stalled_while_nothing_reaches_the_database() {
        let start = Instant::now();
        let (mut watch, asks) = (Watch::default(), waiting(start, start));
        assert_eq!(watch.look(Some(asks), start + 60 * SECOND), Fitness::Fit);
        let back = start + 61 * SECOND;
        watch.reached(true, start);
        watch.reached(false, start + SECOND);
        watch.reached(true, back);
        watch.reached(true, back + SECOND);
        assert_eq!(watch.stalls_at(Some(asks)), Some(back + SILENT));
    }

    #[test]
    fn a_process_that_has_stood_still_itself_is_measured_anew() {
        let start = Instant::now();
        let (mut watch, asks) = (reached(start), waiting(start, start));
        assert_eq!(watch.look(Some(asks), start + SECOND), Fitness::Fit);
        assert_eq!(watch.look(Some(asks), start + 9 * SECOND), Fitness::Fit);
        watch.reached(true, start + 9 * SECOND);
        assert_eq!(watch.stalls_at(Some(asks)), Some(start + 9 * SECOND + SILENT));
    }

    #[test]
    fn after_a_stall_it_claims_its_share_only_when_the_writer_has_got_on_for_a_while() {
        let start = Instant::now();
        let (mut watch, end) = (reached(start), start + SILENT);
        assert_eq!(look_until(end, &mut watch, Some(waiting(start, start)), start), Fitness::Stalled);
        for second in 1..10 {
            assert_eq!(watch.look(None, end + second * SECOND), Fitness::Recovering);
        }
        assert_eq!(watch.look(None, end + CALM), Fitness::Fit);
    }
}
