//! The composition root.

use crate::config::Settings;

/// Why the bridge ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// Runs the bridge until it is asked to stop.
///
/// # Errors
/// [`Error`] says why it ended without being asked to.
pub async fn run(settings: Settings) -> Result<(), Error> {
    tracing::info!(targets = settings.targets.len(), "started");
    Ok(())
}
