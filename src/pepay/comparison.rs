//! Compares two texts of one event, such as the stored one and the one that `GET /api/v1/events/{id}`
//! returns. They are equal if their digests are, which also distinguish a repeat from another event
//! under the same id.

use bytes::Bytes;

use super::digest::{self, Data};
use super::envelope::{self, InvalidEnvelope};
use super::json;
use crate::domain::clock::UnixMillis;
use crate::domain::event::Digest;
use crate::domain::operator::Part;

/// Returns the parts that differ between two events; empty if they have the same content. `now`
/// replaces a creation time that neither names.
///
/// # Errors
/// [`InvalidEnvelope`] if one of them is not an event.
pub fn differences(one: &Bytes, other: &Bytes, now: UnixMillis) -> Result<Vec<Part>, InvalidEnvelope> {
    let (first, second) = (envelope::parse(one.clone(), now)?, envelope::parse(other.clone(), now)?);
    if first.digest == second.digest {
        return Ok(Vec::new());
    }
    let kind = (first.kind != second.kind).then_some(Part::Type);
    let created = (first.created != second.created).then_some(Part::Created);
    let data = (data(one) != data(other)).then_some(Part::Data);
    let mut differs: Vec<_> = [kind, created, data].into_iter().flatten().collect();
    if differs.is_empty() {
        // One names its creation time; the other has only its id.
        differs.push(Part::Created);
    }
    Ok(differs)
}

/// Returns the digest of an event's data alone.
fn data(event: &[u8]) -> Option<Digest> {
    let [data] = json::named(event, &["data"])?.values;
    let data = data.and_then(|data| Data::read(data, &[]));
    Some(digest::of("", None, data.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(one: &str, other: &str) -> Vec<Part> {
        let event = |fields: &str| Bytes::from(format!(r#"{{"id":"evt_1000-1","object":"event",{fields}}}"#));
        differences(&event(one), &event(other), UnixMillis(0)).unwrap()
    }

    #[test]
    fn spellings_that_pepay_may_vary_by_source_are_equal() {
        let one = r#""type":"t","created":1,"pending_webhooks":0,"data":{"object":{"id":"o","n":1}}"#;
        let other = r#""type":"t","created":1.0,"data": {"object": {"n":1, "id":"o"}},"pending_webhooks":2"#;
        assert_eq!(between(one, other), []);
    }

    #[test]
    fn each_part_that_differs_is_named() {
        let event = r#""type":"t","created":1,"data":{"object":{"id":"o"}}"#;
        for (other, parts) in [
            (r#""type":"u","created":1,"data":{"object":{"id":"o"}}"#, &[Part::Type][..]),
            (r#""type":"t","created":2,"data":{"object":{"id":"o"}}"#, &[Part::Created]),
            (r#""type":"t","data":{"object":{"id":"o"}}"#, &[Part::Created]),
            (r#""type":"t","created":1,"data":{"object":{"id":"p"}}"#, &[Part::Data]),
            (r#""type":"u","created":2"#, &[Part::Type, Part::Created, Part::Data]),
        ] {
            assert_eq!(between(event, other), parts, "{other}");
        }
    }
}
