//! The requests that a sample target has received, and its answers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::{Serialize, Serializer};

use crate::domain::clock::UnixMillis;
use crate::domain::event::Event;

/// One request, as it was received.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// `webhook-id`, or `X-Pepay-Event-ID` if Pepay itself is the sender; empty if there was neither.
    pub id: Arc<str>,
    /// The event's type, if the body is an event.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The object that the event is about.
    pub object_id: Option<Arc<str>>,
    /// `pepay-bridge-attempt`.
    pub attempt: Option<u32>,
    /// `pepay-bridge-sequence`.
    pub sequence: Option<i64>,
    /// Whether its Standard Webhooks signature is right; `None` if it was not checked.
    pub signature_valid: Option<bool>,
    /// When its last byte had arrived.
    pub received_at: UnixMillis,
    /// The status of the answer; `None` while the request is handled, and if the connection ended
    /// first.
    #[serde(serialize_with = "status_number")]
    pub answer: Option<StatusCode>,
    /// All its headers. They are not in the JSON form, since they may contain a secret.
    #[serde(skip)]
    pub headers: HeaderMap,
    /// Its body, which is not in the JSON form.
    #[serde(skip)]
    pub body: Bytes,
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn status_number<S: Serializer>(status: &Option<StatusCode>, to: S) -> Result<S::Ok, S::Error> {
    status.map(|status| status.as_u16()).serialize(to)
}

impl Delivery {
    pub(super) fn new(
        headers: HeaderMap,
        body: Bytes,
        event: Option<&Event>,
        signature_valid: Option<bool>,
        received_at: UnixMillis,
    ) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            id: header("webhook-id").or(header("x-pepay-event-id")).unwrap_or_default().into(),
            kind: event.map(|event| event.kind.to_string()),
            object_id: event.and_then(|event| event.subject.object.clone()),
            attempt: header("pepay-bridge-attempt").and_then(|number| number.parse().ok()),
            sequence: header("pepay-bridge-sequence").and_then(|number| number.parse().ok()),
            signature_valid,
            received_at,
            answer: None,
            headers,
            body,
        }
    }

    /// Returns whether it was answered with a 2xx.
    pub fn acknowledged(&self) -> bool {
        self.answer.is_some_and(|status| status.is_success())
    }
}

/// Counts over all requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests that were read.
    pub received: u64,
    /// Requests answered with a 2xx.
    pub acknowledged: u64,
    /// Requests answered otherwise, or whose connection ended first.
    pub failed: u64,
    /// Different event ids that were acknowledged.
    pub unique: u64,
    /// Acknowledged requests whose event had been acknowledged before.
    pub repeated: u64,
    /// Requests that are being handled.
    pub in_flight: u64,
    /// The largest number of requests that were handled at the same time.
    pub max_in_flight: u64,
    /// Requests that arrived while another about the same object was being handled.
    pub overlapping: u64,
}

/// The newest deliveries, with counts over all.
#[derive(Debug)]
pub(super) struct Ledger {
    deliveries: VecDeque<Delivery>,
    /// The number of `deliveries[0]`.
    first: u64,
    keep: usize,
    events: HashMap<Arc<str>, Kept>,
    /// The number of requests being handled, by object.
    objects: HashMap<Arc<str>, u32>,
    /// The object of each request being handled, by the request's number.
    working: HashMap<u64, Option<Arc<str>>>,
    totals: Totals,
}

/// The record of one event.
#[derive(Debug, Default)]
struct Kept {
    deliveries: u64,
    acknowledged: u64,
}

impl Ledger {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            deliveries: VecDeque::new(),
            first: 0,
            keep: keep.max(1),
            events: HashMap::new(),
            objects: HashMap::new(),
            working: HashMap::new(),
            totals: Totals::default(),
        }
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns the newest `limit` deliveries, oldest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<Delivery> {
        let skip = self.deliveries.len().saturating_sub(limit);
        self.deliveries.iter().skip(skip).cloned().collect()
    }

    /// Adds a request and returns its number.
    pub(super) fn arrive(&mut self, delivery: Delivery) -> u64 {
        let number = self.totals.received;
        self.totals.received += 1;
        self.totals.in_flight += 1;
        self.totals.max_in_flight = self.totals.max_in_flight.max(self.totals.in_flight);
        if let Some(object) = &delivery.object_id {
            let working = self.objects.entry(Arc::clone(object)).or_default();
            self.totals.overlapping += u64::from(*working > 0);
            *working += 1;
        }
        self.working.insert(number, delivery.object_id.clone());
        self.events.entry(Arc::clone(&delivery.id)).or_default().deliveries += 1;
        self.deliveries.push_back(delivery);
        if self.deliveries.len() > self.keep {
            self.forget_oldest();
        }
        number
    }

    /// Notes how request `number` ended.
    pub(super) fn leave(&mut self, number: u64, answer: Option<StatusCode>) {
        self.totals.in_flight -= 1;
        if let Some(Some(object)) = self.working.remove(&number)
            && let Some(working) = self.objects.get_mut(&object)
        {
            *working -= 1;
            if *working == 0 {
                self.objects.remove(&object);
            }
        }
        if answer.is_some_and(|status| status.is_success()) {
            self.totals.acknowledged += 1;
        } else {
            self.totals.failed += 1;
        }
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(delivery) = index.and_then(|index| self.deliveries.get_mut(index)) else {
            // It was dropped while it was handled.
            return;
        };
        delivery.answer = answer;
        if delivery.acknowledged()
            && let Some(event) = self.events.get_mut(&delivery.id)
        {
            event.acknowledged += 1;
            match event.acknowledged {
                1 => self.totals.unique += 1,
                _ => self.totals.repeated += 1,
            }
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.deliveries.pop_front() else { return };
        self.first += 1;
        if let Some(event) = self.events.get_mut(&oldest.id) {
            event.deliveries -= 1;
            if event.deliveries == 0 {
                self.events.remove(&oldest.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(id: &str) -> Delivery {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        let body = format!(
            r#"{{"id":"{id}","object":"event","type":"t","created":1,"data":{{"object":{{"id":"o"}}}}}}"#
        );
        let event = crate::pepay::envelope::parse(Bytes::from(body.clone()), UnixMillis(0)).unwrap();
        Delivery::new(headers, body.into(), Some(&event), None, UnixMillis(0))
    }

    #[test]
    fn repeats_and_overlaps_are_counted() {
        let mut ledger = Ledger::new(10);
        let first = ledger.arrive(delivery("a"));
        let second = ledger.arrive(delivery("a"));
        ledger.leave(first, Some(StatusCode::OK));
        ledger.leave(second, Some(StatusCode::ACCEPTED));
        let third = ledger.arrive(delivery("b"));
        ledger.leave(third, None);
        let expected = Totals {
            received: 3,
            acknowledged: 2,
            failed: 1,
            unique: 1,
            repeated: 1,
            in_flight: 0,
            max_in_flight: 2,
            overlapping: 1,
        };
        assert_eq!(ledger.totals(), expected);
        assert!(ledger.objects.is_empty() && ledger.working.is_empty());
    }

    #[test]
    fn only_the_newest_deliveries_are_kept() {
        let mut ledger = Ledger::new(2);
        let numbers = ["a", "b", "c"].map(|id| ledger.arrive(delivery(id)));
        for number in numbers {
            ledger.leave(number, Some(StatusCode::OK));
        }
        let ids: Vec<_> = ledger.newest(9).into_iter().map(|delivery| delivery.id).collect();
        assert_eq!(ids, ["b".into(), "c".into()]);
        assert_eq!(ledger.events.len(), 2);
        assert_eq!(ledger.totals().acknowledged, 3);
    }
}
