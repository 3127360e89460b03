//! `pepay-bridge events`.

mod show;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Map, json};

use self::show::Event;
use super::admin::{Answer, Operator};
use super::deliveries::Delivery;
use super::deliveries::bulk::{self, BulkRequest, Consent};
use super::filters::{CommonFilters, EventFilters, Filters};
use super::listing::{Filtering as _, Listed, Listing};
use super::moment::Moment;
use super::names::target_is_known;
use super::{Error, print, print_bytes};
use crate::domain::clock::UnixMillis;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List events, the newest first
    List(Box<Listing<EventFilters>>),
    /// Show an event: who brought it, where it went, every attempt, and its body
    Show {
        /// The event's id
        id: String,

        /// Print the body alone, byte for byte as Pepay sent it
        #[arg(long)]
        body: bool,
    },
    /// Send an event to a target again, marked `pepay-bridge-replay`, also one that was delivered
    ///
    /// With filters instead of an id: every event that they let through and that the target
    /// takes or has taken, the oldest first. `--state` is that of the delivery to the target.
    #[command(override_usage = REPLAY_USAGE)]
    Replay(Box<Replay>),
    /// Print events with their bodies and outcomes as JSON, a line each, the newest first
    ///
    /// What arrives meanwhile does not shift them. Exits 1 if the output is not complete.
    Export(Box<Filters>),
    /// Ask Pepay for an event and compare; exits 0 only if Pepay has the same
    ///
    /// Compares type, creation time and data. The bridge asks Pepay with the account of
    /// the stream that brought the event, or with that of `[pepay]`. Exits 1 if Pepay has
    /// something else or nothing under this id, and if it cannot be asked.
    Verify {
        /// The event's id
        id: String,
    },
}

const REPLAY_USAGE: &str = "pepay-bridge events replay [OPTIONS] --target NAME ID
       pepay-bridge events replay [OPTIONS] --target NAME [FILTERS] [--missing] [--yes | --dry-run]";

/// What goes to which target.
#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// The id of one event; without one, the filters say which
    #[arg(conflicts_with_all = ["CommonFilters", "SubjectFilters", "missing", "yes", "dry_run"])]
    id: Option<String>,

    /// The target that they go to
    #[arg(long, value_name = "NAME")]
    target: String,

    /// Only events that the target takes and never had a delivery of
    #[arg(long)]
    missing: bool,

    /// Do not ask before many are sent
    #[arg(long, short)]
    yes: bool,

    /// Say how many there are, and send nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    // Last, since their heading is for what follows as well.
    #[command(flatten)]
    filters: CommonFilters,
}

/// Runs the subcommand.
pub(super) async fn events(command: &Command, operator: &Operator) -> Result<(), Error> {
    match command {
        Command::List(listing) => listing.print::<Summary>(operator).await,
        Command::Show { id, body: true } => body(operator, id).await,
        Command::Show { id, body: false } => {
            let answer = operator.bridge.get(&["events", id], &[]).await?;
            operator.show(&answer, |event: Event| event.render(operator.now))
        }
        Command::Replay(replay) => replay.send(operator).await,
        Command::Export(filters) => export(operator, filters).await,
        Command::Verify { id } => {
            let answer = operator.bridge.post(&["events", id, "verify"], &json!({})).await?;
            report_verification(operator, &answer)
        }
    }
}

impl Replay {
    /// Replays the one event, or the events that pass the filters.
    async fn send(&self, operator: &Operator) -> Result<(), Error> {
        if let Some(id) = &self.id {
            let again = json!({ "target": self.target });
            let answer = operator.bridge.post(&["events", id, "replay"], &again).await?;
            return operator.show(&answer, |delivery: Delivery| delivery.replayed());
        }
        let filter = self.filters.object(operator.now);
        let what = if self.missing { "what it has never had" } else { "what it takes or has taken" };
        let narrowed = bulk::written(Some(format!("to {}: {what}", self.target)), &filter);
        let body = Map::from_iter([
            ("target".to_owned(), self.target.as_str().into()),
            ("filter".to_owned(), filter),
            ("missing".to_owned(), self.missing.into()),
        ]);
        let call = BulkRequest { action: "replay", body, narrowed, target: None };
        bulk::carry_out(call, Consent::of(self.dry_run, self.yes), operator).await
    }
}

/// Prints the response while it arrives, until it ends or the reader closes the pipe.
async fn export(operator: &Operator, filters: &Filters) -> Result<(), Error> {
    let given = filters.given(operator.now);
    let query: Vec<_> = given.iter().map(|(name, value)| (*name, &**value)).collect();
    let mut found = false;
    let print = |piece: &[u8]| {
        found = true;
        print_bytes(piece)
    };
    operator.bridge.stream(&["export"], &query, print).await?;
    if found { Ok(()) } else { target_is_known(&operator.bridge, filters.target()).await }
}

/// Prints the exact bytes of the body, without a line break at the end.
async fn body(operator: &Operator, id: &str) -> Result<(), Error> {
    let answer = operator.bridge.get(&["events", id, "body"], &[]).await?;
    print_bytes(&answer.0).map(|_| ())
}

/// The result of the comparison, as the API returns it.
#[derive(Debug, Deserialize)]
struct Verification {
    event_id: String,
    outcome: String,
    #[serde(default)]
    differs: Vec<String>,
    asked_as: String,
}

/// Prints the result of the comparison.
///
/// # Errors
/// [`Error::Failure`] for any result other than `equal`, so that the exit code is 1.
fn report_verification(operator: &Operator, answer: &Answer) -> Result<(), Error> {
    let Verification { event_id, outcome, differs, asked_as } = answer.read()?;
    if operator.json {
        answer.print()?;
    }
    match &*outcome {
        "equal" if operator.json => Ok(()),
        "equal" => print(&format!("equal: Pepay has the same {event_id} (asked as {asked_as})\n")),
        "unknown" => {
            Err(Error::failure(format!("unknown: Pepay has no event {event_id} (asked as {asked_as})")))
        }
        _ => {
            let parts = differs.join(", ");
            Err(Error::failure(format!(
                "{outcome}: Pepay has another event under {event_id}; what differs: {parts} (asked as {asked_as})"
            )))
        }
    }
}

/// An event of the list.
#[derive(Debug, Deserialize)]
struct Summary {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    object_id: Option<String>,
    source: String,
    received_at: Moment,
    deliveries: Vec<Standing>,
}

#[derive(Debug, Deserialize)]
struct Standing {
    target: String,
    state: String,
    attempts: u32,
}

impl Listed for Summary {
    const PATH: &'static str = "events";
    const HEADER: &'static [&'static str] = &["AGE", "ID", "TYPE", "OBJECT", "SOURCE", "DELIVERIES"];

    fn cells(self, now: UnixMillis) -> Vec<String> {
        let standings = self.deliveries.iter().map(|Standing { target, state, attempts }| {
            let tried = if *attempts > 1 { format!("({attempts})") } else { String::new() };
            format!("{target}={state}{tried}")
        });
        let standings = standings.collect::<Vec<_>>().join(" ");
        let age = self.received_at.age(now);
        vec![age, self.id, self.kind, self.object_id.unwrap_or_default(), self.source, standings]
    }
}
