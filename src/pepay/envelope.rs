//! The event envelope (`PepayEvent`, format `event_v1`): the same JSON in a
//! webhook body, a WebSocket frame and the REST list.

use bytes::Bytes;

use super::digest::{self, Data};
use super::json::{self, Named};
use super::{created, subject};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId, EventType, InvalidEventId, InvalidEventType};

/// The largest depth of an event. Pepay's own stay below ten. A deeper event is refused so that it
/// cannot harm a target's parser either.
pub const MAX_DEPTH: usize = 64;

/// The members of an envelope that are read beside `data`.
const NAMES: [&str; 4] = ["id", "type", "object", "created"];

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEnvelope {
    /// The body is not UTF-8, which JSON requires.
    #[error("the body is not UTF-8")]
    Encoding,
    /// The body is not JSON.
    #[error("the body is not JSON at line {line}, column {column}")]
    Json {
        /// Where it stops being JSON, from 1.
        line: usize,
        /// The same within the line, from 1.
        column: usize,
    },
    /// The body is JSON, but not an object, or `id` or `type` is missing, is there twice, or is not a
    /// text. The parser's own message would repeat the value.
    #[error("the body is not an event: `id` and `type` are needed once each, as text")]
    Shape,
    /// The body is nested deeper than [`MAX_DEPTH`].
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// `object` is another text.
    #[error("`object` is not \"event\"")]
    NotAnEvent,
    /// `id` cannot be an event id.
    #[error("`id`: {0}")]
    Id(#[from] InvalidEventId),
    /// `type` cannot be an event type.
    #[error("`type`: {0}")]
    Type(#[from] InvalidEventType),
}

impl From<serde_json::Error> for InvalidEnvelope {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { line: error.line(), column: error.column() }
    }
}

/// Reads the event in `body`, which is kept unchanged and arrived at `received_at`.
///
/// `id` and `type` make an event. Every other field is read if its value is valid, and counts as absent
/// otherwise. Of a name that is there twice, the last value is read, as by most parsers; `id` and
/// `type` may not be there twice.
///
/// # Errors
/// [`InvalidEnvelope`] names the fault, and repeats nothing of the body.
pub fn parse(body: Bytes, received_at: UnixMillis) -> Result<Event, InvalidEnvelope> {
    let text = std::str::from_utf8(&body).map_err(|_| InvalidEnvelope::Encoding)?;
    if nests_deeper_than(text, MAX_DEPTH) {
        return Err(InvalidEnvelope::TooDeep);
    }
    json::check(text)?;
    let (envelope, data) = read(&body).ok_or(InvalidEnvelope::Shape)?;
    let ([id, kind, object, created], [id_repeated, kind_repeated, ..]) =
        (envelope.values, envelope.repeated);
    if id_repeated || kind_repeated {
        return Err(InvalidEnvelope::Shape);
    }
    let needed = |value: Option<_>| value.and_then(json::text).ok_or(InvalidEnvelope::Shape);
    let (id, kind): (EventId, EventType) = (needed(id)?.parse()?, needed(kind)?.parse()?);
    if object.and_then(json::text).is_some_and(|object| object != "event") {
        return Err(InvalidEnvelope::NotAnEvent);
    }
    let told = created.and_then(created::told);
    let digest = digest::of(kind.as_str(), told, data.as_ref());
    let subject = data.map(|data| subject::of(&kind, &data.object)).unwrap_or_default();
    let created = told.unwrap_or_else(|| created::fallback(&id, received_at));
    Ok(Event { id, kind, subject, created, digest: Some(digest), body })
}

/// Returns the members of an envelope by [`NAMES`], and its `data`, which is read only once, since it
/// is most of the event. `None` if `body` is not an object.
fn read(body: &[u8]) -> Option<(Named<'_, 4>, Option<Data<'_, 11>>)> {
    let (mut members, mut envelope, mut data) = (json::members(body)?, Named::nothing(), None);
    loop {
        let member = members.next_by(|name, text| {
            if *json::unescaped(name) != *b"data" {
                return json::end_of_value(text);
            }
            // If there are several, the last one counts.
            data = Data::read(text, &subject::NAMES);
            data.as_ref().map(|data| data.length)
        });
        let Some(Ok((name, value))) = member else { return Some((envelope, data)) };
        envelope.note(&NAMES, &json::unescaped(name), value);
    }
}

/// Returns whether brackets nest deeper than `limit`. It is called before the text is known to be JSON.
/// For a text that is not, either result is possible, and the parser fails.
fn nests_deeper_than(text: &str, limit: usize) -> bool {
    // Most events have fewer brackets than that in all, and counting takes no state: it is many times
    // faster.
    if brackets(text) <= limit {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Returns the number of opening brackets. They are counted in bytes, in pieces whose count fits one
/// byte, since the processor adds up many bytes at a time: an eighth of the time.
fn brackets(text: &str) -> usize {
    let opening = |byte: &u8| u8::from(matches!(byte, b'{' | b'['));
    let pieces = text.as_bytes().chunks(usize::from(u8::MAX));
    pieces.map(|piece| usize::from(piece.iter().map(opening).sum::<u8>())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Environment, Subject};

    const EVENT: &str = r#"{"id":"evt_1734780000000-123","object":"event","type":"commerce.order.updated",
        "created":1734780000,"livemode":false,"unknown":[1,{"a":null}],
        "data":{"object":{"object":"commerce_order","id":"3c90c3cc","status":"placed","environment":"devnet"}}}"#;

    fn event(text: &str) -> Result<Event, InvalidEnvelope> {
        parse(Bytes::copy_from_slice(text.as_bytes()), UnixMillis(5_000))
    }

    #[test]
    fn the_needed_fields_are_read_and_the_bytes_kept() {
        let event = event(EVENT).unwrap();
        assert_eq!(event.id.as_str(), "evt_1734780000000-123");
        assert_eq!(event.kind.as_str(), "commerce.order.updated");
        assert_eq!(event.subject.object.as_deref(), Some("3c90c3cc"));
        assert_eq!(event.created, 1_734_780_000);
        assert_eq!(event.subject.environment, Some(Environment::Devnet));
        assert_eq!(event.body, EVENT.as_bytes());
    }

    #[test]
    fn an_object_without_a_usable_id_is_still_an_event() {
        for object in [
            "{}",
            "7",
            "null",
            r#"["o"]"#,
            r#"{"id":null}"#,
            r#"{"id":""}"#,
            r#"{"id":["x"],"environment":3}"#,
        ] {
            let text = format!(
                r#"{{"id":"e","object":"event","type":"t","created":1,"data":{{"object":{object}}}}}"#
            );
            assert_eq!(event(&text).unwrap().subject.object, None, "{object}");
        }
    }

    #[test]
    fn escapes_in_the_needed_fields_are_resolved() {
        let event = event(&EVENT.replace("evt_", "\\u0065vt_")).unwrap();
        assert_eq!(event.id.as_str(), "evt_1734780000000-123");
    }

    #[test]
    fn a_body_that_is_no_event_is_refused_with_a_reason() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let cases = [
            ("", "not JSON at line 1"),
            ("[]", "not an event"),
            ("{}", "not an event"),
            ("null", "not an event"),
            (r#"["e","event","t",1,{"object":{"id":"o"}}]"#, "not an event"),
            (r#"{"id":7,"type":"t"}"#, "needed once each"),
            (r#"{"id":"e","type":null}"#, "needed once each"),
            (r#"{"id":"\ud800","type":"hunter2"}"#, "needed once each"),
            (&*EVENT.replace("\"event\"", "\"ws_control\""), "`object` is not"),
            (&*EVENT.replace("\"type\"", "\"kind\""), "needed once each"),
            (&*EVENT.replace("evt_1734780000000-123", "evt 1"), "`id`:"),
            (&*EVENT.replace("commerce.order.updated", "a\\nb"), "`type`:"),
            (&*EVENT.replace("\"livemode\":false", "\"id\":\"evt_2\""), "needed once each"),
            (&*EVENT.replace("\"livemode\":false", "\"type\":\"hunter2\""), "needed once each"),
            (&*format!("{EVENT}x"), "not JSON at"),
            (&*EVENT.replace("[1,{\"a\":null}]", &deep), "deeper than 64"),
        ];
        for (text, reason) in cases {
            let error = event(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error:?} does not say {reason:?}");
            assert!(!error.contains("hunter2"), "{error:?} repeats the body");
        }
        assert!(matches!(parse(Bytes::from_static(b"\xff"), UnixMillis(0)), Err(InvalidEnvelope::Encoding)));
    }

    #[test]
    fn an_event_is_refused_for_no_field_but_id_and_type() {
        let ignored = [
            r#""created":null"#,
            r#""created":"hunter2""#,
            r#""created":[1]"#,
            r#""created":1e999"#,
            r#""object":null"#,
            r#""object":7"#,
            r#""data":null"#,
            r#""data":[{"id":"o"}]"#,
            r#""data":{}"#,
            r#""data":{"object":null}"#,
            r#""data":{"object":["o"]}"#,
            r#""data":{"object":{"id":["o"]}}"#,
            r#""data":{"object":{"id":"\ud800"}}"#,
            r#""data":{"\ud800":"\udfff","object":{"\ud800":1e999}}"#,
            r#""x":"\ud800","\udc00":-1e999,"x":1"#,
            r#""livemode":"x","pending_webhooks":{},"request":[],"api_version":7"#,
        ];
        for fields in ignored {
            let text = format!(r#"{{"id":"evt_1734780000000-1","type":"test.ping",{fields}}}"#);
            let event = event(&text).unwrap_or_else(|error| panic!("{fields}: {error}"));
            assert_eq!((event.subject, event.created), (Subject::default(), 1_734_780_000), "{fields}");
        }
        assert_eq!(event(r#"{"id":"evt_1","type":"test.ping"}"#).unwrap().created, 5, "the arrival");
    }

    #[test]
    fn the_digest_goes_by_what_an_event_says_and_not_by_its_bytes() {
        let digest = |text: &str| event(text).unwrap().digest.unwrap();
        let repeat = EVENT
            .replace("\"livemode\":false", "\"pending_webhooks\":3,\"livemode\":true")
            .replace("1734780000,", "\"1734780000\",")
            .replace(':', " : ");
        assert_eq!(digest(EVENT), digest(&repeat));
        for (from, to) in [("placed", "shipped"), ("order.updated", "order.created"), ("780000,", "780001,")]
        {
            assert_ne!(digest(EVENT), digest(&EVENT.replace(from, to)), "{to}");
        }
    }

    #[test]
    fn brackets_are_counted_however_many_there_are() {
        for count in [0, 1, 254, 255, 256, 10_000] {
            assert_eq!(brackets(&"[".repeat(count)), count);
            assert_eq!(brackets(&"{:".repeat(count)), count);
        }
    }

    #[test]
    fn brackets_inside_strings_do_not_count_as_depth() {
        let text = EVENT.replace("placed", &format!("\\\"{}", "[".repeat(500)));
        assert!(event(&text).is_ok());
    }
}
