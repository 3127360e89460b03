//! Points in time, as an operator writes them and as commands print them.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::domain::clock::{InvalidTime, UnixMillis};

/// The end of the year 9999, the last time of RFC 3339. A time with an offset can be later in UTC, and is
/// replaced by this one.
const LAST: UnixMillis = UnixMillis(253_402_300_799_999);

/// A point in time, given as a time, as a day (its beginning in UTC), or as an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    At(UnixMillis),
    Ago(Duration),
}

/// The error of a text that is neither a time, nor a day, nor an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "allowed is a time such as `2026-01-31T09:30:00Z`, a day such as `2026-01-31` (its beginning, in UTC), \
     or how long ago it is, such as `2h` or `3days`"
)]
pub(super) struct InvalidWhen;

impl FromStr for When {
    type Err = InvalidWhen;

    fn from_str(text: &str) -> Result<Self, InvalidWhen> {
        let day = |_| format!("{text}T00:00:00Z").parse();
        let ago = |_: InvalidTime| humantime::parse_duration(text).map(Self::Ago).map_err(|_| InvalidWhen);
        text.parse().or_else(day).map(Self::At).or_else(ago)
    }
}

impl When {
    /// Returns the time as RFC 3339. An age is subtracted from `now`.
    pub(super) fn written(self, now: UnixMillis) -> String {
        Moment(match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.minus(ago),
        })
        .to_string()
    }
}

/// A time in a response of the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Moment(UnixMillis);

impl TryFrom<String> for Moment {
    type Error = InvalidTime;

    fn try_from(text: String) -> Result<Self, InvalidTime> {
        text.parse().map(Self)
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_rfc3339_millis(self.0.min(LAST).into()).fmt(f)
    }
}

impl Moment {
    /// Returns the age of this time, such as `3m12s`.
    pub(super) fn age(self, now: UnixMillis) -> String {
        span(now.since(self.0))
    }

    /// Returns whether this time is after `now`.
    pub(super) fn is_after(self, now: UnixMillis) -> bool {
        self.0 > now
    }

    /// Returns the distance from `now`, such as `3m12s ago` or `in 5m`.
    pub(super) fn from(self, now: UnixMillis) -> String {
        if self.is_after(now) {
            format!("in {}", span(self.0.since(now)))
        } else {
            format!("{} ago", self.age(now))
        }
    }

    /// Returns the time and its distance from `now`.
    pub(super) fn render(self, now: UnixMillis) -> String {
        format!("{self} ({})", self.from(now))
    }
}

/// Returns a duration in its two largest units, such as `1day3h`.
fn span(duration: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    whole.split(' ').take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_734_780_000_000);

    #[test]
    fn a_time_is_given_as_it_is_or_as_an_age() {
        for (text, written) in [
            ("2024-12-21T12:20:00+01:00", "2024-12-21T11:20:00.000Z"),
            ("2024-12-21", "2024-12-21T00:00:00.000Z"),
            ("2h", "2024-12-21T09:20:00.000Z"),
            ("1day 30m", "2024-12-20T10:50:00.000Z"),
            ("0s", "2024-12-21T11:20:00.000Z"),
            ("1000000years", "1970-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(text.parse::<When>().unwrap().written(NOW), written, "{text}");
        }
        for text in ["", "yesterday", "2024-12-32", "2024-12", "21.12.2024", "-2h"] {
            assert_eq!(text.parse::<When>(), Err(InvalidWhen), "{text}");
        }
    }

    #[test]
    fn a_time_is_shown_with_its_distance_from_now() {
        let moment = |seconds: i64| Moment(UnixMillis(NOW.0 + seconds * 1000));
        for (seconds, from) in
            [(0, "0s ago"), (-192, "3m12s ago"), (-90_061, "1day1h ago"), (3600, "in 1h"), (-59, "59s ago")]
        {
            assert_eq!(moment(seconds).from(NOW), from);
        }
        assert_eq!(moment(-60).render(NOW), "2024-12-21T11:19:00.000Z (1m ago)");
    }
}
