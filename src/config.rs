//! The configuration: layers, validation, and the settings of every part.
//!
//! There are three layers, of which a later one takes precedence: the built-in defaults, the TOML file of
//! `--config` or `PEPAY_BRIDGE_CONFIG`, and the environment (`PEPAY_BRIDGE__SECTION__KEY`, and `RUST_LOG`
//! for `log.filter`). Each section has a file that reads the section key by key (`section.rs` explains
//! how) and builds the settings type of its part. One run reports every fault. A settings type has only
//! valid values.
//!
//! Two rules hold for all keys. An empty text means "not set". A secret `x` may be given as `x_file`, the
//! path of a file whose trimmed content is the value.

pub mod access;
mod alerts;
mod condition;
mod files;
mod form;
mod input;
mod layers;
mod pepay;
mod problem;
mod secret;
mod section;
mod server;
mod store;
mod streams;
mod targets;
mod warnings;
mod webhooks;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use files::NamedFile;
pub use input::Input;
pub use problem::{Problem, Problems, Warning};
pub use streams::Subscription;

use self::problem::Faulty;
use self::section::{Reading, Section};
use crate::pepay::account::Account;
use crate::telemetry::traces;
use crate::{delivery, source, telemetry, web};

/// The variable that sets `log.format`.
const FORMAT_VARIABLE: &str = "PEPAY_BRIDGE__LOG__FORMAT";

/// The fault of an environment that asks for traces if the build cannot export them.
const NO_TRACES: &str = "asks for traces, which this build does not export; allowed is a build with the cargo \
                         feature `otlp` (`cargo build --features otlp`), or OTEL_SDK_DISABLED=true";

/// The settings of every part of the bridge. Lists are sorted by name.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The longest time for a soft stop. After that the unfinished work is abandoned.
    pub shutdown_grace: Duration,
    /// The two listeners, and the tokens of the private one.
    pub web: web::Settings,
    /// The log.
    pub log: telemetry::Settings,
    /// The store.
    pub store: crate::store::Settings,
    /// The account of `[pepay]`. Commands use it, and every stream without its own account.
    pub pepay: Arc<Account>,
    /// The streams.
    pub streams: Vec<Subscription>,
    /// The webhook endpoints, each with a different path. There is at least one stream or endpoint.
    pub webhooks: Vec<source::webhook::Settings>,
    /// The targets; at least one.
    pub targets: Vec<delivery::Settings>,
    /// The files that were read. The configuration file, if there is one, is the first.
    pub files: Vec<NamedFile>,
    /// The receiver of alerts; `None` if no alerts are sent.
    pub alerts: Option<crate::alerts::Settings>,
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Every key with its effective value, as TOML. A secret is shown as `[redacted]`, or as the path of
    /// its file.
    pub effective: String,
    /// The settings that are valid and probably a mistake.
    pub warnings: Vec<Warning>,
}

/// Loads the configuration.
///
/// # Errors
/// [`Problems`] has every fault of the configuration.
pub fn load(input: &Input) -> Result<Loaded, Problems> {
    read(input).0
}

fn read(input: &Input) -> (Result<Loaded, Problems>, Reading) {
    let mut reading = Reading::default();
    let settings = layers::read(input, &mut reading.problems).and_then(|layers| {
        reading.proxy = layers.proxy;
        reading.warnings = layers.warnings;
        reading.mounts = layers.mounts;
        reading.files.extend(layers.file);
        if let Some(variable) = layers.traces.filter(|_| !traces::COMPILED_IN) {
            reading.problems.push(variable, NO_TRACES);
        }
        settings(Section::root(layers.table, &mut reading))
    });
    let loaded = match settings {
        Ok(mut settings) if reading.problems.is_empty() => {
            settings.files = std::mem::take(&mut reading.files);
            let mut warnings = std::mem::take(&mut reading.warnings);
            warnings.extend(settings.files.iter().filter_map(NamedFile::warning));
            warnings.extend(warnings::of(&settings));
            warnings.extend(access::of_store(&settings.store));
            Ok(Loaded { settings, effective: reading.effective.join("\n") + "\n", warnings })
        }
        _ => Err(reading.problems.clone()),
    };
    (loaded, reading)
}

/// Reads only the address of the public listener, for commands that query a running bridge. Such a
/// command need not have access to the secrets.
///
/// # Errors
/// [`Problems`] has the faults of that address, or of the file as a whole.
pub fn listen(input: &Input) -> Result<SocketAddr, Problems> {
    part(input, |root| server::listen(&mut root.section("server")))
}

/// Reads only `[server]`, for commands that use the admin API of a running bridge.
///
/// # Errors
/// [`Problems`] has the faults of that section, or of the file as a whole.
pub fn server(input: &Input) -> Result<web::Settings, Problems> {
    part(input, |root| server::read(root.section("server")).map(|(web, _)| web))
}

/// Reads only `[store]`, for commands that copy the store. Such a command need not have access to the
/// other secrets.
///
/// # Errors
/// [`Problems`] has the faults of that section, or of the file as a whole.
pub fn store(input: &Input) -> Result<crate::store::Settings, Problems> {
    part(input, |root| store::read(root.section("store")))
}

/// Returns the log format for the faults of the configuration itself, as far as the configuration can be
/// read.
pub fn log_format(input: &Input) -> telemetry::Format {
    let of = |input: &Input| part(input, |root| server::log_format(&mut root.section("log"))).ok();
    // The environment can be read even if the file has a fault, such as wrong syntax.
    of(&input.only(FORMAT_VARIABLE))
        .filter(|format| *format != telemetry::Format::Text)
        .or_else(|| of(input))
        .unwrap_or(telemetry::Format::Text)
}

fn part<T>(input: &Input, read: impl FnOnce(&mut Section<'_>) -> Result<T, Faulty>) -> Result<T, Problems> {
    let mut reading = Reading::default();
    let settings = layers::read(input, &mut reading.problems)
        .and_then(|layers| read(&mut Section::root(layers.table, &mut reading)));
    match settings {
        Ok(settings) if reading.problems.is_empty() => Ok(settings),
        _ => Err(reading.problems),
    }
}

fn settings(mut root: Section<'_>) -> Result<Settings, Faulty> {
    let (has_streams, has_webhooks) = (root.has_any("streams"), root.has_any("webhooks"));
    let has_targets = root.has_any("targets");
    let server = server::read(root.section("server"));
    let log = server::read_log(root.section("log"));
    let store = store::read(root.section("store"));
    let (inherited, mut keyless, mut all) = (root.given("pepay"), Vec::new(), 0);
    let pepay = pepay::read(root.section("pepay"));
    let streams = root.sections("streams", |name, section| {
        all += 1;
        streams::read(name, section, &inherited, &mut keyless)
    });
    pepay::keys_are_there(&mut root, &keyless, all);
    let mut paths = webhooks::Paths::new();
    let webhooks = root.sections("webhooks", |name, section| webhooks::read(name, section, &mut paths));
    let targets = root.sections("targets", targets::read);
    let alerts = alerts::read(root.section("alerts"));
    if !has_streams && !has_webhooks {
        root.problem(
            "streams",
            "there is no source; allowed is at least one `[streams.NAME]` or `[webhooks.NAME]`",
        );
    }
    if !has_targets {
        root.problem("targets", "there is no target; allowed is at least one `[targets.NAME]`");
    }
    if let (Ok(store), Ok(streams), Ok(webhooks)) = (&store, &streams, &webhooks) {
        store::outlives_repeats(&mut root, store, streams, webhooks);
    }
    if let Ok(webhooks) = &webhooks {
        webhooks::do_not_share(&mut root, webhooks);
    }
    root.finish();
    let (web, shutdown_grace) = server?;
    Ok(Settings {
        shutdown_grace,
        web,
        log: log?,
        store: store?,
        pepay: Arc::new(pepay?),
        streams: streams?,
        webhooks: webhooks?,
        targets: targets?,
        files: Vec::new(),
        alerts: alerts?,
    })
}
