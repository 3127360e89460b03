//! `pepay-bridge events`.

mod show;
mod verify;

use std::ffi::OsString;
use std::path::Path;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use self::show::Event;
use super::admin::{self, Operator};
use super::deliveries::Delivery;
use super::filters::EventFilters;
use super::listing::{Listed, Listing};
use super::moment::Moment;
use super::{Error, print_bytes, runtime};
use crate::domain::clock::UnixMillis;

/// Find events, see what happened to one, send it again, compare it with Pepay's
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    admin: admin::Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    Replay {
        /// The event's id
        id: String,

        /// The target that it goes to
        #[arg(long, value_name = "NAME")]
        target: String,
    },
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

/// Does what is asked for.
pub(super) fn events(
    arguments: &Arguments,
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    let operator = Operator::new(&arguments.admin, config, environment)?;
    runtime()?.block_on(async {
        match &arguments.command {
            Command::List(listing) => listing.print::<Summary>(&operator).await,
            Command::Show { id, body: true } => body(&operator, id).await,
            Command::Show { id, body: false } => {
                let answer = operator.bridge.get(&["events", id], &[]).await?;
                operator.show(&answer, |event: Event| event.render(operator.now))
            }
            Command::Replay { id, target } => {
                let again = json!({ "target": target });
                let answer = operator.bridge.post(&["events", id, "replay"], &again).await?;
                operator.show(&answer, |delivery: Delivery| delivery.replayed())
            }
            Command::Verify { id } => {
                let answer = operator.bridge.post(&["events", id, "verify"], &json!({})).await?;
                verify::report(&operator, &answer)
            }
        }
    })
}

/// Writes the exact bytes, and not one more.
async fn body(operator: &Operator, id: &str) -> Result<(), Error> {
    let answer = operator.bridge.get(&["events", id, "body"], &[]).await?;
    print_bytes(&answer.0).map(|_| ())
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
