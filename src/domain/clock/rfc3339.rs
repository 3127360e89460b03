//! Times as RFC 3339, with any offset.

use std::str::FromStr;

use super::UnixMillis;

/// Why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no time of RFC 3339, such as `2026-01-31T09:30:00Z` or `2026-01-31T10:30:00.250+01:00`")]
pub struct InvalidTime;

impl FromStr for UnixMillis {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or(InvalidTime)
    }
}

fn parse(text: &str) -> Option<UnixMillis> {
    if !text.is_ascii() {
        return None;
    }
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let (time, rest) = (rest.get(..9)?, rest.get(9..)?);
    let [year, month, day] = numbers(date, b'-')?;
    let clock = time.strip_prefix(['T', 't', ' '])?;
    let [hour, minute, second] = numbers(clock, b':')?;
    let (fraction, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-'])?);
    // A leap second counts as the one before it.
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second.min(59);
    in_range.then_some(())?;
    Some(UnixMillis((seconds - offset_seconds(offset)?) * 1000 + thousandths(fraction)?))
}

/// Parses three numbers with `between` them. Each has two digits; the first may have four.
fn numbers(text: &str, between: u8) -> Option<[i64; 3]> {
    let mut parts = text.split(char::from(between));
    let mut next = |digits: usize| number(parts.next().filter(|part| part.len() == digits)?);
    let numbers = [next(text.len() - 6)?, next(2)?, next(2)?];
    parts.next().is_none().then_some(numbers)
}

fn number(digits: &str) -> Option<i64> {
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if only_digits { digits.parse().ok() } else { None }
}

/// Returns the milliseconds of a fraction such as `.25`; further digits are cut off.
fn thousandths(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return Some(0);
    }
    let digits = fraction.strip_prefix('.').filter(|digits| !digits.is_empty())?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    number(&format!("{digits:0<3}")[..3])
}

fn offset_seconds(offset: &str) -> Option<i64> {
    let sign = match offset.as_bytes().first()? {
        b'Z' | b'z' => return (offset.len() == 1).then_some(0),
        b'-' => -1,
        _ => 1,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    // The lengths are checked first, since the values could overflow.
    if (hours.len(), minutes.len()) != (2, 2) {
        return None;
    }
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970-01-01, in the Gregorian calendar. Years are counted from March, so that
/// the leap day is the last of its year.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<i64, InvalidTime> {
        text.parse::<UnixMillis>().map(|at| at.0)
    }

    #[test]
    fn times_are_read_with_every_offset_and_fraction() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-12-21T11:20:00Z", 1_734_780_000_000),
            ("2024-12-21t11:20:00.5z", 1_734_780_000_500),
            ("2024-12-21T12:20:00.123999+01:00", 1_734_780_000_123),
            ("2024-12-21T05:50:00-05:30", 1_734_780_000_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
            ("1969-12-31T23:59:59.000Z", -1000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(at(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn a_written_time_is_read_back() {
        let start = 1_700_000_000_123;
        for day in 0..3000 {
            let at = UnixMillis(start + day * 86_400_000);
            let written = serde_json::to_value(at).unwrap();
            assert_eq!(written.as_str().unwrap().parse(), Ok(at), "{written}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "now",
            "2024-12-21",
            "2024-12-21T11:20Z",
            "2024-12-21T11:20:00",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-12-21T24:00:00Z",
            "2024-12-21T11:60:00Z",
            "2024-12-21T11:20:61Z",
            "2024-12-21T11:20:00+1:00",
            "2024-12-21T11:20:00+24:00",
            "2024-12-21T11:20:00+14:9223372036854775807",
            "2024-12-21T11:20:00.Z",
            "2024-12-21T11:20:00Zx",
            "2024-12-21T11:20:0xZ",
            "+024-12-21T11:20:00Z",
            "2024-12-21T11:20:00é",
        ] {
            assert_eq!(at(text), Err(InvalidTime), "{text}");
        }
    }
}
