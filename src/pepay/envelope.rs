//! The event envelope (`PepayEvent`, format `event_v1`): the same JSON in a
//! webhook body, a WebSocket frame and the REST list.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::domain::event::{Event, InvalidEventId, InvalidEventType};

/// How deep an event may nest. Pepay's own stay below ten; what lies beyond
/// this is refused so that it cannot harm a target's parser either.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are no event.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEnvelope {
    /// Not UTF-8, as JSON has to be.
    #[error("the body is not UTF-8")]
    Encoding,
    /// Not JSON.
    #[error("the body is not JSON at line {line}, column {column}")]
    Json {
        /// Where it stops being JSON, from 1.
        line: usize,
        /// The same within the line, from 1.
        column: usize,
    },
    /// JSON, but a required field is missing, is there twice, or has the wrong
    /// type. The parser's own message would repeat the value.
    #[error(
        "the body is not an event: `id`, `object`, `type`, `created` and `data.object` are needed once each, as documented (line {line}, column {column})"
    )]
    Shape {
        /// Where that was noticed, from 1.
        line: usize,
        /// The same within the line, from 1.
        column: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// `object` is something else.
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
        let (line, column) = (error.line(), error.column());
        if error.is_data() { Self::Shape { line, column } } else { Self::Json { line, column } }
    }
}

/// A JSON object read as `T`. A struct alone would take an array of its fields as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// The fields the bridge needs, borrowed from the body; all others pass through unread.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    object: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    created: i64,
    #[serde(borrow)]
    data: Object<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    object: Object<DataObject<'a>>,
}

#[derive(Deserialize)]
struct DataObject<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    environment: Option<Text<'a>>,
}

/// A field whose documented type is string. Another type is not worth losing
/// the event over: it counts as absent.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(serde::de::IgnoredAny),
}

impl Text<'_> {
    fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) => None,
        }
    }
}

/// Reads the event in `body`, which is kept as it is.
///
/// # Errors
/// [`InvalidEnvelope`] says what is wrong, and nothing of what the body holds.
pub fn parse(body: Bytes) -> Result<Event, InvalidEnvelope> {
    let text = std::str::from_utf8(&body).map_err(|_| InvalidEnvelope::Encoding)?;
    if nests_deeper_than(text, MAX_DEPTH) {
        return Err(InvalidEnvelope::TooDeep);
    }
    let Object(envelope) = serde_json::from_str::<Object<Envelope>>(text)?;
    if envelope.object != "event" {
        return Err(InvalidEnvelope::NotAnEvent);
    }
    let object = &envelope.data.0.object.0;
    let (id, kind) = (envelope.id.parse()?, envelope.kind.parse()?);
    let created = envelope.created;
    let object_id = object.id.as_ref().and_then(Text::as_str).filter(|id| !id.is_empty()).map(Into::into);
    let environment = object.environment.as_ref().and_then(Text::as_str).and_then(|name| name.parse().ok());
    Ok(Event { id, kind, object_id, created, environment, body })
}

/// Whether brackets nest deeper than `limit`. Asked before the text is known to
/// be JSON; a text that is not may get either answer and fails in the parser.
fn nests_deeper_than(text: &str, limit: usize) -> bool {
    // Most events open fewer than that in all, and counting takes no state: it is many times faster.
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

/// How many brackets open. Counted in bytes, in pieces that fit one, since the
/// processor adds up many bytes at a time: an eighth of the time.
fn brackets(text: &str) -> usize {
    let opening = |byte: &u8| u8::from(matches!(byte, b'{' | b'['));
    let pieces = text.as_bytes().chunks(usize::from(u8::MAX));
    pieces.map(|piece| usize::from(piece.iter().map(opening).sum::<u8>())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Environment;

    const EVENT: &str = r#"{"id":"evt_1734780000000-123","object":"event","type":"commerce.order.updated",
        "created":1734780000,"livemode":false,"unknown":[1,{"a":null}],
        "data":{"object":{"object":"commerce_order","id":"3c90c3cc","status":"placed","environment":"devnet"}}}"#;

    fn event(text: &str) -> Result<Event, InvalidEnvelope> {
        parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn the_needed_fields_are_read_and_the_bytes_kept() {
        let event = event(EVENT).unwrap();
        assert_eq!(event.id.as_str(), "evt_1734780000000-123");
        assert_eq!(event.kind.as_str(), "commerce.order.updated");
        assert_eq!(event.object_id.as_deref(), Some("3c90c3cc"));
        assert_eq!(event.created, 1_734_780_000);
        assert_eq!(event.environment, Some(Environment::Devnet));
        assert_eq!(event.body, EVENT.as_bytes());
    }

    #[test]
    fn an_object_without_a_usable_id_is_still_an_event() {
        for object in
            ["{}", r#"{"id":7}"#, r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":["x"],"environment":3}"#]
        {
            let text = format!(
                r#"{{"id":"e","object":"event","type":"t","created":1,"data":{{"object":{object}}}}}"#
            );
            assert_eq!(event(&text).unwrap().object_id, None, "{object}");
        }
    }

    #[test]
    fn escapes_in_the_needed_fields_are_resolved() {
        let event = event(&EVENT.replace("evt_", "\\u0065vt_")).unwrap();
        assert_eq!(event.id.as_str(), "evt_1734780000000-123");
    }

    #[test]
    fn what_is_no_event_is_refused_with_a_reason() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let cases = [
            ("", "not JSON at line 1"),
            ("[]", "not an event"),
            ("{}", "not an event"),
            (r#"["e","event","t",1,{"object":{"id":"o"}}]"#, "not an event"),
            (r#"{"id":"e","object":"event","type":"t","created":1,"data":[{"id":"o"}]}"#, "not an event"),
            (r#"{"id":"e","object":"event","type":"t","created":1,"data":{"object":["o"]}}"#, "not an event"),
            (&*EVENT.replace("\"event\"", "\"ws_control\""), "`object` is not"),
            (&*EVENT.replace("\"created\"", "\"made\""), "needed once each"),
            (&*EVENT.replace("evt_1734780000000-123", "evt 1"), "`id`:"),
            (&*EVENT.replace("commerce.order.updated", "a\\nb"), "`type`:"),
            (&*EVENT.replace("\"livemode\":false", "\"id\":\"evt_2\""), "needed once each"),
            (&*format!("{EVENT}x"), "not JSON at"),
            (&*EVENT.replace("1734780000,", "\"hunter2\","), "not an event"),
            (&*EVENT.replace("[1,{\"a\":null}]", &deep), "deeper than 64"),
        ];
        for (text, reason) in cases {
            let error = event(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error:?} does not say {reason:?}");
            assert!(!error.contains("hunter2"), "{error:?} repeats the body");
        }
        assert!(matches!(parse(Bytes::from_static(b"\xff")), Err(InvalidEnvelope::Encoding)));
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
