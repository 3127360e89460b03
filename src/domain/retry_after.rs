//! `Retry-After` (RFC 9110, section 10.2.3): whole seconds, or an HTTP date.

use std::time::{Duration, SystemTime};

use super::clock::UnixMillis;

/// Returns the wait that the header's `value` asks for, from `now` on. A date that has passed is zero;
/// a value that is neither form is `None`.
pub fn parse(value: &str, now: UnixMillis) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A larger number is above every caller's own limit.
        return Some(Duration::from_secs(value.parse().unwrap_or(u32::MAX).into()));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::from(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT

    #[test]
    fn seconds_and_dates_are_both_understood() {
        assert_eq!(parse("120", NOW), Some(Duration::from_secs(120)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:50:07 GMT", NOW), Some(Duration::from_secs(30)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT", NOW), Some(Duration::ZERO));
    }

    #[test]
    fn a_number_beyond_all_limits_is_a_very_long_time() {
        assert_eq!(parse("99999999999999999999999", NOW), Some(Duration::from_secs(u32::MAX.into())));
    }

    #[test]
    fn a_retry_after_in_another_form_is_ignored() {
        for value in ["", "-1", "+5", "1.5", "soon"] {
            assert_eq!(parse(value, NOW), None, "{value:?}");
        }
    }
}
