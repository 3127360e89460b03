//! `pepay-bridge run`.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::config::{Loaded, Settings};
use crate::{app, config, telemetry};

/// Runs the daemon until a signal stops it.
pub(super) fn run(
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    let environment: Vec<_> = environment.into_iter().collect();
    let loaded = config::load(config, environment.iter().cloned())?;
    telemetry::start(&loaded.settings.log).map_err(Error::failure)?;
    let settings = warned(loaded);
    let config = config.map(Path::to_owned);
    let load: app::Load = Arc::new(move || {
        let loaded = config::load(config.as_deref(), environment.iter().cloned());
        loaded.map(warned).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    });
    super::runtime()?.block_on(app::run(settings, load)).map_err(|error| {
        tracing::error!(%error, "pepay-bridge cannot go on");
        Error::Logged
    })
}

/// The settings of `loaded`, once its warnings are logged.
fn warned(loaded: Loaded) -> Settings {
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "the configuration is valid and probably not what is meant");
    }
    loaded.settings
}
