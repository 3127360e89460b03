//! A delivery as text: a row of a list, and in full with all its attempts.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::cli::listing::Listed;
use crate::cli::moment::Moment;
use crate::cli::table::Table;
use crate::cli::text::clean;
use crate::domain::clock::UnixMillis;

/// A delivery as the API shows it; in a list it comes without its attempts.
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
    due_at: Option<Moment>,
    waits_for: Option<String>,
    settled_at: Option<Moment>,
    last_error: Option<String>,
    #[serde(default)]
    attempt_log: Vec<Attempt>,
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
        &["AGE", "TARGET", "EVENT", "TYPE", "OBJECT", "STATE", "ATTEMPTS", "NEXT", "LAST ERROR"];

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
    /// What it is after something was done about it.
    pub(super) fn standing(&self) -> String {
        let Self { target, event_id, state, .. } = self;
        clean(&format!("the delivery of {event_id} to {target} is {state}")) + "\n"
    }

    /// What it is after it was sent again.
    pub(in crate::cli) fn replayed(&self) -> String {
        let Self { target, event_id, state, replays, .. } = self;
        clean(&format!("replay {replays} of {event_id} to {target} is {state}")) + "\n"
    }

    /// Where it stands, with each of its attempts.
    pub(in crate::cli) fn render(&self, now: UnixMillis) -> String {
        let mut head = format!("delivery to {}: {}", self.target, self.state);
        if let Some(at) = self.settled_at {
            let _ = write!(head, " at {}", at.render(now));
        }
        match &*self.next(now) {
            "" => {}
            next => head = format!("{head}, next {next}"),
        }
        if self.replays > 0 {
            let _ = write!(head, ", replays: {}", self.replays);
        }
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

    /// When it goes on, or after which other event; empty if it does not by itself.
    fn next(&self, now: UnixMillis) -> String {
        match (&self.waits_for, self.due_at) {
            (Some(before), _) => format!("after {before}"),
            (None, Some(due)) if due.is_after(now) => due.from(now),
            (None, Some(_)) => "now".to_owned(),
            (None, None) => String::new(),
        }
    }
}
