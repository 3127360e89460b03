//! The creation time of an event. Pepay writes Unix seconds on some pages and ISO text on others; the
//! bridge treats both the same.

use super::json;
use crate::domain::clock::UnixMillis;
use crate::domain::event::EventId;

/// Numbers from here on are milliseconds: as seconds they would lie in the year 5138.
const FIRST_MILLISECONDS: i64 = 100_000_000_000;
/// The end of the year 9999, in seconds.
const LAST_SECOND: i64 = 253_402_300_799;
/// The longest text that is parsed as a time, in bytes.
const LONGEST: usize = 64;

/// Returns the time that `value` names, in Unix seconds: a number or the text of one, in seconds or
/// milliseconds, or ISO 8601 text, in UTC if it names no offset. `None` for any other value, and for
/// times before 1970-01-01T00:00:01Z.
pub(super) fn told(value: &[u8]) -> Option<i64> {
    let text = json::text_or_number(value)?;
    let text = Some(text.trim()).filter(|text| text.len() <= LONGEST)?;
    let seconds = match number(text) {
        Some(number) if number >= FIRST_MILLISECONDS => number / 1000,
        Some(number) => number,
        None => iso(text)?.seconds(),
    };
    (1..=LAST_SECOND).contains(&seconds).then_some(seconds)
}

/// Returns the time of an event that names none: the milliseconds of its id, else its arrival. In Unix
/// seconds.
pub(super) fn fallback(id: &EventId, received_at: UnixMillis) -> i64 {
    id.creation_time().unwrap_or(received_at.seconds())
}

/// Returns a number without its fraction.
fn number(text: &str) -> Option<i64> {
    if let Ok(whole) = text.parse() {
        return Some(whole);
    }
    text.starts_with(|first: char| first.is_ascii_digit()).then_some(())?;
    let number = text.parse::<f64>().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and what is out of range is no time")]
    let whole = number as i64;
    Some(whole)
}

fn iso(text: &str) -> Option<UnixMillis> {
    let parsed = |text: &str| text.parse::<UnixMillis>().ok();
    parsed(text).or_else(|| parsed(&format!("{text}Z"))).or_else(|| parsed(&format!("{text}T00:00:00Z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(json: &str) -> Option<i64> {
        told(json.as_bytes())
    }

    #[test]
    fn every_way_to_write_a_time_is_the_same_time() {
        for json in [
            "1734780000",
            "1734780000.0",
            "1734780000.9",
            "1.73478e9",
            "1734780000000",
            "1734780000123.5",
            "\"1734780000\"",
            "\" 1734780000.0 \"",
            "\"1734780000000\"",
            "\"2024-12-21T11:20:00Z\"",
            "\"2024-12-21T12:20:00.250+01:00\"",
            "\"2024-12-21T11:20:00\"",
            "\"2024-12-21 11:20:00.000\"",
            "\"2024-12-21T11:20:00\\u005a\"",
        ] {
            assert_eq!(time(json), Some(1_734_780_000), "{json}");
        }
        assert_eq!(time("\"2024-12-21\""), Some(1_734_739_200));
    }

    #[test]
    fn a_value_that_is_no_time_is_none() {
        for json in [
            "null",
            "true",
            "[1]",
            "{}",
            "\"\"",
            "\"soon\"",
            "\"\\ud800\"",
            "0",
            "-5",
            "1e999",
            "-1e999",
            "\"NaN\"",
            "\"inf\"",
            "9223372036854775807",
            "99999999999999999999",
            "\"2024-13-01\"",
        ] {
            assert_eq!(time(json), None, "{json}");
        }
        assert_eq!(time(&format!("\"{}\"", "1".repeat(1_000_000))), None);
    }

    #[test]
    fn the_fallback_is_the_ids_time_and_then_the_arrival() {
        let fallback = |id: &str| fallback(&id.parse().unwrap(), UnixMillis(7_999));
        assert_eq!(fallback("evt_1734780000123-5"), 1_734_780_000);
        for opaque in
            ["evt_example", "evt_0-1", "evt_100045-2", "evt_1734780000000000-1", "evt_18446744073709551615-1"]
        {
            assert_eq!(fallback(opaque), 7, "{opaque}");
        }
    }
}
