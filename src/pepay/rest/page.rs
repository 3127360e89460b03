//! One page of the list of events, each event with its exact bytes.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};
use crate::pepay::envelope;
use crate::pepay::error::{self, Failure};

/// One page of the list of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The events, newest first.
    pub events: Vec<Event>,
    /// The oldest id on the page, from which the next page follows. Also read
    /// from an entry that is otherwise no event.
    pub last: Option<EventId>,
    /// Whether there is more beyond `last`.
    pub has_more: bool,
    /// Entries that are no event: how many, and what is wrong with the first.
    pub skipped: Option<(usize, String)>,
    /// When the page had arrived.
    pub received_at: UnixMillis,
}

/// `{"success":true,"data":{"object":"list","data":[…],"has_more":…}}`, or the
/// inner object alone; `data` is then the array.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    has_more: Option<bool>,
}

#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
}

/// Reads the answer to a request for `limit` events. Without `has_more`, a full
/// page is taken to have a successor.
pub(super) fn parse(body: &[u8], limit: u16, received_at: UnixMillis) -> Result<Page, Failure> {
    let (entries, has_more) = entries(body)?;
    let has_more = has_more.unwrap_or(entries.len() >= usize::from(limit));
    let last = entries.iter().rev().find_map(|entry| id_of(entry));
    if has_more && last.is_none() {
        return Err(Failure::malformed("a page of the event list holds no id to go on from"));
    }
    let mut skipped: Option<(usize, String)> = None;
    let mut events = Vec::with_capacity(entries.len());
    for entry in entries {
        // Copied, so that one kept event does not keep the whole page.
        match envelope::parse(Bytes::copy_from_slice(entry.get().as_bytes()), received_at) {
            Ok(event) => events.push(event),
            Err(problem) => skipped.get_or_insert_with(|| (0, problem.to_string())).0 += 1,
        }
    }
    Ok(Page { events, last, has_more, skipped, received_at })
}

fn entries(body: &[u8]) -> Result<(Vec<&RawValue>, Option<bool>), Failure> {
    let malformed = |problem: serde_json::Error| {
        Failure::malformed(format!("the event list is not in a known form: {}", error::place(&problem)))
    };
    let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("the event list is not UTF-8"))?;
    if is_array(text) {
        return Ok((serde_json::from_str(text).map_err(malformed)?, None));
    }
    let mut list: Envelope = serde_json::from_str(text).map_err(malformed)?;
    if !is_array(list.data.get()) {
        list = serde_json::from_str(list.data.get()).map_err(malformed)?;
    }
    Ok((serde_json::from_str(list.data.get()).map_err(malformed)?, list.has_more))
}

fn is_array(text: &str) -> bool {
    text.trim_start().starts_with('[')
}

fn id_of(entry: &RawValue) -> Option<EventId> {
    serde_json::from_str::<Identified>(entry.get()).ok()?.id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"id":"evt_2",  "object":"event","type":"t","created":2,"data":{"object":{}}}"#;
    const TWO: &str = r#"{"id":"evt_1","object":"event","type":"t","created":1,"data":{"object":{}}}"#;

    fn page(body: &str) -> Result<Page, Failure> {
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
    fn without_has_more_a_full_page_has_a_successor() {
        assert!(page(&format!("[{ONE},{TWO}]")).unwrap().has_more);
        assert!(!page(&format!("[{ONE}]")).unwrap().has_more);
        assert!(!page(r#"{"data":[]}"#).unwrap().has_more);
    }

    #[test]
    fn an_entry_that_is_no_event_costs_no_neighbour() {
        let page = page(&format!(r#"{{"data":[7,{ONE},{{"id":"evt_0","x":1}}],"has_more":true}}"#)).unwrap();
        assert_eq!(page.events.len(), 1);
        assert_eq!(page.skipped.unwrap().0, 2);
        assert_eq!(page.last.unwrap().as_str(), "evt_0");
    }

    #[test]
    fn a_page_that_cannot_be_gone_on_from_is_a_failure() {
        for body in
            ["", "{}", "null", "\"x\"", r#"{"data":7}"#, r#"{"data":{}}"#, r#"{"data":[7],"has_more":true}"#]
        {
            assert!(page(body).is_err(), "{body}");
        }
    }
}
