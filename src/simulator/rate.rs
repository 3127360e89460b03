//! Counts the requests of each key in the present minute.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::domain::clock::UnixMillis;

const MINUTE: i64 = 60_000;

/// The counts by key, bounded by the number of the account's keys. A key is its index among them.
#[derive(Debug, Default)]
pub(super) struct Rates {
    minute: i64,
    used: HashMap<usize, u32>,
}

impl Rates {
    /// Counts a request of `key` at `now`; `Err` is the wait until the next minute.
    pub(super) fn take(&mut self, key: usize, limit: NonZeroU32, now: UnixMillis) -> Result<(), Duration> {
        let minute = now.0.div_euclid(MINUTE);
        if minute != self.minute {
            self.minute = minute;
            self.used.clear();
        }
        let used = self.used.entry(key).or_default();
        if *used < limit.get() {
            *used += 1;
            return Ok(());
        }
        let left = MINUTE - now.0.rem_euclid(MINUTE);
        // Rounded up, so that a request after that wait is accepted.
        Err(Duration::from_secs(left.unsigned_abs().div_ceil(1000)))
    }
}
