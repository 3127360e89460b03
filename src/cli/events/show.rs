//! `pepay-bridge events show`: an event with its whole history, as text.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::cli::deliveries::Delivery;
use crate::cli::moment::Moment;
use crate::cli::table::Table;
use crate::cli::text::clean;
use crate::domain::clock::UnixMillis;

/// An event, as the API returns it.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    id: String,
    sequence: i64,
    #[serde(rename = "type")]
    kind: String,
    object_id: Option<String>,
    created: Moment,
    source: String,
    origin: String,
    environment: Option<String>,
    received_at: Moment,
    size: Option<u64>,
    body_sha256: Option<String>,
    sightings: Vec<Sighting>,
    conflicts: Vec<Conflict>,
    deliveries: Vec<Delivery>,
    #[serde(default)]
    routing: Vec<Routing>,
    body: Option<String>,
}

/// Whether a target takes the event, under the configuration in effect.
#[derive(Debug, Deserialize)]
struct Routing {
    target: String,
    /// The key of the target's configuration that leaves the event out.
    mismatch: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Sighting {
    source: String,
    origin: String,
    at: Moment,
    /// The time since the first sighting, in milliseconds.
    lag_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Conflict {
    source: String,
    origin: String,
    received_at: Moment,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
    body: Option<String>,
}

impl Event {
    /// Returns the history of the event, from Pepay to every target.
    pub(super) fn render(&self, now: UnixMillis) -> String {
        let mut text = self.facts(now);
        text += "\nsightings\n";
        let mut sightings = Table::new(&["SOURCE", "ORIGIN", "AT", "LAG"]);
        for Sighting { source, origin, at, lag_ms } in &self.sightings {
            sightings.row([source.clone(), origin.clone(), at.render(now), format!("{lag_ms}ms")]);
        }
        text += &indented(&sightings.take());
        for conflict in &self.conflicts {
            text += &conflict.render(now);
        }
        for routing in self.routing.iter().filter(|routing| !self.goes_to(&routing.target)) {
            let why = match routing.mismatch.as_deref() {
                Some(key) => format!("not matched by `{key}`"),
                None => "it matches now; when it arrived, the target was not configured or did not match"
                    .to_owned(),
            };
            let _ = write!(text, "\n{}\n", clean(&format!("no delivery to {}: {why}", routing.target)));
        }
        for delivery in &self.deliveries {
            let _ = write!(text, "\n{}", delivery.render(now));
        }
        if let Some(body) = &self.body {
            let _ =
                write!(text, "\nbody\n{}", indented(&body.lines().map(clean).collect::<Vec<_>>().join("\n")));
        }
        text
    }

    fn goes_to(&self, target: &str) -> bool {
        self.deliveries.iter().any(|delivery| delivery.target() == target)
    }

    fn facts(&self, now: UnixMillis) -> String {
        let size = match self.size {
            Some(size) => format!("{size} bytes"),
            None => "removed by retention".to_owned(),
        };
        let some = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut text = String::new();
        for (name, value) in [
            ("id", self.id.clone()),
            ("sequence", self.sequence.to_string()),
            ("type", self.kind.clone()),
            ("object", some(&self.object_id)),
            ("environment", some(&self.environment)),
            ("created", self.created.render(now)),
            ("received", format!("{}, by {} {}", self.received_at.render(now), self.source, self.origin)),
            ("body", size),
            ("sha256", some(&self.body_sha256)),
        ] {
            let _ = writeln!(text, "{name:<12}  {}", clean(&value));
        }
        text
    }
}

impl Conflict {
    fn render(&self, now: UnixMillis) -> String {
        let Self { source, origin, received_at, kind, size, body } = self;
        let at = received_at.render(now);
        let line = format!("another event under this id, by {source} {origin} {at}: {kind}, {size} bytes");
        let mut text = format!("\nconflict\n  {}\n", clean(&line));
        if let Some(body) = body {
            text += &indented(&body.lines().map(clean).collect::<Vec<_>>().join("\n"));
        }
        text
    }
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}
