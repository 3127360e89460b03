//! Turns raw bytes into an event that is proven to be Pepay's (Pepay:
//! `api-spec/webhooks-authentication`).
//!
//! The order of the checks is part of the protection. The size is checked first, since any sender can
//! send bytes. Then the signature is checked, over the timestamp header's literal text and the raw
//! body: nothing is parsed before it holds, and a sender without a secret learns only
//! `invalid_signature`. All later checks are of a sender that is proven to be Pepay.
//!
//! Only the timestamp and the body are signed. Of the other headers, `X-Pepay-Event` is not used at
//! all, and the two that are compared can only cause a refusal or name an environment.

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Code, Refusal};
use super::{Endpoint, Settings, body};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Environment, Event, Received, Source};
use crate::pepay::envelope;

const SIGNATURES: [HeaderName; 2] =
    [HeaderName::from_static("x-pepay-signature"), HeaderName::from_static("x-pepay-signature-previous")];
const TIMESTAMP: HeaderName = HeaderName::from_static("x-pepay-timestamp");
const EVENT_ID: HeaderName = HeaderName::from_static("x-pepay-event-id");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-pepay-network-environment");

/// How long a body may take to arrive.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The largest number of characters of a header's value that an operator sees.
const SHOWN: usize = 200;

/// A number below this is in seconds: as milliseconds it would lie in 1973; as seconds it reaches to
/// the year 5138.
const FIRST_MILLISECONDS: i64 = 100_000_000_000;

/// A delivery that has passed every check. Only the extractor makes one.
pub(super) struct Verified {
    received: Received,
    memory: Option<OwnedSemaphorePermit>,
}

impl Verified {
    /// Returns the event, ready to be stored, and the permit of its body's memory, to be kept until the
    /// delivery is answered.
    pub(super) fn into_parts(self) -> (Received, Option<OwnedSemaphorePermit>) {
        (self.received, self.memory)
    }
}

impl FromRequest<Arc<Endpoint>> for Verified {
    type Rejection = Refusal;

    async fn from_request(request: Request, endpoint: &Arc<Endpoint>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let settings = &endpoint.settings;
        let declared = body.size_hint().exact();
        let body = body::read(&parts.headers, body, settings.max_body, &endpoint.memory, READ_LIMIT).await;
        let body = body.map_err(|refusal| refusal.sized(declared))?;
        let size = body.bytes.len() as u64;
        let received = verify(&parts.headers, body.bytes, settings, endpoint.clock.now());
        Ok(Self { received: received.map_err(|refusal| refusal.sized(Some(size)))?, memory: body.memory })
    }
}

/// Makes all checks but that of the size, for a delivery that arrived at `now`.
pub(super) fn verify(
    headers: &HeaderMap,
    body: Bytes,
    settings: &Settings,
    now: UnixMillis,
) -> Result<Received, Refusal> {
    let timestamp = authenticate(headers, &body, settings)?;
    in_range(timestamp, settings.tolerance, now)?;
    let event = envelope::parse(body, now)
        .map_err(|error| Refusal::new(Code::MalformedPayload, error.to_string()))?;
    match environment(headers, &event, settings) {
        Ok(environment) => Ok(Received {
            event,
            source: Source::Webhook,
            origin: Arc::clone(&settings.name),
            environment,
            received_at: now,
        }),
        Err(refusal) => Err(refusal.about(event.id)),
    }
}

/// Proves that the sender holds a secret. Returns the timestamp's literal text, proven with it.
fn authenticate<'a>(headers: &'a HeaderMap, body: &[u8], settings: &Settings) -> Result<&'a str, Refusal> {
    let signatures = SIGNATURES.map(|name| only(headers, &name));
    // The sender learns nothing else, whatever detail the operator sees.
    let unsigned = |detail: String| {
        let message = "no signature of this endpoint's secrets matches";
        Refusal::new(Code::InvalidSignature, message).in_detail(detail)
    };
    if signatures.iter().all(Option::is_none) {
        let given = SIGNATURES.iter().any(|name| headers.contains_key(name));
        let detail = if given {
            "X-Pepay-Signature is given twice or is no text"
        } else {
            "there is no X-Pepay-Signature"
        };
        return Err(unsigned(detail.to_owned()));
    }
    let timestamp = only(headers, &TIMESTAMP).ok_or_else(|| {
        out_of_range()
            .in_detail("X-Pepay-Timestamp is missing or given twice; the signature was not looked at")
    })?;
    let mut claims = signatures.iter().flatten();
    let proven = claims.any(|claim| settings.keys.iter().any(|key| key.verify(claim, timestamp, body)));
    if proven {
        return Ok(timestamp);
    }
    let secrets = settings.keys.len();
    Err(unsigned(format!(
        "the signature is made with none of the endpoint's {secrets} secrets over these bytes"
    )))
}

/// Compares the headers about the event with the event itself. Returns the environment that the body,
/// the endpoint or the header names.
fn environment(
    headers: &HeaderMap,
    event: &Event,
    settings: &Settings,
) -> Result<Option<Environment>, Refusal> {
    let another_id = |value: &&HeaderValue| value.as_bytes() != event.id.as_str().as_bytes();
    if let Some(other) = headers.get_all(&EVENT_ID).iter().find(another_id) {
        let message = "X-Pepay-Event-ID differs from the body's `id`";
        let detail = format!("X-Pepay-Event-ID is `{}`, the body's `id` `{}`", shown(other), event.id);
        return Err(Refusal::new(Code::EventIdMismatch, message).in_detail(detail));
    }
    // Either may refuse: the unsigned header cannot overrule the signed body.
    let named = || headers.get_all(&ENVIRONMENT).iter().filter(|value| !value.is_empty());
    if let Some(expected) = settings.environment {
        let name = expected.as_str().as_bytes();
        let elsewhere = named().any(|value| !value.as_bytes().eq_ignore_ascii_case(name))
            || event.subject.environment.is_some_and(|own| own != expected);
        if elsewhere {
            let message = format!("this endpoint takes {} events only", expected.as_str());
            let body = event.subject.environment.map_or("nothing", Environment::as_str);
            let header = named().next().map_or_else(|| "nothing".to_owned(), shown);
            let detail = format!("{message}; the header says `{header}`, the body `{body}`");
            return Err(Refusal::new(Code::WrongEnvironment, message).in_detail(detail));
        }
    }
    let in_header = named().find_map(|value| value.to_str().ok()?.to_ascii_lowercase().parse().ok());
    // The signed body comes first, then the setting of the endpoint; the header is neither.
    Ok(event.subject.environment.or(settings.environment).or(in_header))
}

/// Returns the text of a header that has exactly one value. If there are two, the meant one is unknown,
/// so neither counts.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Returns the time of a timestamp header.
fn millis(timestamp: &str) -> Option<UnixMillis> {
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = if digits { timestamp.parse().ok()? } else { return None };
    Some(UnixMillis(if number < FIRST_MILLISECONDS { number * 1000 } else { number }))
}

/// Refuses a signed timestamp that is too far from `now`.
fn in_range(timestamp: &str, tolerance: Duration, now: UnixMillis) -> Result<(), Refusal> {
    let Some(sent_at) = millis(timestamp) else {
        return Err(out_of_range().in_detail("X-Pepay-Timestamp is no timestamp"));
    };
    let (ahead, behind) = (sent_at.since(now), now.since(sent_at));
    if ahead.max(behind) <= tolerance {
        return Ok(());
    }
    let (seconds, allowed) = ((sent_at.0.saturating_sub(now.0)) / 1000, tolerance.as_secs());
    let direction = if seconds < 0 { "behind" } else { "ahead of" };
    let message = format!(
        "X-Pepay-Timestamp is {} s {direction} this machine's clock; allowed are {allowed} s",
        seconds.unsigned_abs()
    );
    Err(Refusal::new(Code::TimestampOutOfRange, message).off_by(seconds))
}

fn out_of_range() -> Refusal {
    let message = "X-Pepay-Timestamp is missing, no timestamp, or too far from the present";
    Refusal::new(Code::TimestampOutOfRange, message)
}

/// Returns the beginning of a header's value, for the operator.
pub(super) fn shown(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.chars().filter(|char| !char.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pepay::signature::SigningKey;

    const NOW: UnixMillis = UnixMillis(1_734_780_000_000);
    const BODY: &str = r#"{"id":"evt_1","object":"event","type":"test.ping","created":1734780000,
        "data":{"object":{"id":"o_1"}}}"#;

    fn key(secret: &str) -> SigningKey {
        SigningKey::new(&secret.into())
    }

    fn settings() -> Settings {
        Settings {
            name: "default".into(),
            path: "/webhooks/pepay".into(),
            keys: vec![key("current"), key("previous")],
            environment: None,
            tolerance: Duration::from_mins(5),
            max_body: 1024,
        }
    }

    /// Returns a delivery signed with the current secret.
    fn delivery(timestamp: &str, body: &str) -> Vec<(&'static str, String)> {
        let signature = key("current").sign(timestamp, body.as_bytes());
        vec![("x-pepay-timestamp", timestamp.to_owned()), ("x-pepay-signature", signature)]
    }

    fn checked(
        headers: &[(&'static str, String)],
        body: &str,
        settings: &Settings,
    ) -> Result<Received, Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        verify(&map, Bytes::copy_from_slice(body.as_bytes()), settings, NOW).map_err(|refusal| refusal.code)
    }

    /// Returns the refusal of a delivery that has to be refused.
    fn refused(headers: &[(&'static str, String)], body: &str, settings: &Settings) -> Code {
        checked(headers, body, settings).unwrap_err()
    }

    fn stamp() -> String {
        NOW.0.to_string()
    }

    #[test]
    fn a_signed_delivery_becomes_the_event_byte_for_byte() {
        let received = checked(&delivery(&stamp(), BODY), BODY, &settings()).unwrap();
        assert_eq!(received.event.body, BODY.as_bytes());
        assert_eq!(received.event.id.as_str(), "evt_1");
        assert_eq!(received.source, Source::Webhook);
        assert_eq!(&*received.origin, "default");
        assert_eq!(received.received_at, NOW);
        assert_eq!(received.environment, None);
    }

    #[test]
    fn any_secret_verifies_either_header() {
        for secret in ["current", "previous"] {
            for header in ["x-pepay-signature", "x-pepay-signature-previous"] {
                let signature = key(secret).sign(&stamp(), BODY.as_bytes());
                let headers = [("x-pepay-timestamp", stamp()), (header, signature)];
                assert!(checked(&headers, BODY, &settings()).is_ok(), "{secret} in {header}");
            }
        }
        let mut both = delivery(&stamp(), BODY);
        both.push(("x-pepay-signature-previous", "0".repeat(64)));
        assert!(checked(&both, BODY, &settings()).is_ok(), "one match is enough");
    }

    #[test]
    fn without_a_secret_everything_is_an_invalid_signature() {
        let forged = |timestamp: &str, body: &str| {
            let signature = key("guessed").sign(timestamp, body.as_bytes());
            vec![("x-pepay-timestamp", timestamp.to_owned()), ("x-pepay-signature", signature)]
        };
        let current = stamp();
        for (timestamp, body) in [(&*current, BODY), ("1", BODY), ("soon", BODY), (&*current, "no event")] {
            assert_eq!(refused(&forged(timestamp, body), body, &settings()), Code::InvalidSignature);
        }
        assert_eq!(refused(&[], BODY, &settings()), Code::InvalidSignature);
        assert_eq!(refused(&[("x-pepay-timestamp", stamp())], BODY, &settings()), Code::InvalidSignature);
    }

    #[test]
    fn one_changed_byte_breaks_the_signature() {
        let headers = delivery(&stamp(), BODY);
        assert_eq!(refused(&headers, &BODY.replace("o_1", "o_2"), &settings()), Code::InvalidSignature);
        assert_eq!(refused(&headers, &format!("{BODY} "), &settings()), Code::InvalidSignature);
        let mut moved = delivery(&stamp(), BODY);
        moved[0].1 = (NOW.0 + 1).to_string();
        assert_eq!(refused(&moved, BODY, &settings()), Code::InvalidSignature);
    }

    #[test]
    fn a_header_given_twice_does_not_count() {
        let mut two_signatures = delivery(&stamp(), BODY);
        two_signatures.push(("x-pepay-signature", "0".repeat(64)));
        assert_eq!(refused(&two_signatures, BODY, &settings()), Code::InvalidSignature);
        let mut two_timestamps = delivery(&stamp(), BODY);
        two_timestamps.push(("x-pepay-timestamp", stamp()));
        assert_eq!(refused(&two_timestamps, BODY, &settings()), Code::TimestampOutOfRange);
    }

    #[test]
    fn a_timestamp_has_to_be_a_number_within_the_tolerance() {
        let accepted = |timestamp: &str| checked(&delivery(timestamp, BODY), BODY, &settings());
        let tolerance = 300_000;
        for offset in [-tolerance, -1, 0, tolerance] {
            assert!(accepted(&(NOW.0 + offset).to_string()).is_ok(), "{offset}");
        }
        for offset in [-tolerance - 1, tolerance + 1] {
            assert_eq!(accepted(&(NOW.0 + offset).to_string()).unwrap_err(), Code::TimestampOutOfRange);
        }
        assert!(accepted("1734780000").is_ok(), "seconds");
        let no_numbers = ["", "0", "-1", "+1734780000000", "1734780000000.0", "99999999999999999999", "soon"];
        for text in no_numbers {
            assert_eq!(accepted(text).unwrap_err(), Code::TimestampOutOfRange, "{text:?}");
        }
        let without: Vec<_> = delivery(&stamp(), BODY).split_off(1);
        assert_eq!(refused(&without, BODY, &settings()), Code::TimestampOutOfRange);
    }

    #[test]
    fn a_timestamp_below_10_to_the_11_is_in_seconds_and_any_other_in_milliseconds() {
        assert_eq!(millis("99999999999"), Some(UnixMillis(99_999_999_999_000)));
        assert_eq!(millis("100000000000"), Some(UnixMillis(100_000_000_000)));
        assert_eq!(millis(&i64::MAX.to_string()), Some(UnixMillis(i64::MAX)));
    }

    #[test]
    fn a_signed_body_still_has_to_be_an_event() {
        for body in ["", "{}", "[]", "no event", &BODY.replace("evt_1", "evt 1")] {
            assert_eq!(refused(&delivery(&stamp(), body), body, &settings()), Code::MalformedPayload);
        }
    }

    #[test]
    fn the_id_header_may_be_missing_but_not_differ() {
        let with = |values: &[&str]| {
            let mut headers = delivery(&stamp(), BODY);
            headers.extend(values.iter().map(|value| ("x-pepay-event-id", (*value).to_owned())));
            checked(&headers, BODY, &settings()).map(|_| ())
        };
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&["evt_1"]), Ok(()));
        for values in [&["evt_2"][..], &["EVT_1"], &[""], &["evt_1", "evt_2"]] {
            assert_eq!(with(values), Err(Code::EventIdMismatch), "{values:?}");
        }
    }

    #[test]
    fn the_type_of_an_event_is_that_of_its_body_and_not_of_the_header() {
        let mut headers = delivery(&stamp(), BODY);
        headers.push(("x-pepay-event", "invoice.updated".to_owned()));
        let received = checked(&headers, BODY, &settings()).unwrap();
        assert_eq!(received.event.kind.as_str(), "test.ping");
    }

    #[test]
    fn a_delivery_that_names_another_environment_is_refused() {
        use Environment::{Devnet, Mainnet};
        let outcome = |expected: Option<Environment>, header: Option<&str>, own: Option<&str>| {
            let own = own.map(|name| format!(r#""id":"o_1","environment":"{name}""#));
            let body = BODY.replace(r#""id":"o_1""#, &own.unwrap_or_default());
            let mut headers = delivery(&stamp(), &body);
            headers.extend(header.map(|name| ("x-pepay-network-environment", name.to_owned())));
            let settings = Settings { environment: expected, ..settings() };
            checked(&headers, &body, &settings).map(|received| received.environment)
        };
        let wrong = Err(Code::WrongEnvironment);
        assert_eq!(outcome(Some(Devnet), None, None), Ok(Some(Devnet)), "the endpoint's own");
        assert_eq!(outcome(Some(Devnet), Some(""), None), Ok(Some(Devnet)));
        assert_eq!(outcome(Some(Devnet), Some("devnet"), None), Ok(Some(Devnet)));
        assert_eq!(outcome(Some(Devnet), Some("DEVNET"), None), Ok(Some(Devnet)));
        assert_eq!(outcome(Some(Devnet), None, Some("devnet")), Ok(Some(Devnet)));
        assert_eq!(outcome(Some(Devnet), Some("mainnet"), None), wrong);
        assert_eq!(outcome(Some(Devnet), Some("testnet"), None), wrong);
        assert_eq!(outcome(Some(Devnet), None, Some("mainnet")), wrong);
        assert_eq!(outcome(Some(Mainnet), Some("mainnet"), Some("devnet")), wrong);
        assert_eq!(
            outcome(None, Some("devnet"), Some("mainnet")),
            Ok(Some(Mainnet)),
            "signed before unsigned"
        );
        assert_eq!(outcome(None, Some("testnet"), Some("mainnet")), Ok(Some(Mainnet)));
        assert_eq!(outcome(None, Some("devnet"), None), Ok(Some(Devnet)));
        assert_eq!(outcome(None, None, None), Ok(None));
    }
}
