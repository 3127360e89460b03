//! Counting refusals, and keeping them from flooding the log: anybody on the
//! internet can cause one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use metrics::Counter;

use super::answer::Code;
use crate::domain::clock::UnixMillis;
use crate::telemetry::names;

/// At most one log line per code in this time, in milliseconds.
const LOG_INTERVAL: u64 = 10_000;

/// The refusals of one endpoint, by code.
#[derive(Debug)]
pub(super) struct Rejections([Tally; Code::ALL.len()]);

#[derive(Debug)]
struct Tally {
    /// Looked up once: a handle costs an increment, a lookup by label a hash and a lock.
    counter: Counter,
    /// When the last line was logged, in Unix milliseconds; 0 for never.
    logged_at: AtomicI64,
    /// Refusals since that line.
    unlogged: AtomicU64,
}

impl Rejections {
    pub(super) fn new() -> Self {
        Self(Code::ALL.map(|code| Tally {
            counter: metrics::counter!(names::WEBHOOKS_REJECTED, "reason" => code.as_str()),
            logged_at: AtomicI64::new(0),
            unlogged: AtomicU64::new(0),
        }))
    }

    /// Counts a refusal. If a log line is due, returns how many refusals with
    /// this code went unlogged since the last one.
    pub(super) fn count(&self, code: Code, now: UnixMillis) -> Option<u64> {
        let tally = &self.0[code as usize];
        tally.counter.increment(1);
        let logged_at = tally.logged_at.load(Relaxed);
        // The distance either way, so that a clock set back silences nothing for long.
        let due = now.0.abs_diff(logged_at) >= LOG_INTERVAL
            && tally.logged_at.compare_exchange(logged_at, now.0, Relaxed, Relaxed).is_ok();
        if due {
            Some(tally.unlogged.swap(0, Relaxed))
        } else {
            tally.unlogged.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_code_is_logged_once_and_hides_no_other() {
        let rejections = Rejections::new();
        let at = |seconds: i64| UnixMillis(1_734_780_000_000 + seconds * 1000);
        assert_eq!(rejections.count(Code::InvalidSignature, at(0)), Some(0));
        assert_eq!(rejections.count(Code::InvalidSignature, at(1)), None);
        assert_eq!(rejections.count(Code::InvalidSignature, at(9)), None);
        assert_eq!(rejections.count(Code::MalformedPayload, at(9)), Some(0));
        assert_eq!(rejections.count(Code::InvalidSignature, at(10)), Some(2));
        assert_eq!(rejections.count(Code::InvalidSignature, at(-60)), Some(0), "the clock was set back");
    }
}
