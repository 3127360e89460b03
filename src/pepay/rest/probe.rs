//! What one cheap question to Pepay shows.

use std::time::UNIX_EPOCH;

use crate::domain::clock::UnixMillis;
use crate::pepay::error::Failure;

/// What Pepay's answer has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How far Pepay's clock is ahead of ours at least, in milliseconds; negative
    /// if it is behind, 0 if the two agree as far as the answer tells. `None`
    /// without a `Date` header.
    pub clock_offset: Option<i64>,
    /// Whether the key was good for the answer that was asked for.
    pub key: Result<(), Failure>,
}

/// How far `date` (RFC 9110, section 6.6.1) is ahead of a clock that said `asked`
/// before the question and `answered` after it. A date is cut to its second.
pub(super) fn offset(date: &str, asked: UnixMillis, answered: UnixMillis) -> Option<i64> {
    let date = httpdate::parse_http_date(date).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let earliest = i64::try_from(date.as_millis()).ok()?;
    let latest = earliest + 999;
    Some(if earliest > answered.0 {
        earliest - answered.0
    } else if latest < asked.0 {
        latest - asked.0
    } else {
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_differ_only_by_what_a_second_and_a_slow_answer_cannot_explain() {
        // 1994-11-06T08:49:37Z.
        let (date, second) = ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777_000);
        let offset = |asked: i64, answered: i64| {
            offset(date, UnixMillis(second + asked), UnixMillis(second + answered))
        };
        for within in [(0, 0), (999, 999), (-5000, 5000), (-300, 100)] {
            assert_eq!(offset(within.0, within.1), Some(0), "{within:?}");
        }
        assert_eq!(offset(-9_000, -8_000), Some(8_000), "Pepay is ahead");
        assert_eq!(offset(8_999, 9_500), Some(-8_000), "Pepay is behind");
        assert_eq!(super::offset("yesterday", UnixMillis(0), UnixMillis(0)), None);
    }
}
