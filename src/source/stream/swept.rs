//! What sweeps have compared. It is kept beside the history of the stream, so that a
//! restart goes on with a sweep where it stood.

use std::time::Duration;

use crate::source::reconcile::{Compared, Sweep};

/// How far back a sweep looks for what was never compared, beyond its lookback: less
/// than the least time for which the store remembers ids (`store.dedupe_retention`).
const FURTHEST: Duration = Duration::from_hours(6 * 24);

/// Begins the line in which it is kept.
const NAME: &str = "swept ";

/// What sweeps have compared, in creation times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The range in which every listed event was stored when it was last looked at.
    compared: Option<Compared>,
    /// Every event that was listed and created before this has been compared once.
    until: Option<i64>,
    /// When the last sweep began that left nothing out.
    full: Option<i64>,
}

impl Swept {
    /// Nothing that was created before `time`, in Unix seconds, is looked for, but for the lookback.
    pub fn begin_stream(&mut self, time: i64) {
        self.until = Some(time);
    }

    /// Types or filters have changed: what was compared does not say that all of it is stored.
    pub const fn change(&mut self) {
        self.compared = None;
    }

    /// The sweep that begins at `time`, in Unix seconds. Once per lookback it leaves nothing out.
    pub fn begin_sweep(&mut self, time: i64, lookback: Duration) -> Sweep {
        let (since, compared, known) = self.next_range(time, lookback);
        Sweep::new(since, compared, known)
    }

    /// From where on a sweep looks, what it may leave out, and up to where all has been compared.
    fn next_range(&mut self, time: i64, lookback: Duration) -> (i64, Option<Compared>, i64) {
        let before = |duration: Duration| time.saturating_sub_unsigned(duration.as_secs()).max(0);
        // A clock may have been set back since.
        let until = self.until.map_or(before(lookback), |until| until.min(time));
        self.until = Some(until);
        if self.full.is_none_or(|full| full > time || full <= before(lookback)) {
            self.full = Some(time);
            self.compared = None;
        }
        self.compared = self.compared.map(|Compared { from, to }| Compared { from, to: to.min(time) });
        (before(lookback).min(until).max(before(FURTHEST.max(lookback))), self.compared, until)
    }

    /// Takes note of what has been compared.
    pub fn note(&mut self, compared: Compared) {
        self.compared = Some(compared);
        self.until =
            self.until.map(|until| if compared.from <= until { until.max(compared.to) } else { until });
    }

    /// The newest creation time up to which everything is stored.
    pub fn newest(&self) -> Option<i64> {
        self.compared.map(|compared| compared.to)
    }

    /// Whether `line` is one that [`to_line`](Self::to_line) wrote.
    pub fn is_line(line: &str) -> bool {
        line.starts_with(NAME)
    }

    /// Reads it from the text that has its line; nothing has been compared if there is none.
    pub fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix(NAME)).unwrap_or_default();
        let mut numbers = line.split(' ').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let (until, full, from, to) = (next(), next(), next(), next());
        let compared =
            from.zip(to).map(|(from, to)| Compared { from, to }).filter(|range| range.from <= range.to);
        Self { compared, until, full }
    }

    /// The line in which it is kept.
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
        // It is broken off, and the next begins after an hour.
        swept.note(range(NOW - 30, NOW));
        let mut swept = Swept::parse(&swept.to_line());
        let later = NOW + 60 * MINUTE;
        assert_eq!(swept.next_range(later, LOOKBACK), (first, None, first));
        // It is broken off above what was compared before, and then comes down to it.
        swept.note(range(later - 30, later));
        assert_eq!(swept.next_range(later, LOOKBACK).0, first);
        swept.note(range(NOW - 20 * MINUTE, later));
        assert_eq!(swept.next_range(later, LOOKBACK), (later - 15 * MINUTE, swept.compared, later));
        // But no further than ids are remembered.
        let (since, ..) = swept.next_range(later + 30 * DAY, LOOKBACK);
        assert_eq!(since, later + 24 * DAY);
        let lookback = LOOKBACK * 1_000;
        assert_eq!(swept.next_range(later + 30 * DAY, lookback).0, later + 30 * DAY - 15_000 * MINUTE);
    }

    #[test]
    fn nothing_is_left_out_once_per_lookback() {
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
        // A clock that is set back does not put it off.
        assert_eq!(swept.next_range(NOW - DAY, LOOKBACK).1, None);
    }

    #[test]
    fn other_types_make_what_was_compared_void() {
        let mut swept = Swept::default();
        let (since, ..) = swept.next_range(NOW, LOOKBACK);
        swept.note(range(since, NOW));
        swept.change();
        assert_eq!((swept.next_range(NOW + 5, LOOKBACK).1, swept.newest()), (None, None));
    }
}
