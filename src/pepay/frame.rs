//! Text frames of the WebSocket stream: one JSON object each, told apart by
//! `object` (Pepay: `api-spec/realtime/websockets`).

use bytes::Bytes;
use serde_json::Value;

use super::members::{self, members};
use super::{envelope, error};
use crate::domain::clock::UnixMillis;
use crate::domain::event::Event;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A `PepayEvent`.
    Event(Event),
    /// `ws_control`. Its fields are undocumented.
    Control {
        /// Whether it hints that events are missing.
        gap: bool,
        /// What it said, shortened for a log.
        text: String,
    },
    /// `ws_error`: the server is about to close.
    Error {
        /// What it said, shortened for a log.
        text: String,
    },
    /// None of these, and why. The frame is skipped.
    Unknown(String),
}

/// Reads one frame that arrived at `received_at`. Returns a frame whatever it holds.
/// One that does not say what it is, is an event if it has what makes one.
pub fn parse(body: Bytes, received_at: UnixMillis) -> Frame {
    match object(&body).as_deref() {
        None | Some("event") => match envelope::parse(body, received_at) {
            Ok(event) => Frame::Event(event),
            Err(problem) => Frame::Unknown(problem.to_string()),
        },
        Some("ws_control") => match serde_json::from_slice::<Value>(&body) {
            Ok(value) => Frame::Control { gap: hints_at_gap(&value), text: shortened(&value) },
            Err(problem) => Frame::Unknown(error::place(&problem)),
        },
        Some("ws_error") => {
            let (code, message) =
                serde_json::from_slice(&body).map_or((None, None), |value| error::code_and_message(&value));
            let words: Vec<_> = [code, message].into_iter().flatten().collect();
            Frame::Error { text: error::legible(&words.join(": "), &[]) }
        }
        Some(other) => Frame::Unknown(format!("`object` is {:?}", error::legible(other, &[]))),
    }
}

/// The text of `object`, if it is one.
fn object(body: &[u8]) -> Option<String> {
    let found = members(std::str::from_utf8(body).ok()?, &["object"]).ok()??;
    let [object] = found.values;
    object.and_then(members::string).map(std::borrow::Cow::into_owned)
}

/// Any value containing one of these words hints at events that were left out;
/// so does a flag or a count named after one, unless it is off.
fn hints_at_gap(value: &Value) -> bool {
    match value {
        Value::String(text) => names_a_gap(text),
        Value::Array(values) => values.iter().any(hints_at_gap),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let on = value.as_bool() == Some(true) || value.as_f64().is_some_and(|count| count > 0.0);
            hints_at_gap(value) || on && names_a_gap(name)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn names_a_gap(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["resync", "snapshot", "truncated", "gap"].iter().any(|word| text.contains(word))
}

fn shortened(value: &Value) -> String {
    error::legible(&value.to_string(), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Frame {
        parse(Bytes::copy_from_slice(text.as_bytes()), UnixMillis(0))
    }

    #[test]
    fn an_event_keeps_its_bytes() {
        let text = r#"{ "object":"event", "id":"evt_1","type":"t","created":1,"data":{"object":{}}}"#;
        let Frame::Event(event) = frame(text) else { panic!("no event") };
        assert_eq!(event.body, text.as_bytes());
    }

    #[test]
    fn a_control_frame_hints_at_a_gap_by_any_of_its_values() {
        for (text, expected) in [
            (r#"{"object":"ws_control","type":"resync_required"}"#, true),
            (r#"{"object":"ws_control","data":{"notes":["Bounded SNAPSHOT"]}}"#, true),
            (r#"{"object":"ws_control","truncated":true}"#, true),
            (r#"{"object":"ws_control","replay":{"gap_events":12}}"#, true),
            (r#"{"object":"ws_control","gap":false,"type":"replay_complete"}"#, false),
            (r#"{"object":"ws_control"}"#, false),
        ] {
            let Frame::Control { gap, .. } = frame(text) else { panic!("{text}") };
            assert_eq!(gap, expected, "{text}");
        }
    }

    #[test]
    fn an_error_frame_is_read_in_every_shape() {
        for text in [
            r#"{"object":"ws_error","code":"E1","message":"bye"}"#,
            r#"{"object":"ws_error","error_code":"E1","message":"bye"}"#,
            r#"{"object":"ws_error","error":{"code":"E1","message":"bye"}}"#,
        ] {
            assert_eq!(frame(text), Frame::Error { text: "E1: bye".to_owned() }, "{text}");
        }
        assert_eq!(frame(r#"{"object":"ws_error"}"#), Frame::Error { text: String::new() });
    }

    #[test]
    fn hostile_frames_are_named_and_never_a_crash() {
        let deep = format!(r#"{{"object":"ws_control","a":{}1{}}}"#, "[".repeat(9999), "]".repeat(9999));
        let deep_event = deep.replace("ws_control", "event");
        for text in [
            "",
            "hello",
            "[]",
            "null",
            "{}",
            r#"{"object":7}"#,
            r#"{"object":"event"}"#,
            r#"{"object":"shape_of_tomorrow"}"#,
            &deep,
            &deep_event,
            "\u{0}",
        ] {
            assert!(matches!(frame(text), Frame::Unknown(_)), "{text:.60}");
        }
        assert!(matches!(parse(Bytes::from_static(b"\xff\xfe"), UnixMillis(0)), Frame::Unknown(_)));
    }
}
