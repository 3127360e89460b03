//! `pepay-bridge run`.

use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::config::{Input, Loaded, Problem, Problems, Settings, access};
use crate::domain::cause::chain;
use crate::lifecycle::HangUps;
use crate::{app, config, telemetry};

/// Run the bridge until SIGTERM or SIGINT; SIGHUP reloads the configuration. The default command
#[derive(Debug, Default, clap::Args)]
pub(super) struct Arguments {
    /// Have the store go on with the configured accounts, although it holds another's events
    ///
    /// A store remembers which Pepay, environment and account its events come from, and a start
    /// with another one is refused. This forgets what it remembers.
    #[arg(long)]
    adopt: bool,
}

/// Runs the daemon until a signal stops it.
pub(super) fn run(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let threads = super::runtime()?;
    // This comes before any file is read. Without a listener a SIGHUP ends the process.
    let hang_ups = threads.within(HangUps::listen).map_err(Error::failure)?;
    let loaded = config::load(input).map_err(|problems| refused(problems, input))?;
    telemetry::start(&loaded.settings.log).map_err(Error::failure)?;
    let settings = warned(loaded);
    let file = input.file().map(|path| path.display().to_string());
    tracing::info!(file, "configuration read");
    let input = input.clone();
    let load: app::Load = Arc::new(move || {
        config::load(&input)
            .map(warned)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    });
    let database = settings.store.file().map(Path::to_owned);
    threads.block_on(app::run(settings, load, hang_ups, arguments.adopt)).map_err(|error| {
        let reason = match &error {
            app::Error::Store(_) => database.as_deref().and_then(access::unwritable),
            _ => None,
        };
        let reason = reason.map(|reason| format!("; {reason}")).unwrap_or_default();
        let error = format!("{}{reason}", chain(&error));
        tracing::error!(error, "pepay-bridge cannot go on");
        Error::Logged(1)
    })
}

/// Reports the faults of the configuration. If the log format is JSON, the function logs them as JSON.
fn refused(problems: Problems, input: &Input) -> Error {
    let format = config::log_format(input);
    let settings = telemetry::Settings { format, filter: "error".to_owned() };
    if format == telemetry::Format::Text || telemetry::start(&settings).is_err() {
        return problems.into();
    }
    for Problem { key, message, variable } in problems.iter() {
        tracing::error!(key, variable, "configuration: {message}");
    }
    Error::Logged(2)
}

/// Logs the warnings of `loaded` and returns its settings.
fn warned(loaded: Loaded) -> Settings {
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "the configuration is valid and probably not what is meant");
    }
    loaded.settings
}
