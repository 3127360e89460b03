//! `pepay-bridge run`.

use std::ffi::OsString;
use std::path::Path;

use super::Error;
use crate::{app, config, telemetry};

/// Runs the daemon until it is told to stop.
pub(super) fn run(
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    let settings = config::load(config, environment)?.settings;
    telemetry::start(&settings.log).map_err(Error::failure)?;
    super::runtime()?.block_on(app::run(settings)).map_err(|error| {
        tracing::error!(%error, "pepay-bridge cannot go on");
        Error::Logged
    })
}
