//! Decides whether a process may hold leases: only while its writer makes progress, and after a
//! stall only gradually. No I/O.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::progress::Waiting;

/// How long the database may take to respond to a writer before it counts as stalled. The time is
/// shorter than a lease lasts, so that another process has taken over within the time of a
/// take-over.
const SILENT: Duration = Duration::from_millis(2500);

/// How long a writer may go without completing a group before it counts as stalled. Its groups may
/// all fail, or take too long.
const FRUITLESS: Duration = Duration::from_secs(15);

/// How long a process claims no share of the leases after a stall. Otherwise the leases would move
/// back and forth with a writer that stalls again and again.
const CALM: Duration = Duration::from_secs(10);

/// What a process may do with leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fitness {
    /// Take its share.
    #[default]
    Fit,
    /// Keep its leases, and take those that the others leave.
    Recovering,
    /// Hold none.
    Stalled,
}

/// Observes the writer.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Since when the database has responded to calls other than the writer's; `None` if it does
    /// not respond. The trust in the leases then runs out by itself, and leases that no other
    /// process has taken are held again afterwards.
    reached_since: Option<Instant>,
    /// When the process last ran.
    ran_at: Option<Instant>,
    stalled_at: Option<Instant>,
}

impl Watch {
    /// Notes whether the database has just responded to a call other than the writer's.
    pub(super) fn reached(&mut self, is_reached: bool, now: Instant) {
        self.runs(now);
        self.reached_since = is_reached.then(|| self.reached_since.unwrap_or(now));
    }

    /// Returns when the writer counts as stalled, for its present wait.
    pub(super) fn stalls_at(&self, waiting: Option<Waiting>) -> Option<Instant> {
        let (Waiting { since, answered }, reached) = (waiting?, self.reached_since?);
        let fruitless = since.max(reached) + FRUITLESS;
        Some(answered.map_or(fruitless, |answered| fruitless.min(answered.max(reached) + SILENT)))
    }

    /// Returns what the process may do `now`, for the present wait of the writer.
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

    /// Notes that the process runs. If the process has stood still, its writer has stood still too
    /// and has not stalled. A long call is no standstill, so this is also called after each call.
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

    /// Returns a watch whose database responds from `start` on.
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
