//! Warnings about deliveries in the store to targets that are no longer configured.

use std::time::Duration;

use tokio::time::timeout;

use super::targets::shown::{self, Target};
use crate::config::Settings;
use crate::store::check;
use crate::store::view::Backlog;

/// The time limit of the query to a running bridge.
const PATIENCE: Duration = Duration::from_secs(3);

/// Returns a line for each such target. If the store cannot be read, the function returns no line, and
/// other checks report the fault. For a store on a server the function asks the bridge that runs under
/// these settings, if one runs.
pub(super) async fn warnings(settings: &Settings) -> Vec<String> {
    let backlogs = match settings.store.file() {
        Some(file) => check::backlogs(file).ok(),
        None => of_bridge(settings).await,
    };
    let backlogs = backlogs.unwrap_or_default();
    let removed = backlogs.iter().filter(|backlog| {
        backlog.is_waiting() && settings.targets.iter().all(|target| target.name != backlog.target)
    });
    let told = removed.map(|backlog| {
        format!(
            "targets.{}: is not configured, and {} deliveries wait for it",
            backlog.target,
            backlog.in_words()
        )
    });
    told.collect()
}

async fn of_bridge(settings: &Settings) -> Option<Vec<Backlog>> {
    let targets = timeout(PATIENCE, shown::of_running(settings)).await.ok()??.ok()?;
    let backlogs = targets.into_iter().map(|Target { name, backlog, held, dead, .. }| Backlog {
        target: name.into(),
        open: backlog.unwrap_or(0),
        oldest: None,
        held: held.unwrap_or(0),
        dead: dead.unwrap_or(0),
    });
    Some(backlogs.collect())
}

/// The advice for such a warning.
pub(super) const ADVICE: &str =
    "configure it again, move them to another target (`deliveries move`), or cancel them";
