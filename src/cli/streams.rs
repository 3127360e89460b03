//! `pepay-bridge streams`.

mod backfill;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::Error;
use super::admin::Operator;
use super::moment::Moment;
use super::table::Table;
use super::text::clean;
use crate::domain::clock::UnixMillis;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the streams and their states
    List,
    /// Make a stream open a new connection
    Reconnect {
        /// The stream's name
        stream: String,
    },
    Backfill(backfill::Arguments),
}

/// Runs the subcommand.
pub(super) async fn streams(command: &Command, operator: &Operator) -> Result<(), Error> {
    match command {
        Command::List => {
            let answer = operator.bridge.get(&["streams"], &[]).await?;
            operator.show(&answer, |streams: Streams| streams.render(operator.now))
        }
        Command::Reconnect { stream } => {
            let answer = operator.bridge.post(&["streams", stream, "reconnect"], &json!({})).await?;
            operator.show(&answer, |stream: Stream| format!("stream {} connects anew\n", clean(&stream.name)))
        }
        Command::Backfill(arguments) => backfill::backfill(arguments, operator).await,
    }
}

#[derive(Debug, Deserialize)]
struct Streams {
    streams: Vec<Stream>,
}

/// A stream, as the API returns it.
#[derive(Debug, Deserialize)]
struct Stream {
    name: String,
    phase: String,
    since: Moment,
    last_event: Option<Seen>,
    reconnects: u64,
    last_disconnect: Option<String>,
    gap: Gap,
    problem: Option<String>,
    backfill: Option<Backfill>,
}

#[derive(Debug, Deserialize)]
struct Seen {
    at: Moment,
}

#[derive(Debug, Deserialize)]
struct Gap {
    state: String,
    after: Option<String>,
}

/// A backfill that an operator has started.
#[derive(Clone, Debug, Deserialize)]
struct Backfill {
    running: bool,
    from: String,
    read: u64,
    recorded: u64,
    started_at: Moment,
    error: Option<String>,
}

const HEADER: [&str; 8] =
    ["STREAM", "PHASE", "SINCE", "LAST EVENT", "RECONNECTS", "GAP", "BACKFILL", "PROBLEM"];

impl Streams {
    fn render(self, now: UnixMillis) -> String {
        let mut table = Table::new(&HEADER);
        for stream in self.streams {
            table.row(stream.cells(now));
        }
        table.take()
    }
}

impl Stream {
    fn cells(self, now: UnixMillis) -> [String; HEADER.len()] {
        let gap = match self.gap.after {
            Some(after) => format!("{} after {after}", self.gap.state),
            None => self.gap.state,
        };
        // The reason of the last disconnect is not a problem once the stream is live again.
        let disconnected = if self.phase == "live" { None } else { self.last_disconnect };
        [
            self.name,
            self.phase,
            self.since.age(now),
            self.last_event.map(|seen| seen.at.age(now)).unwrap_or_default(),
            self.reconnects.to_string(),
            gap,
            self.backfill.map(|backfill| backfill.render()).unwrap_or_default(),
            self.problem.or(disconnected).unwrap_or_default(),
        ]
    }
}

impl Backfill {
    fn render(&self) -> String {
        let Self { running, from, read, recorded, error, .. } = self;
        let running = if *running { "running" } else { "ended" };
        let error = error.as_deref().map(|error| format!(", {error}")).unwrap_or_default();
        format!("{running}, from {from}: {read} read, {recorded} new{error}")
    }
}
