//! `pepay-bridge doctor`: checks everything that a bridge needs, from outside.
//!
//! The probes are in the modules that they belong to. This module selects the probes, interprets their
//! results and has the advice for the operator.

mod bridge;
mod endpoints;
mod pepay;
mod report;
mod store;

use self::report::{Check, Report};
use super::{Error, removed};
use crate::config::{self, Input, Loaded, Settings, Warning};
use crate::domain::clock::Clock;

/// Check everything that the bridge needs, beside a running one or without it
///
/// One line for each check: ok, or what to do. Nothing is delivered and no event
/// is taken: a stream is opened and closed again, and targets are connected to
/// without a request. Exits 0 if nothing failed; a warning is no failure.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

/// Makes every check and prints the report.
pub(super) fn doctor(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let loaded = config::load(input)?;
    let report = super::runtime()?.block_on(examine(&loaded, Clock::system()));
    super::print(&if arguments.json { report.json() } else { report.to_string() })?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(Error::failure(format!("{failed} of {} checks failed", report.0.len()))),
    }
}

/// Makes every check. Checks that wait run at the same time. The report has a fixed order.
async fn examine(loaded: &Loaded, clock: Clock) -> Report {
    let settings = &loaded.settings;
    let webhooks = endpoints::of_webhooks(&settings.webhooks, &clock);
    let ((pepay, identities), targets, store) = tokio::join!(
        pepay::examine(settings, clock),
        endpoints::of_targets(&settings.targets),
        store::examine(&settings.store),
    );
    let account = store::of_account(settings, identities);
    let removed = removed::warnings(settings).await;
    let removed =
        removed.into_iter().map(|found| Check::warning("targets", found, removed::ADVICE)).collect();
    let bridge = bridge::examine(settings).await;
    let parts = [configuration(loaded), pepay, webhooks, targets, removed, store, account, bridge];
    Report(parts.into_iter().flatten().collect())
}

fn configuration(Loaded { settings, warnings, .. }: &Loaded) -> Vec<Check> {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    let Settings { streams, webhooks, targets, .. } = settings;
    let found = [
        count(streams.len(), "stream"),
        count(webhooks.len(), "webhook endpoint"),
        count(targets.len(), "target"),
    ];
    let valid = Check::ok("configuration", format!("valid: {}", found.join(", ")));
    let warnings = warnings.iter().map(|Warning { key, found, advice }| {
        Check::warning("configuration", format!("`{key}` {found}"), advice)
    });
    [valid].into_iter().chain(warnings).collect()
}
