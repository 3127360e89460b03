//! `GET /api/v1/events/{id}`: one event, with its exact bytes
//! (Pepay: `api-reference/events`).

use bytes::Bytes;

use crate::pepay::json;

/// The content of an answer with 200.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Single {
    /// The event, as it was sent.
    Event(Bytes),
    /// A denial (`"success":false`).
    Denied,
    /// The answer has no known form.
    Unreadable,
}

/// Reads the answer, with or without its `success`/`data` wrapper. An event has a member `data` as
/// well; its own `id` distinguishes it.
pub(super) fn parse(body: &Bytes) -> Single {
    let (mut has_id, mut data, mut denied) = (false, None, false);
    let Some(members) = json::members(body) else { return Single::Unreadable };
    for member in members {
        match member {
            Ok((b"id", _)) => has_id = true,
            Ok((b"data", value)) => data = Some(value),
            Ok((b"success", b"false")) => denied = true,
            Ok(_) => {}
            Err(_) => return Single::Unreadable,
        }
    }
    match data {
        _ if has_id => Single::Event(body.slice_ref(body.trim_ascii())),
        _ if denied => Single::Denied,
        Some(event) if json::member(event, "id").is_some() => Single::Event(body.slice_ref(event)),
        _ => Single::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_bytes_with_and_without_a_wrapper() {
        let event = r#"{ "id":"evt_1",  "object":"event","data":{"object":{"id":"o"}} }"#;
        for body in
            [event.to_owned(), format!(" {event}\n"), format!(r#"{{"success":true,"data": {event} }}"#)]
        {
            assert_eq!(parse(&body.into()), Single::Event(event.into()));
        }
    }

    #[test]
    fn anything_else_is_no_event() {
        assert_eq!(parse(&r#"{"success":false,"message":"no"}"#.into()), Single::Denied);
        for body in ["", "[]", "{}", "<html>", r#"{"data":{}}"#, r#"{"data":[]}"#, r#"{"id":"evt_1""#] {
            assert_eq!(parse(&body.into()), Single::Unreadable, "{body}");
        }
    }
}
