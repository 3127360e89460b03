//! `pepay-bridge deliveries`.

pub(super) mod bulk;
mod delivery;

use clap::Subcommand;
use serde_json::{Map, json};

pub(super) use self::delivery::Delivery;

use self::bulk::{BulkRequest, Consent};
use super::Error;
use super::admin::Operator;
use super::filters::{Filters, MoveFilters};
use super::listing::Listing;
use crate::domain::operator::Action;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List deliveries, the newest event first
    List(Listing<Filters>),
    /// Send retrying, dead, closed or cancelled deliveries now; the time to give up starts again
    #[command(override_usage = usage(Action::Retry))]
    Retry(Choice),
    /// Send held deliveries again: their outcome is unknown, so the target may get them twice
    #[command(override_usage = usage(Action::Release))]
    Release(Choice),
    /// Close held deliveries: nothing more is sent
    #[command(override_usage = usage(Action::Close))]
    Close(Choice),
    /// Cancel pending, retrying, held or dead deliveries: they are not sent
    #[command(override_usage = usage(Action::Cancel))]
    Cancel(Choice),
    /// Move the unfinished deliveries of a removed target to another target
    ///
    /// Pending, retrying, held and dead deliveries that pass the filters keep their state, attempts
    /// and order. A delivery whose event the other target already has is cancelled. A delivery that
    /// the other target does not take by its types, environment or where stays, and is counted.
    Move(Move),
}

/// The removed target and the target that takes its deliveries over.
#[derive(Debug, clap::Args)]
pub(super) struct Move {
    /// The removed target
    #[arg(long, value_name = "OLD")]
    from: String,

    /// The target that takes them over
    #[arg(long, value_name = "NEW")]
    to: String,

    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,

    /// Count the deliveries and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    // Last, since their heading is for what follows as well.
    #[command(flatten)]
    filters: MoveFilters,
}

/// One delivery, by its target and event, or every delivery that passes the filters.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    /// The target of one delivery
    #[arg(
        value_name = "TARGET",
        requires = "event_id",
        required_unless_present_any = ["target", "CommonFilters", "SubjectFilters"],
        conflicts_with_all = ["target", "CommonFilters", "SubjectFilters"]
    )]
    of_target: Option<String>,

    /// The id of its event
    #[arg(value_name = "EVENT_ID")]
    event_id: Option<String>,

    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,

    /// Count the deliveries and change nothing
    #[arg(long, conflicts_with_all = ["yes", "of_target"])]
    dry_run: bool,

    // Last, since their heading is for what follows as well.
    #[command(flatten)]
    filters: Filters,
}

/// Returns the usage of an action: on one delivery, or on many.
fn usage(action: Action) -> String {
    let command = format!("pepay-bridge deliveries {action} [OPTIONS]");
    format!("{command} TARGET EVENT_ID\n       {command} FILTERS [--yes | --dry-run]")
}

/// Runs the subcommand.
pub(super) async fn deliveries(command: &Command, operator: &Operator) -> Result<(), Error> {
    match command {
        Command::List(listing) => listing.print::<Delivery>(operator).await,
        Command::Retry(choice) => choice.act(Action::Retry, operator).await,
        Command::Release(choice) => choice.act(Action::Release, operator).await,
        Command::Close(choice) => choice.act(Action::Close, operator).await,
        Command::Cancel(choice) => choice.act(Action::Cancel, operator).await,
        Command::Move(wanted) => wanted.carry_out(operator).await,
    }
}

impl Move {
    async fn carry_out(&self, operator: &Operator) -> Result<(), Error> {
        let Self { from, to, yes, dry_run, filters } = self;
        let filter = filters.object(operator.now);
        let narrowed = bulk::written(Some(format!("from {from} to {to}")), &filter);
        let body = Map::from_iter([
            ("from".to_owned(), from.as_str().into()),
            ("to".to_owned(), to.as_str().into()),
            ("filter".to_owned(), filter),
        ]);
        let call = BulkRequest { action: "move", body, narrowed, target: None };
        bulk::carry_out(call, Consent::of(*dry_run, *yes), operator).await
    }
}

impl Choice {
    async fn act(&self, action: Action, operator: &Operator) -> Result<(), Error> {
        if let (Some(target), Some(id)) = (&self.of_target, &self.event_id) {
            let path = ["deliveries", target, id, action.as_str()];
            let answer = operator.bridge.post(&path, &json!({})).await?;
            return operator.show(&answer, |delivery: Delivery| delivery.standing());
        }
        bulk::act(action, &self.filters, Consent::of(self.dry_run, self.yes), operator).await
    }
}
