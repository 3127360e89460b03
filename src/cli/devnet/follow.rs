//! The progress of one event, as a running bridge reports it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A page of the list of events.
#[derive(Debug, Deserialize)]
pub(super) struct Events {
    pub(super) events: Vec<Listed>,
    pub(super) next_cursor: Option<String>,
}

/// An event of the list.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) sequence: i64,
}

/// An event with its sightings and deliveries.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Event {
    pub(super) id: String,
    sequence: i64,
    sightings: Vec<Sighting>,
    deliveries: Vec<Delivery>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Sighting {
    source: String,
    origin: String,
    /// The time since the first sighting, in milliseconds.
    lag_ms: i64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Delivery {
    target: String,
    state: String,
    attempts: u32,
    last_error: Option<String>,
}

/// The expected sources of the event, and the steps that have been reported.
#[derive(Debug)]
pub(super) struct Follow {
    /// The sources that must bring the event.
    expected: Vec<&'static str>,
    reported: BTreeSet<String>,
}

impl Delivery {
    fn is_delivered(&self) -> bool {
        self.state == "delivered"
    }

    /// Returns whether the bridge makes no further attempt without an operator.
    fn is_stuck(&self) -> bool {
        matches!(&*self.state, "held" | "dead" | "closed" | "cancelled")
    }
}

impl Follow {
    pub(super) const fn new(expected: Vec<&'static str>) -> Self {
        Self { expected, reported: BTreeSet::new() }
    }

    /// Returns the new steps of `event` since the last call. Each is the part of the flow and a text.
    pub(super) fn news(&mut self, event: &Event) -> Vec<(String, String)> {
        let mut news = Vec::new();
        let mut report = |key: String, who: String, what: String| {
            if self.reported.insert(key) {
                news.push((who, what));
            }
        };
        for (index, Sighting { source, origin, lag_ms }) in event.sightings.iter().enumerate() {
            let what = if index == 0 {
                format!("{} is event {} of the bridge, by {origin}", event.id, event.sequence)
            } else {
                format!("the same event, by {origin}, {lag_ms} ms after the first")
            };
            report(format!("source {source}"), source.clone(), what);
        }
        for delivery in &event.deliveries {
            let Delivery { target, state, attempts, last_error } = delivery;
            let why = last_error.as_deref().filter(|_| !delivery.is_delivered());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            if delivery.is_delivered() || delivery.is_stuck() || *attempts > 0 && state == "retrying" {
                let what = format!("{state}, attempt {attempts}{why}");
                report(format!("target {target} {state} {attempts}"), format!("target {target}"), what);
            }
        }
        news
    }

    /// Returns the steps that are missing; empty if none is.
    pub(super) fn missing(&self, event: &Event) -> Vec<String> {
        let seen = |source: &&&str| event.sightings.iter().any(|sighting| sighting.source == ***source);
        let sources = self.expected.iter().filter(|source| !seen(source));
        let sources = sources.map(|source| format!("it has not come by {source}"));
        let deliveries = event.deliveries.iter().filter(|delivery| !delivery.is_delivered());
        let deliveries = deliveries.map(|Delivery { target, state, attempts, last_error }| {
            let why = last_error.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("target {target} has not got it ({state}, attempts: {attempts}{why})")
        });
        sources.chain(deliveries).collect()
    }

    /// Returns whether no further step will happen without an operator: every expected source has brought
    /// the event, and each delivery is made or has stopped.
    pub(super) fn is_over(&self, event: &Event) -> bool {
        let moving = |delivery: &Delivery| !delivery.is_delivered() && !delivery.is_stuck();
        let unseen = |source: &&str| !event.sightings.iter().any(|sighting| sighting.source == *source);
        !self.expected.iter().any(unseen) && !event.deliveries.iter().any(moving)
    }
}

impl Event {
    /// Returns the sources and the number of targets of the event, in one line.
    pub(super) fn summary(&self) -> String {
        let sources: Vec<_> = self.sightings.iter().map(|sighting| &*sighting.source).collect();
        let targets = match self.deliveries.len() {
            0 => "matches no target".to_owned(),
            1 => "reached 1 target".to_owned(),
            targets => format!("reached {targets} targets"),
        };
        format!("came by {} and {targets}", sources.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(sources: &[&str], deliveries: &[(&str, &str, u32)]) -> Event {
        let sightings = sources.iter().map(|source| json!({"source": source, "origin": "o", "lag_ms": 5}));
        let deliveries = deliveries.iter().map(|(target, state, attempts)| {
            json!({"target": target, "state": state, "attempts": attempts, "last_error": "answered 500"})
        });
        let event = json!({
            "id": "evt_1", "sequence": 7,
            "sightings": sightings.collect::<Vec<_>>(), "deliveries": deliveries.collect::<Vec<_>>(),
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn each_step_is_reported_once_and_what_is_missing_by_name() {
        let mut follow = Follow::new(vec!["stream", "webhook"]);
        let first = event(&["webhook"], &[("a", "pending", 0), ("b", "retrying", 1)]);
        assert_eq!(
            follow.news(&first),
            [
                ("webhook".to_owned(), "evt_1 is event 7 of the bridge, by o".to_owned()),
                ("target b".to_owned(), "retrying, attempt 1: answered 500".to_owned()),
            ]
        );
        assert!(follow.news(&first).is_empty() && !follow.is_over(&first));
        assert_eq!(
            follow.missing(&first),
            [
                "it has not come by stream",
                "target a has not got it (pending, attempts: 0: answered 500)",
                "target b has not got it (retrying, attempts: 1: answered 500)",
            ]
        );
        let last = event(&["webhook", "stream"], &[("a", "delivered", 1), ("b", "delivered", 2)]);
        let reported: Vec<_> = follow.news(&last).into_iter().map(|(who, _)| who).collect();
        assert_eq!(reported, ["stream", "target a", "target b"]);
        assert!(follow.missing(&last).is_empty() && follow.is_over(&last));
        assert_eq!(last.summary(), "came by webhook and stream and reached 2 targets");
    }

    #[test]
    fn what_waits_for_an_operator_is_not_waited_for() {
        let follow = Follow::new(vec!["stream"]);
        let stuck = event(&["stream"], &[("a", "dead", 3), ("b", "delivered", 1)]);
        assert!(follow.is_over(&stuck) && follow.missing(&stuck).len() == 1);
        assert!(!follow.is_over(&event(&["stream"], &[("a", "dead", 3), ("b", "sending", 1)])));
        assert!(!follow.is_over(&event(&["webhook"], &[("a", "dead", 3)])));
    }
}
