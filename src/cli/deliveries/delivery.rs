//! A delivery as text: as a row of a list, and in full with its attempts.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::cli::listing::Listed;
use crate::cli::moment::Moment;
use crate::cli::table::Table;
use crate::cli::text::clean;
use crate::domain::clock::UnixMillis;

/// A delivery, as the API returns it. In a list it has no attempts.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Delivery {
    target: String,
    event_id: String,
    #[serde(rename = "type")]
    kind: String,
    object_id: Option<String>,
    received_at: Moment,
    state: String,
    attempts: u32,
    replays: u32,
    next_try: Option<NextTry>,
    /// The key of the target's configuration that leaves the event out.
    mismatch: Option<String>,
    settled_at: Option<Moment>,
    last_error: Option<String>,
    #[serde(default)]
    attempt_log: Vec<Attempt>,
}

/// The next attempt, and the condition that it waits for.
#[derive(Debug, Deserialize)]
struct NextTry {
    waits_for: String,
    at: Option<Moment>,
    event_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    number: u32,
    started_at: Moment,
    duration_ms: u64,
    status: Option<u16>,
    error: Option<String>,
    answer: Option<String>,
}

impl Listed for Delivery {
    const PATH: &'static str = "deliveries";
    const HEADER: &'static [&'static str] =
        &["AGE", "TARGET", "EVENT", "TYPE", "OBJECT", "STATE", "ATTEMPTS", "NEXT TRY", "LAST ERROR"];

    fn cells(self, now: UnixMillis) -> Vec<String> {
        let (age, next) = (self.received_at.age(now), self.next(now));
        vec![
            age,
            self.target,
            self.event_id,
            self.kind,
            self.object_id.unwrap_or_default(),
            self.state,
            self.attempts.to_string(),
            next,
            self.last_error.unwrap_or_default(),
        ]
    }
}

impl Delivery {
    /// Returns the state of the delivery after an action on it, as a line.
    pub(super) fn standing(&self) -> String {
        let Self { target, event_id, state, .. } = self;
        clean(&format!("the delivery of {event_id} to {target} is {state}")) + "\n"
    }

    /// Returns the state of the delivery after a replay, as a line.
    pub(in crate::cli) fn replayed(&self) -> String {
        let Self { target, event_id, state, replays, .. } = self;
        let all_the_same = self.unmatched();
        clean(&format!("replay {replays} of {event_id} to {target} is {state}{all_the_same}")) + "\n"
    }

    /// Returns the state of the delivery and each of its attempts, as text.
    pub(in crate::cli) fn render(&self, now: UnixMillis) -> String {
        let mut head = format!("delivery to {}: {}", self.target, self.state);
        if let Some(at) = self.settled_at {
            let _ = write!(head, " at {}", at.render(now));
        }
        match &*self.next(now) {
            "" => {}
            next => head = format!("{head}, next try {next}"),
        }
        if self.replays > 0 {
            let _ = write!(head, ", replays: {}", self.replays);
        }
        head += &self.unmatched();
        let mut text = clean(&head) + "\n";
        let mut attempts = Table::new(&["ATTEMPT", "STARTED", "TOOK", "STATUS", "ERROR", "ANSWER"]);
        for Attempt { number, started_at, duration_ms, status, error, answer } in &self.attempt_log {
            attempts.row([
                number.to_string(),
                started_at.render(now),
                format!("{duration_ms}ms"),
                status.map(|status| status.to_string()).unwrap_or_default(),
                error.clone().unwrap_or_default(),
                answer.clone().unwrap_or_default(),
            ]);
        }
        text.extend(attempts.take().lines().flat_map(|line| ["  ", line, "\n"]));
        text
    }

    /// Returns the name of the target.
    pub(in crate::cli) fn target(&self) -> &str {
        &self.target
    }

    /// Returns a note if the target does not take the event; otherwise an empty text.
    fn unmatched(&self) -> String {
        let mismatch = self.mismatch.as_ref();
        mismatch.map(|key| format!(", although not matched by `{key}`")).unwrap_or_default()
    }

    /// Returns the time of the next attempt and the condition that it waits for. The text is empty if the
    /// delivery is on the wire or has ended.
    fn next(&self, now: UnixMillis) -> String {
        let Some(NextTry { waits_for, at, event_id }) = &self.next_try else { return String::new() };
        let at = at.map_or_else(|| "soon".to_owned(), |at| at.from(now));
        match &**waits_for {
            "place" => "at once".to_owned(),
            "time" => at,
            "retry_after" => format!("{at}, by its target's Retry-After"),
            "probe" => format!("{at}, by a probe"),
            "event" => format!("after {}", event_id.as_deref().unwrap_or("another event")),
            "pause" => "when its target is resumed".to_owned(),
            "operator" => "when an operator decides".to_owned(),
            "target" => "when its target is configured".to_owned(),
            // A newer bridge may return other values.
            other => other.to_owned(),
        }
    }
}
