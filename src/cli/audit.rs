//! `pepay-bridge audit`.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde::Deserialize;

use super::Error;
use super::admin::Operator;
use super::listing::{Filtering, Listed, Listing};
use super::moment::{Moment, When};
use crate::domain::audit::Kind;
use crate::domain::clock::UnixMillis;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what operators have asked for, the newest first
    List(Listing<Filters>),
}

/// What is not given lets everything through.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct Filters {
    /// Changes, or readings of bodies
    #[arg(long, value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)))]
    kind: Option<String>,

    /// By the token of this name; `admin_token` is `server.admin_token`
    #[arg(long, value_name = "TOKEN")]
    who: Option<String>,

    /// For this, such as `retry`, `pause` or `read_body`
    #[arg(long)]
    action: Option<String>,

    /// About this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,

    /// About this event
    #[arg(long, value_name = "ID")]
    event: Option<String>,

    /// Asked for then or later: RFC 3339, a day such as `2026-01-31`, or an age such as `2h`
    #[arg(long, value_name = "TIME")]
    from: Option<When>,

    /// Asked for before: RFC 3339, a day, or an age such as `30m`
    #[arg(long, value_name = "TIME")]
    to: Option<When>,
}

impl Filtering for Filters {
    fn given(&self, now: UnixMillis) -> Vec<(&'static str, String)> {
        let time = |when: Option<When>| when.map(|when| when.written(now));
        let all = [
            ("kind", self.kind.clone()),
            ("who", self.who.clone()),
            ("action", self.action.clone()),
            ("target", self.target.clone()),
            ("event_id", self.event.clone()),
            ("from", time(self.from)),
            ("to", time(self.to)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Returns `None`: the trail also has names of targets that do not exist.
    fn target(&self) -> Option<&str> {
        None
    }
}

/// Runs the subcommand.
pub(super) async fn audit(command: &Command, operator: &Operator) -> Result<(), Error> {
    let Command::List(listing) = command;
    listing.print::<Entry>(operator).await
}

/// An entry, as the API returns it.
#[derive(Debug, Deserialize)]
struct Entry {
    at: Moment,
    who: Option<String>,
    peer: Option<String>,
    client: String,
    action: String,
    target: Option<String>,
    stream: Option<String>,
    event_id: Option<String>,
    filter: Option<String>,
    count: u64,
    outcome: String,
}

impl Listed for Entry {
    const PATH: &'static str = "audit";
    const HEADER: &'static [&'static str] =
        &["AT", "WHO", "PEER", "BY", "ACTION", "TARGET", "STREAM", "EVENT", "COUNT", "OUTCOME", "FILTER"];

    fn cells(self, _: UnixMillis) -> Vec<String> {
        let some = Option::unwrap_or_default;
        vec![
            self.at.to_string(),
            some(self.who),
            some(self.peer),
            self.client,
            self.action,
            some(self.target),
            some(self.stream),
            some(self.event_id),
            self.count.to_string(),
            self.outcome,
            some(self.filter),
        ]
    }
}
