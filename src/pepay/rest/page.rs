//! One page of the list of events, each event with its exact bytes.

use std::fmt;

use bytes::Bytes;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};
use crate::pepay::{envelope, json};

/// One page of the list of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The events, newest first, at most as many as were asked for. Further events of the answer are
    /// left for the next page.
    pub events: Vec<Event>,
    /// The oldest id on the page, from which the next page follows. It is also read from an entry that
    /// is otherwise not an event.
    pub last: Option<EventId>,
    /// Whether the list goes on after `last`.
    pub has_more: bool,
    /// The entries that are not events.
    pub skipped: Option<Skipped>,
    /// When the page had arrived.
    pub received_at: UnixMillis,
    /// Pepay's time when it sent the page, to the second; `None` without a `Date` header.
    pub server_time: Option<UnixMillis>,
}

/// The entries of a page that are not events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The number of entries.
    pub count: usize,
    /// The id of the first one, if it has one, and its fault.
    pub first: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)
    }
}

/// Why an answer is not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// The answer is a denial (`"success":false`).
    #[error("the event list is denied")]
    Denied,
    /// The answer is not JSON, or JSON of another shape.
    #[error("the event list is not in a known form")]
    Form,
    /// The answer says that the list goes on, and has no entry from which to go on.
    #[error("a page of the event list says that there is more and holds no id to go on from")]
    DeadEnd,
}

/// Reads the answer to a request for `limit` events:
/// `{"success":true,"data":{"object":"list","data":[…],"has_more":…}}`, the inner
/// object alone, or the array alone. Without `has_more`, a full page counts as having a successor. An
/// entry that is not an event does not affect the others.
pub(super) fn parse(body: &[u8], limit: u16, received_at: UnixMillis) -> Result<Page, Unreadable> {
    let answer = List::of(body)?;
    let (mut events, mut last, mut skipped) = (Vec::new(), None, None);
    let (mut count, mut cut) = (0, false);
    for entry in json::items(answer.entries).ok_or(Unreadable::Form)? {
        let entry = entry.map_err(|_| Unreadable::Form)?;
        if count == usize::from(limit) {
            cut = true;
            break;
        }
        count += 1;
        let id = json::member(entry, "id").and_then(id);
        // The entry is copied, so that one kept event does not keep the whole page in memory.
        match envelope::parse(Bytes::copy_from_slice(entry), received_at) {
            Ok(event) => events.push(event),
            Err(problem) => skip(&mut skipped, id.as_ref(), &problem),
        }
        last = id.or(last);
    }
    let has_more = cut || answer.has_more.unwrap_or(count >= usize::from(limit));
    if has_more && last.is_none() {
        return Err(Unreadable::DeadEnd);
    }
    Ok(Page { events, last, has_more, skipped, received_at, server_time: None })
}

/// Returns the page of one unreadable entry, if an event id can be found in it, so that a walk can skip
/// the entry. `why` is its fault.
pub(super) fn around_bad_entry(body: &[u8], why: &dyn fmt::Display, received_at: UnixMillis) -> Option<Page> {
    let last = find_id(body)?;
    let mut skipped = None;
    skip(&mut skipped, Some(&last), why);
    Some(Page {
        events: Vec::new(),
        last: Some(last),
        has_more: true,
        skipped,
        received_at,
        server_time: None,
    })
}

fn skip(skipped: &mut Option<Skipped>, id: Option<&EventId>, why: &dyn fmt::Display) {
    let first = || id.map_or_else(|| why.to_string(), |id| format!("{id}: {why}"));
    skipped.get_or_insert_with(|| Skipped { count: 0, first: first() }).count += 1;
}

/// The place of the list in an answer.
struct List<'a> {
    entries: &'a [u8],
    has_more: Option<bool>,
}

impl<'a> List<'a> {
    fn of(body: &'a [u8]) -> Result<Self, Unreadable> {
        if json::items(body).is_some() {
            return Ok(Self { entries: body, has_more: None });
        }
        let outer = Self::members(body)?;
        if json::items(outer.entries).is_some() {
            return Ok(outer);
        }
        let inner = Self::members(outer.entries)?;
        Ok(Self { has_more: inner.has_more.or(outer.has_more), ..inner })
    }

    fn members(object: &'a [u8]) -> Result<Self, Unreadable> {
        let (mut entries, mut has_more) = (None, None);
        for member in json::members(object).ok_or(Unreadable::Form)? {
            match member.map_err(|_| Unreadable::Form)? {
                (b"success", b"false") => return Err(Unreadable::Denied),
                (b"data", value) => entries = Some(value),
                (b"has_more", value) => has_more = Some(value == b"true").filter(|_| value != b"null"),
                _ => {}
            }
        }
        Ok(Self { entries: entries.ok_or(Unreadable::Form)?, has_more })
    }
}

fn id(value: &[u8]) -> Option<EventId> {
    json::text(value)?.parse().ok()
}

/// Returns the first id in `body` that looks like an event's, or else the first of any kind.
fn find_id(body: &[u8]) -> Option<EventId> {
    const NAME: &[u8] = b"\"id\"";
    let mut first = None;
    let mut rest = body;
    while let Some(at) = rest.windows(NAME.len()).position(|bytes| bytes == NAME) {
        rest = rest.get(at + NAME.len()..)?;
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        let end = value.and_then(|value| value.iter().skip(1).position(|byte| *byte == b'"'));
        let found = value.zip(end).and_then(|(value, end)| id(value.get(..end + 2)?));
        if let Some(found) = found {
            if found.as_str().starts_with("evt_") {
                return Some(found);
            }
            first = first.or(Some(found));
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"id":"evt_2",  "object":"event","type":"t","created":2,"data":{"object":{}}}"#;
    const TWO: &str = r#"{"id":"evt_1","object":"event","type":"t","created":1,"data":{"object":{}}}"#;

    fn page(body: &str) -> Result<Page, Unreadable> {
        parse(body.as_bytes(), 2, UnixMillis(5))
    }

    #[test]
    fn every_form_of_list_is_read_and_each_events_bytes_are_kept() {
        let list = format!(r#"{{"object":"list","data":[{ONE}, {TWO}],"has_more":false}}"#);
        for body in [&format!(r#"{{"success":true,"data":{list}}}"#), &list] {
            let page = page(body).unwrap();
            assert_eq!(
                page.events.iter().map(|event| &*event.body).collect::<Vec<_>>(),
                [ONE.as_bytes(), TWO.as_bytes()]
            );
            assert_eq!(page.last.as_ref().map(EventId::as_str), Some("evt_1"));
            assert!(!page.has_more);
        }
    }

    #[test]
    fn has_more_is_read_beside_the_list_and_beside_its_wrapper() {
        let list = format!(r#"{{"object":"list","data":[{ONE}]}}"#);
        for (body, has_more) in [
            (format!(r#"{{"success":true,"data":{list},"has_more":true}}"#), true),
            (format!(r#"{{"success":true,"data":[{ONE}],"has_more":true}}"#), true),
            (format!(r#"{{"success":true,"data":{list},"has_more":false}}"#), false),
        ] {
            assert_eq!(page(&body).unwrap().has_more, has_more, "{body}");
        }
    }

    #[test]
    fn without_has_more_a_full_page_has_a_successor() {
        assert!(page(&format!("[{ONE},{TWO}]")).unwrap().has_more);
        assert!(!page(&format!("[{ONE}]")).unwrap().has_more);
        assert!(!page(r#"{"data":[]}"#).unwrap().has_more);
    }

    #[test]
    fn an_entry_that_is_no_event_does_not_affect_its_neighbours() {
        let bad = TWO.replace("\"created\":1", "\"created\":1,\"x\":\"?\"").into_bytes();
        for byte in [0xff, 0x01] {
            let bad: Vec<_> = bad.iter().map(|b| if *b == b'?' { byte } else { *b }).collect();
            let body = [b"{\"data\":[", ONE.as_bytes(), b",", &bad, b"],\"has_more\":true}"].concat();
            let page = parse(&body, 2, UnixMillis(5)).unwrap();
            assert_eq!(page.events.len(), 1);
            assert_eq!(page.last.unwrap().as_str(), "evt_1");
            let skipped = page.skipped.unwrap();
            assert_eq!(skipped.count, 1);
            assert!(skipped.first.starts_with("evt_1: "), "{skipped}");
        }
        for bad in ["7", "NaN", r#"{"id":"evt_0","x":1}"#, r#"{"x":NaN,"id":"evt_0"}"#, "[[1e999]]"] {
            let page = page(&format!(r#"{{"data":[{bad},{ONE}],"has_more":true}}"#)).unwrap();
            assert_eq!((page.events.len(), page.skipped.unwrap().count), (1, 1), "{bad}");
            assert_eq!(page.last.unwrap().as_str(), "evt_2");
        }
    }

    #[test]
    fn the_last_id_is_read_from_what_is_otherwise_no_event() {
        let page = page(&format!(r#"[{ONE},{{"x":"\u00e9","id":"evt_0"}}]"#)).unwrap();
        assert_eq!(page.last.unwrap().as_str(), "evt_0");
    }

    #[test]
    fn no_more_entries_are_held_than_were_asked_for() {
        let page = page(&format!(r#"{{"data":[{ONE},{TWO},{ONE}],"has_more":false}}"#)).unwrap();
        assert_eq!((page.events.len(), page.has_more), (2, true));
        assert_eq!(page.last.unwrap().as_str(), "evt_1");
        let zeros = format!(r#"{{"data":[{}0],"has_more":false}}"#, "0,".repeat(99_999));
        assert_eq!(parse(zeros.as_bytes(), 100, UnixMillis(5)), Err(Unreadable::DeadEnd));
    }

    #[test]
    fn an_id_is_found_in_a_page_that_cannot_be_read() {
        for (body, id) in [
            (r#"{"data":[{"request":{"id":"req_1"},"id" : "evt_7","x":"a"b"}]"#, Some("evt_7")),
            (r#"{"data":[{"id":"n7","x":"a"b"}]"#, Some("n7")),
            (r#"{"data":[{"id":"evt 7"},{"id":7},{"id"#, None),
            (r#"{"id":""#, None),
            ("", None),
        ] {
            let page = around_bad_entry(body.as_bytes(), &"is bad", UnixMillis(5));
            assert_eq!(page.as_ref().map(|page| page.last.as_ref().unwrap().as_str()), id, "{body}");
            if let Some(page) = page {
                assert!(page.events.is_empty() && page.has_more);
                assert_eq!(page.skipped.unwrap().first, format!("{}: is bad", id.unwrap()));
            }
        }
    }

    #[test]
    fn a_page_that_cannot_be_gone_on_from_is_a_failure() {
        for body in [
            "",
            "{}",
            "null",
            "\"x\"",
            r#"{"data":7}"#,
            r#"{"data":{}}"#,
            r#"{"data":[],"has_more":false} x"#,
            "[",
            "[7",
        ] {
            assert_eq!(page(body), Err(Unreadable::Form), "{body}");
        }
        for body in [r#"{"data":[7],"has_more":true}"#, r#"{"data":[],"has_more":true}"#] {
            assert_eq!(page(body), Err(Unreadable::DeadEnd), "{body}");
        }
        assert_eq!(page(r#"{"success":false,"data":[]}"#), Err(Unreadable::Denied));
    }
}
