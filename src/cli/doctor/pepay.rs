//! The checks of Pepay: the clock, the key, and each stream.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::report::Check;
use crate::config::{Settings, Subscription};
use crate::domain::clock::Clock;
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::rest::{Probe, Rest};
use crate::pepay::token::Identity;
use crate::source::stream::{Auth, Unreached, probe, reach};

/// The advice for an account for which no client can be created.
const UNUSABLE: &str = "correct `api_key` and `ca_file`, of the stream or of `[pepay]`";

/// The difference of the clocks from which on there is a warning.
const UNEASY: Duration = Duration::from_secs(5);

/// The difference from which on the check fails if no webhook is configured. Receivers of Standard
/// Webhooks, which check the bridge's signatures, allow this difference.
const TOLERANCE: Duration = Duration::from_mins(5);

/// The probes of one stream, made with the stream's account and settings.
struct Asked<'s> {
    stream: &'s Subscription,
    /// The way to Pepay: direct or by a proxy.
    way: String,
    reached: Result<Identity, Unreached>,
    list: Result<Probe, Failure>,
}

/// Checks Pepay. Also returns the accounts of the streams' tokens, by the name of the stream.
pub(super) async fn examine(settings: &Settings, clock: Clock) -> (Vec<Check>, Vec<(Arc<str>, Identity)>) {
    let streams = settings.streams.iter().map(|stream| ask(stream, clock.clone()));
    let streams = join_all(streams).await;
    let (key, probe) = of_pepay(settings, &streams, clock).await;
    let lists = streams.iter().flatten().map(|asked| &asked.list).chain(&probe);
    let offsets = lists.filter_map(|list| list.as_ref().ok()?.clock_offset);
    let tolerance = settings.webhooks.iter().map(|webhook| webhook.tolerance).min();
    let clock = of_clock(offsets.max_by_key(|offset| offset.unsigned_abs()), tolerance.unwrap_or(TOLERANCE));
    let reached = streams.iter().flatten().filter_map(|asked| {
        Some((Arc::clone(&asked.stream.settings.name), asked.reached.as_ref().ok()?.clone()))
    });
    let identities = reached.collect();
    let streams = streams.into_iter().flat_map(|asked| match asked {
        Ok(asked) => vec![of_stream(&asked), of_list(&asked)],
        Err(check) => vec![check],
    });
    ([clock, key].into_iter().chain(streams).collect(), identities)
}

/// Opens a connection as the stream does, and requests the page of the list that the stream will request.
async fn ask(stream: &Subscription, clock: Clock) -> Result<Asked<'_>, Check> {
    let Subscription { settings, account } = stream;
    let rest = Rest::new(account, clock)
        .map_err(|error| Check::failed(format!("stream {}", settings.name), error.to_string(), UNUSABLE))?;
    let (reached, list) = tokio::join!(reach(settings, &rest), probe(settings, &rest));
    Ok(Asked { stream, way: rest.way(), reached, list })
}

/// Checks the account of `[pepay]`. Also returns the probe, if one was made apart from those of the
/// streams.
async fn of_pepay(
    settings: &Settings,
    streams: &[Result<Asked<'_>, Check>],
    clock: Clock,
) -> (Check, Option<Result<Probe, Failure>>) {
    let (name, account) = ("api key", &settings.pepay);
    if account.api_key.is_none() && !streams.is_empty() {
        return (Check::ok(name, "none in `[pepay]`; each stream has its own"), None);
    }
    if let Some(asked) = streams.iter().flatten().find(|asked| asked.stream.account == *account) {
        return (of_key(&asked.list, &asked.way), None);
    }
    let rest = match Rest::new(account, clock) {
        Ok(rest) => rest,
        Err(error) => return (Check::failed(name, error.to_string(), UNUSABLE), None),
    };
    let probe = rest.probe(&[]).await;
    let check = match account.api_key {
        Some(_) => of_key(&probe, &rest.way()),
        None => Check::ok(name, "none is configured, and webhooks need none"),
    };
    (check, Some(probe))
}

fn of_clock(offset: Option<i64>, tolerance: Duration) -> Check {
    let name = "clock";
    let Some(offset) = offset else {
        let found = "cannot be compared with Pepay's, which did not say what time it is";
        return Check::warning(name, found, "see to it that this machine follows a time server");
    };
    let apart = Duration::from_millis(offset.unsigned_abs());
    let direction = if offset > 0 { "behind" } else { "ahead of" };
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

fn of_key(probe: &Result<Probe, Failure>, way: &str) -> Check {
    of_answer("api key".to_owned(), probe, way, format!("accepted, asked {way}"))
}

fn of_list(Asked { stream, way, list, .. }: &Asked<'_>) -> Check {
    let found = format!("answered what the stream asks for, {way}");
    of_answer(format!("list {}", stream.settings.name), list, way, found)
}

fn of_answer(name: String, probe: &Result<Probe, Failure>, way: &str, accepted: String) -> Check {
    match probe.as_ref().map(|probe| &probe.key) {
        Ok(Ok(())) => Check::ok(name, accepted),
        Ok(Err(failure)) | Err(failure) => of_failure(name, failure, &failure.text, way),
    }
}

fn of_stream(Asked { stream, way, reached, .. }: &Asked<'_>) -> Check {
    let name = format!("stream {}", stream.settings.name);
    match reached {
        Ok(_) if stream.settings.auth == Auth::Token => {
            Check::ok(name, format!("token minted, connection opened {way}"))
        }
        Ok(_) => Check::ok(name, format!("connection opened {way}")),
        Err(error) => {
            let (Unreached::Token(failure) | Unreached::Upgrade(failure)) = error;
            of_failure(name, failure, &error.to_string(), way)
        }
    }
}

fn of_failure(name: String, failure: &Failure, found: &str, way: &str) -> Check {
    let advice = match failure.kind {
        FailureKind::Refused => {
            "compare `pepay.api_key` and `pepay.api_key_header`, or those of the stream, with Pepay's dashboard, and the key's scope with the stream's `endpoint`"
        }
        FailureKind::Missing => "is `api_url` Pepay's address?",
        FailureKind::Rejected => "Pepay does not take what is configured: compare the stream's filters",
        FailureKind::RateLimited => {
            let found = format!("{found} (asked {way})");
            return Check::warning(name, found, "this key asks too often: is a second bridge using it?");
        }
        FailureKind::Unavailable => "Pepay has trouble, which the bridge waits out; ask Pepay if it lasts",
        FailureKind::Unreachable => {
            "can this machine reach `api_url` and `ws_url`, by name, through its firewall and the proxy?"
        }
        FailureKind::Malformed => "does something else answer at `api_url`?",
    };
    Check::failed(name, format!("{found} (asked {way})"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(offset: Option<i64>) -> String {
        super::super::Report(vec![of_clock(offset, Duration::from_secs(60))]).to_string()
    }

    #[test]
    fn a_clock_is_judged_by_the_tolerance_of_webhooks() {
        assert_eq!(line(Some(4_999)), "ok       clock  agrees with Pepay's\n");
        assert!(line(Some(5_000)).starts_with("warning  clock  5.0 s behind Pepay's; have it"));
        assert!(line(Some(-59_000)).starts_with("warning  clock  59.0 s ahead of Pepay's; have it"));
        assert!(line(Some(60_000)).starts_with("FAILED   clock  60.0 s behind Pepay's; set it"));
        assert!(line(None).starts_with("warning  clock  cannot be compared"));
    }
}
