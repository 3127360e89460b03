//! `Retry-After` (RFC 9110, section 10.2.3): whole seconds, or an HTTP date.

use std::time::{Duration, SystemTime};

use super::clock::UnixMillis;

/// How long the header's `value` asks to wait, seen from `now`. A date that has
/// passed is zero; a value that is neither form is `None`.
pub fn parse(value: &str, now: UnixMillis) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(seconds) = value.parse()
    {
        return Some(Duration::from_secs(seconds));
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
    fn anything_else_is_no_answer() {
        for value in ["", "-1", "+5", "1.5", "soon", "99999999999999999999999"] {
            assert_eq!(parse(value, NOW), None, "{value:?}");
        }
    }
}
