//! The result of one cheap request to Pepay.

use std::time::UNIX_EPOCH;

use crate::domain::clock::UnixMillis;
use crate::pepay::error::Failure;

/// The facts in Pepay's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// By how many milliseconds Pepay's clock is ahead of ours at least. The number is negative if it
    /// is behind, and 0 if the two agree as far as the answer shows. `None` without a `Date` header.
    pub clock_offset: Option<i64>,
    /// Whether Pepay accepted the key for this request.
    pub key: Result<(), Failure>,
}

/// Parses the time of a `Date` header (RFC 9110, section 6.6.1), cut to its second.
pub(super) fn date(value: &str) -> Option<UnixMillis> {
    let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(UnixMillis(i64::try_from(date.as_millis()).ok()?))
}

/// Returns by how much a clock that shows `date`, cut to its second, is ahead of one that showed
/// `asked` before the request and `answered` after it.
pub(super) fn offset(date: UnixMillis, asked: UnixMillis, answered: UnixMillis) -> i64 {
    let (earliest, latest) = (date.0, date.0 + 999);
    if earliest > answered.0 {
        earliest - answered.0
    } else if latest < asked.0 {
        latest - asked.0
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_differ_only_by_what_a_second_and_a_slow_answer_cannot_explain() {
        // 1994-11-06T08:49:37Z.
        let (text, second) = ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777_000);
        let date = date(text).unwrap();
        assert_eq!(date, UnixMillis(second));
        let offset = |asked: i64, answered: i64| {
            offset(date, UnixMillis(second + asked), UnixMillis(second + answered))
        };
        for within in [(0, 0), (999, 999), (-5000, 5000), (-300, 100)] {
            assert_eq!(offset(within.0, within.1), 0, "{within:?}");
        }
        assert_eq!(offset(-9_000, -8_000), 8_000, "Pepay is ahead");
        assert_eq!(offset(8_999, 9_500), -8_000, "Pepay is behind");
        assert_eq!(super::date("yesterday"), None);
    }
}
