//! Opens the store, and waits for a server that is away.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::backoff::{Backoff, Jitter};
use crate::domain::clock::Clock;
use crate::store::{Committer, OpenError, Route, Settings, Store};

/// The pauses between two tries to reach the server of a store.
const BACKOFF: Backoff = Backoff::between(Duration::from_millis(250), Duration::from_secs(5));

/// The time between two log lines about the same trouble of the server.
const REMIND: Duration = Duration::from_mins(1);

/// Opens the store. If its server cannot be reached now, calls `away` once, and tries again until the
/// server is back. A part of the bridge that already ran would wait for it too.
///
/// # Errors
/// [`OpenError`] if the store cannot be used.
pub(super) async fn open(
    settings: &Settings,
    routes: Vec<Route>,
    clock: Clock,
    jitter: Jitter,
    away: impl FnOnce(),
) -> Result<(Store, Committer), OpenError> {
    let (mut failures, mut away) = (0, Some(away));
    let mut logged: Option<(Instant, String)> = None;
    loop {
        let error = match Store::open(settings, routes.clone(), clock.clone()).await {
            Err(error) if error.is_away() => error,
            opened => {
                if failures > 0 && opened.is_ok() {
                    tracing::info!(tries = failures + 1, "the database can be used again");
                }
                return opened;
            }
        };
        failures += 1;
        if let Some(away) = away.take() {
            away();
        }
        let reason = error.to_string();
        if logged.as_ref().is_none_or(|(at, before)| *before != reason || at.elapsed() >= REMIND) {
            tracing::error!(error = reason, "the bridge waits for its database, and takes no events in");
            logged = Some((Instant::now(), reason));
        }
        tokio::time::sleep(BACKOFF.delay(failures, jitter.next())).await;
    }
}
