//! The range that sweeps have compared. It is stored with the history of the stream, so that a
//! sweep goes on after a restart.

use std::time::Duration;

use crate::source::reconcile::{Compared, Sweep};

/// How far back a sweep looks for events that were never compared, beyond its lookback. This is
/// less than the shortest time for which the store remembers ids (`store.dedupe_retention`).
const FURTHEST: Duration = Duration::from_hours(6 * 24);

/// The beginning of the line in which the range is stored.
const NAME: &str = "swept ";

/// The range that sweeps have compared, in creation times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The range in which every listed event was stored when it was last looked at.
    compared: Option<Compared>,
    /// Every listed event that was created before this time has been compared once.
    until: Option<i64>,
    /// When the last full sweep began.
    full: Option<i64>,
}

impl Swept {
    /// Begins at `time`, in Unix seconds. Earlier events are looked for only within the lookback.
    pub fn begin_stream(&mut self, time: i64) {
        self.until = Some(time);
    }

    /// Notes that types or filters have changed. The comparison then no longer shows that
    /// everything is stored.
    pub const fn change(&mut self) {
        self.compared = None;
    }

    /// Returns the sweep that begins at `time`, in Unix seconds. Once per lookback it leaves
    /// nothing out.
    pub fn begin_sweep(&mut self, time: i64, lookback: Duration) -> Sweep {
        let (since, compared, known) = self.next_range(time, lookback);
        Sweep::new(since, compared, known)
    }

    /// Returns the time from which a sweep looks, the range that it may leave out, and the time up
    /// to which everything has been compared.
    fn next_range(&mut self, time: i64, lookback: Duration) -> (i64, Option<Compared>, i64) {
        let before = |duration: Duration| time.saturating_sub_unsigned(duration.as_secs()).max(0);
        let furthest = before(FURTHEST.max(lookback));
        // A clock may have been set back since. Earlier times than the furthest one are given up: no
        // sweep would ever reach them.
        let until = self.until.map_or(before(lookback), |until| until.min(time)).max(furthest);
        self.until = Some(until);
        if self.full.is_none_or(|full| full > time || full <= before(lookback)) {
            self.full = Some(time);
            self.compared = None;
        }
        self.compared = self.compared.map(|Compared { from, to }| Compared { from, to: to.min(time) });
        (before(lookback).min(until), self.compared, until)
    }

    /// Notes the range that has been compared.
    pub fn note(&mut self, compared: Compared) {
        self.compared = Some(compared);
        self.until =
            self.until.map(|until| if compared.from <= until { until.max(compared.to) } else { until });
    }

    /// Returns the newest creation time up to which everything is stored.
    pub fn newest(&self) -> Option<i64> {
        self.compared.map(|compared| compared.to)
    }

    /// Returns whether `line` was written by [`to_line`](Self::to_line).
    pub fn is_line(line: &str) -> bool {
        line.starts_with(NAME)
    }

    /// Reads the range from a text with its line. Without that line, nothing has been compared.
    pub fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix(NAME)).unwrap_or_default();
        let mut numbers = line.split(' ').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let (until, full, from, to) = (next(), next(), next(), next());
        let compared =
            from.zip(to).map(|(from, to)| Compared { from, to }).filter(|range| range.from <= range.to);
        Self { compared, until, full }
    }

    /// Returns the line in which the range is stored.
    pub fn to_line(self) -> String {
        let word = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (from, to) = (self.compared.map(|range| range.from), self.compared.map(|range| range.to));
        format!("{NAME}{} {} {} {}\n", word(self.until), word(self.full), word(from), word(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKBACK: Duration = Duration::from_mins(15);
    const MINUTE: i64 = 60;
    const DAY: i64 = 86_400;
    const NOW: i64 = 100 * DAY;

    const fn range(from: i64, to: i64) -> Compared {
        Compared { from, to }
    }

    #[test]
    fn a_stored_range_is_read_back() {
        let mut swept = Swept::default();
        assert_eq!(Swept::parse(&swept.to_line()), swept);
        swept.begin_stream(NOW);
        assert_eq!(Swept::parse(&format!("1 * \n{}", swept.to_line())), swept);
        swept.next_range(NOW, LOOKBACK);
        swept.note(range(NOW - 5, NOW));
        assert_eq!(Swept::parse(&swept.to_line()), swept);
        for other in ["", "1 * ", "swept", "swept x y z", "swept 1 2 9 3", "swept  "] {
            assert_eq!(Swept::parse(other).compared, None, "{other}");
        }
    }

    #[test]
    fn a_range_that_was_never_compared_is_looked_at_however_old_it_is() {
        let mut swept = Swept::default();
        let first = NOW - 15 * MINUTE;
        assert_eq!(swept.next_range(NOW, LOOKBACK), (first, None, first));
        // The sweep is interrupted, and the next one begins after an hour.
        swept.note(range(NOW - 30, NOW));
        let mut swept = Swept::parse(&swept.to_line());
        let later = NOW + 60 * MINUTE;
        assert_eq!(swept.next_range(later, LOOKBACK), (first, None, first));
        // The sweep is interrupted above the range that was compared before. The next one reaches
        // that range.
        swept.note(range(later - 30, later));
        assert_eq!(swept.next_range(later, LOOKBACK).0, first);
        swept.note(range(NOW - 20 * MINUTE, later));
        assert_eq!(swept.next_range(later, LOOKBACK), (later - 15 * MINUTE, swept.compared, later));
        // It looks back no further than ids are remembered.
        let (since, ..) = swept.next_range(later + 30 * DAY, LOOKBACK);
        assert_eq!(since, later + 24 * DAY);
        let lookback = LOOKBACK * 1_000;
        assert_eq!(swept.next_range(later + 30 * DAY, lookback).0, later + 30 * DAY - 15_000 * MINUTE);
    }

    #[test]
    fn after_a_pause_longer_than_the_furthest_look_back_one_sweep_catches_up() {
        for (before, now) in [(NOW, NOW + 30 * DAY), (0, NOW)] {
            let mut swept = Swept::default();
            swept.begin_stream(before);
            let (since, ..) = swept.next_range(now, LOOKBACK);
            assert_eq!(since, now - 6 * DAY);
            swept.note(range(since, now));
            let mut swept = Swept::parse(&swept.to_line());
            let later = now + 20 * MINUTE;
            assert_eq!(swept.next_range(later, LOOKBACK).0, later - 20 * MINUTE, "where the last one ended");
        }
    }

    #[test]
    fn one_sweep_in_every_lookback_leaves_no_compared_range_out() {
        let mut swept = Swept::default();
        let mut full = 0;
        for minute in 0..60 {
            let now = NOW + minute * MINUTE;
            let (since, compared, _) = swept.next_range(now, LOOKBACK);
            full += u32::from(compared.is_none());
            swept.note(range(since, now));
            swept = Swept::parse(&swept.to_line());
        }
        assert_eq!(full, 4);
        // A clock that is set back does not delay the full sweep.
        assert_eq!(swept.next_range(NOW - DAY, LOOKBACK).1, None);
    }

    #[test]
    fn a_change_of_types_makes_the_compared_range_void() {
        let mut swept = Swept::default();
        let (since, ..) = swept.next_range(NOW, LOOKBACK);
        swept.note(range(since, NOW));
        swept.change();
        assert_eq!((swept.next_range(NOW + 5, LOOKBACK).1, swept.newest()), (None, None));
    }
}
