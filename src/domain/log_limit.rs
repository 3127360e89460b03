//! Bounds the number of log lines that any caller can cause.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::clock::UnixMillis;

/// The shortest time between two lines, in milliseconds.
const INTERVAL: u64 = 10_000;

/// Allows one log line of a kind every ten seconds, and counts the others.
#[derive(Debug, Default)]
pub struct LogLimit {
    /// When the last line was allowed, in Unix milliseconds; 0 for never.
    logged_at: AtomicI64,
    /// Occurrences since that line.
    unlogged: AtomicU64,
}

impl LogLimit {
    /// Notes an occurrence. If a line is due, returns the number of occurrences since the last line.
    pub fn note(&self, now: UnixMillis) -> Option<u64> {
        let logged_at = self.logged_at.load(Relaxed);
        // The distance in either direction, so that a clock set back does not stop the lines for long.
        let due = now.0.abs_diff(logged_at) >= INTERVAL
            && self.logged_at.compare_exchange(logged_at, now.0, Relaxed, Relaxed).is_ok();
        if due {
            return Some(self.unlogged.swap(0, Relaxed));
        }
        self.unlogged.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_once_in_ten_seconds_with_the_number_of_the_others() {
        let limit = LogLimit::default();
        let at = |seconds: i64| UnixMillis(1_734_780_000_000 + seconds * 1000);
        assert_eq!(limit.note(at(0)), Some(0));
        assert_eq!(limit.note(at(1)), None);
        assert_eq!(limit.note(at(9)), None);
        assert_eq!(limit.note(at(10)), Some(2));
        assert_eq!(limit.note(at(-60)), Some(0), "the clock was set back");
    }
}
