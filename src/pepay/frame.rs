//! Text frames of the WebSocket stream: one JSON object each, distinguished by `object` (Pepay:
//! `api-spec/realtime/websockets`).

use bytes::Bytes;

use super::error::Words;
use super::{envelope, error, json};
use crate::domain::clock::UnixMillis;
use crate::domain::event::Event;

/// The largest part of a frame that is put into a log line, in bytes.
const SHOWN: usize = 1024;

/// A parsed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A `PepayEvent`.
    Event(Event),
    /// `ws_control`. Its fields are undocumented.
    Control {
        /// Whether it hints that events are missing.
        gap: bool,
        /// Its text, shortened for a log.
        text: String,
    },
    /// `ws_error`: the server is about to close.
    Error {
        /// Its text, shortened for a log.
        text: String,
    },
    /// None of these, with the reason. The frame is skipped.
    Unknown(String),
}

/// Reads one frame that arrived at `received_at`. Returns a value for every content. A frame without
/// `object` is an event if it has the members of one.
pub fn parse(body: Bytes, received_at: UnixMillis) -> Frame {
    match object(&body).as_deref() {
        None | Some("event") => match envelope::parse(body, received_at) {
            Ok(event) => Frame::Event(event),
            Err(problem) => Frame::Unknown(problem.to_string()),
        },
        Some("ws_control") => Frame::Control { gap: hints_at_gap(&body), text: shortened(&body) },
        Some("ws_error") => {
            let Words { code, message, .. } = Words::of(&body);
            let words: Vec<_> = [code, message].into_iter().flatten().collect();
            Frame::Error { text: error::legible(&words.join(": "), &[]) }
        }
        Some(other) => Frame::Unknown(format!("`object` is {:?}", error::legible(other, &[]))),
    }
}

/// Returns the text of `object`, if it is one.
fn object(body: &[u8]) -> Option<String> {
    let [object] = json::named(body, &["object"])?.values;
    object.and_then(json::text).map(std::borrow::Cow::into_owned)
}

/// Returns whether a control frame hints at a gap: any value with one of these words does, and so does
/// a flag or a count named after one, unless it is off.
fn hints_at_gap(body: &[u8]) -> bool {
    let says_so = |text| json::text(text).is_some_and(|text| names_a_gap(&text));
    json::leaves(body).any(|(name, value)| match value.first() {
        Some(b'"') => says_so(value),
        Some(b't') => name.is_some_and(says_so),
        Some(b'0'..=b'9') => {
            name.is_some_and(says_so) && value.iter().any(|byte| (b'1'..=b'9').contains(byte))
        }
        _ => false,
    })
}

fn names_a_gap(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["resync", "snapshot", "truncated", "gap"].iter().any(|word| text.contains(word))
}

fn shortened(body: &[u8]) -> String {
    let beginning = body.get(..SHOWN).unwrap_or(body);
    error::legible(&String::from_utf8_lossy(beginning), &[])
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
            (r#"{"object":"ws_control","gap_events":0}"#, false),
            (r#"{"object":"ws_control","note":"re\u0073ync"}"#, true),
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
        assert!(matches!(frame(&deep), Frame::Control { gap: false, .. }));
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
            &deep_event,
            "\u{0}",
        ] {
            assert!(matches!(frame(text), Frame::Unknown(_)), "{text:.60}");
        }
        assert!(matches!(parse(Bytes::from_static(b"\xff\xfe"), UnixMillis(0)), Frame::Unknown(_)));
    }
}
