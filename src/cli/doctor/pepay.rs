//! Pepay: the clock, the key, and each stream.

use std::time::Duration;

use futures_util::future::join_all;

use super::report::Check;
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::rest::{Probe, Rest};
use crate::source::stream::{Auth, Settings as Stream, Unreached, probe, reach};

/// How far the clocks may be apart before somebody should know.
const UNEASY: Duration = Duration::from_secs(5);

/// How far they may be apart if no webhook says less: what receivers of Standard
/// Webhooks allow as well, and what we sign is judged by them.
const TOLERANCE: Duration = Duration::from_mins(5);

pub(super) async fn examine(settings: &Settings, clock: Clock) -> Vec<Check> {
    let rest = match Rest::new(&settings.pepay, clock.clone()) {
        Ok(rest) => rest,
        Err(error) => return vec![Check::failed("api key", error.to_string(), "correct `pepay.api_key`")],
    };
    let streams = settings.streams.iter().map(|stream| {
        let rest = rest.clone();
        async move { tokio::join!(reach(stream, &rest), probe(stream, &rest)) }
    });
    let way = rest.way();
    let (mut probes, mut checks) = (Vec::new(), Vec::new());
    for (stream, (reached, probe)) in settings.streams.iter().zip(join_all(streams).await) {
        checks.push(of_stream(stream, reached, &way));
        probes.push(probe);
    }
    // The list that the first stream will ask for, or else that of everything.
    let probe = match probes.into_iter().next() {
        Some(probe) => probe,
        None => rest.probe(&[]).await,
    };
    let tolerance = settings.webhooks.iter().map(|webhook| webhook.tolerance).min();
    let has_key = settings.pepay.api_key.is_some();
    let first = [of_clock(&probe, tolerance.unwrap_or(TOLERANCE)), of_key(probe, has_key)];
    first.into_iter().chain(checks).collect()
}

fn of_clock(probe: &Result<Probe, Failure>, tolerance: Duration) -> Check {
    let name = "clock";
    let Ok(Probe { clock_offset: Some(offset), .. }) = probe else {
        let found = "cannot be compared with Pepay's, which did not say what time it is";
        return Check::warning(name, found, "see to it that this machine follows a time server");
    };
    let apart = Duration::from_millis(offset.unsigned_abs());
    let direction = if *offset > 0 { "behind" } else { "ahead of" };
    let found = format!("{:.1} s {direction} Pepay's", apart.as_secs_f64());
    if apart >= tolerance {
        let advice =
            "set it, by a time server: signatures are refused by their age, here and at your targets";
        Check::failed(name, found, advice)
    } else if apart >= UNEASY {
        let allowed = humantime::format_duration(tolerance);
        Check::warning(
            name,
            found,
            format!("have it follow a time server: beyond {allowed}, webhooks are refused"),
        )
    } else {
        Check::ok(name, "agrees with Pepay's")
    }
}

fn of_key(probe: Result<Probe, Failure>, has_key: bool) -> Check {
    let name = "api key";
    if !has_key {
        return Check::ok(name, "none is configured, and webhooks need none");
    }
    match probe.and_then(|probe| probe.key) {
        Ok(()) => Check::ok(name, "accepted"),
        Err(failure) => of_failure(name, &failure, &failure.text),
    }
}

fn of_stream(settings: &Stream, reached: Result<(), Unreached>, way: &str) -> Check {
    let name = format!("stream {}", settings.name);
    match reached {
        Ok(()) if settings.auth == Auth::Token => {
            Check::ok(name, format!("token minted, connection opened {way}"))
        }
        Ok(()) => Check::ok(name, format!("connection opened {way}")),
        Err(error) => {
            let (Unreached::Token(failure) | Unreached::Upgrade(failure)) = &error;
            of_failure(name, failure, &error.to_string())
        }
    }
}

fn of_failure(name: impl Into<String>, failure: &Failure, found: &str) -> Check {
    let advice = match failure.kind {
        FailureKind::Refused => {
            "compare `pepay.api_key` and `pepay.api_key_header` with Pepay's dashboard, and the key's scope with the stream's `endpoint`"
        }
        FailureKind::Missing => "is `pepay.api_url` Pepay's address?",
        FailureKind::Rejected => "Pepay does not take what is configured: compare the stream's filters",
        FailureKind::RateLimited => {
            return Check::warning(name, found, "this key asks too often: is a second bridge using it?");
        }
        FailureKind::Unavailable => "Pepay has trouble, which the bridge waits out; ask Pepay if it lasts",
        FailureKind::Unreachable => {
            "can this machine reach `pepay.api_url` and `pepay.ws_url`, by name and through its firewall?"
        }
        FailureKind::Malformed => "does something else answer at `pepay.api_url`?",
    };
    Check::failed(name, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(offset: Option<i64>) -> String {
        let probe = Ok(Probe { clock_offset: offset, key: Ok(()) });
        super::super::Report(vec![of_clock(&probe, Duration::from_secs(60))]).to_string()
    }

    #[test]
    fn a_clock_is_judged_by_what_the_webhooks_bear() {
        assert_eq!(line(Some(4_999)), "ok       clock  agrees with Pepay's\n");
        assert!(line(Some(5_000)).starts_with("warning  clock  5.0 s behind Pepay's; have it"));
        assert!(line(Some(-59_000)).starts_with("warning  clock  59.0 s ahead of Pepay's; have it"));
        assert!(line(Some(60_000)).starts_with("FAILED   clock  60.0 s behind Pepay's; set it"));
        assert!(line(None).starts_with("warning  clock  cannot be compared"));
    }
}
