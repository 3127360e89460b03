//! `pepay-bridge events replay`: sends one event, or many that pass filters, to a target again.

use serde_json::{Map, json};

use crate::cli::Error;
use crate::cli::admin::Operator;
use crate::cli::deliveries::Delivery;
use crate::cli::deliveries::bulk::{self, BulkRequest, Consent};
use crate::cli::filters::CommonFilters;

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

impl Replay {
    /// Replays the one event, or the events that pass the filters.
    pub(super) async fn send(&self, operator: &Operator) -> Result<(), Error> {
        if let Some(id) = &self.id {
            let again = json!({ "target": self.target });
            let answer = operator.bridge.post(&["events", id, "replay"], &again).await?;
            return operator.show(&answer, |delivery: Delivery| delivery.replayed());
        }
        let filter = self.filters.object(operator.now);
        let what = if self.missing { "what it has never had" } else { "what it takes or has taken" };
        let narrowed = [format!("to {}: {what}", self.target), bulk::written(&filter)];
        let narrowed = narrowed.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let body = Map::from_iter([
            ("target".to_owned(), self.target.as_str().into()),
            ("filter".to_owned(), filter),
            ("missing".to_owned(), self.missing.into()),
        ]);
        let call = BulkRequest { action: "replay", body, narrowed, target: None };
        bulk::carry_out(call, Consent::of(self.dry_run, self.yes), operator).await
    }
}
