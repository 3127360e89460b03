//! The configuration: layers, validation, and the settings of every part.
//!
//! Later wins: the built-in defaults, the TOML file of `--config` or
//! `PEPAY_BRIDGE_CONFIG`, the environment (`PEPAY_BRIDGE__SECTION__KEY`, and
//! `RUST_LOG` for `log.filter`). One file per section reads it key by key (see
//! `section.rs` for how) and builds the settings type of the part it is for;
//! every fault is found in one go, and none ends up in a settings type.
//!
//! Two rules hold for all keys: an empty text means "not set", and a secret `x`
//! may be given as `x_file`, a path whose trimmed content is the value.

pub mod access;
mod alerts;
mod condition;
mod files;
mod form;
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

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use files::NamedFile;
pub use problem::{Problem, Problems, Warning};
pub use streams::Subscription;

use self::problem::Faulty;
use self::section::{Reading, Section};
use crate::pepay::account::Account;
use crate::telemetry::traces;
use crate::{delivery, source, telemetry, web};

/// The fault of an environment that asks for traces where they are not compiled in.
const NO_TRACES: &str = "asks for traces, which this build does not export; allowed is a build with the cargo \
                         feature `otlp` (`cargo build --features otlp`), or OTEL_SDK_DISABLED=true";

/// What every part of the bridge is started with. Lists are sorted by name.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a stop may take before what is in hand is abandoned.
    pub shutdown_grace: Duration,
    /// The two listeners and the token of the private one.
    pub web: web::Settings,
    /// Logs.
    pub log: telemetry::Settings,
    /// The database.
    pub store: crate::store::Settings,
    /// The account of `[pepay]`, which commands use and every stream without its own.
    pub pepay: Arc<Account>,
    /// The streams.
    pub streams: Vec<Subscription>,
    /// The webhook endpoints; their paths differ. Together with the streams there is at least one.
    pub webhooks: Vec<source::webhook::Settings>,
    /// The targets; at least one.
    pub targets: Vec<delivery::Settings>,
    /// The files that were read for all this, the configuration file first if there is one.
    pub files: Vec<NamedFile>,
    /// Where alerts go; `None` is nowhere.
    pub alerts: Option<crate::alerts::Settings>,
}

/// A configuration without fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Every key with the value the bridge goes by, as TOML. Each secret is
    /// `[redacted]`, or the path of its file.
    pub effective: String,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Warning>,
}

/// Loads the configuration from the file at `path`, or the one that the
/// environment names, and from `environment`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<Loaded, Problems> {
    read(path, environment).0
}

fn read(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> (Result<Loaded, Problems>, Reading) {
    let mut reading = Reading::default();
    let settings = layers::read(path, environment, &mut reading.problems).and_then(|layers| {
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

/// Reads the address of the public listener alone: a command that asks a running
/// bridge need not be able to read its secrets.
///
/// # Errors
/// What is wrong with that address, or with the file as a whole.
pub fn listen(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<SocketAddr, Problems> {
    part(path, environment, |root| server::listen(&mut root.section("server")))
}

/// Reads the listeners and the token of the private one alone, for commands that work
/// with a running bridge.
///
/// # Errors
/// What is wrong with that section, or with the file as a whole.
pub fn server(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<web::Settings, Problems> {
    part(path, environment, |root| server::read(root.section("server")).map(|(web, _)| web))
}

/// Reads `[store]` alone: a command that copies the store need not be able to read the
/// bridge's secrets.
///
/// # Errors
/// What is wrong with that section, or with the file as a whole.
pub fn store(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<crate::store::Settings, Problems> {
    part(path, environment, |root| store::read(root.section("store")))
}

/// How logs are written, as far as the configuration can be read: for its own faults.
pub fn log_format(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> telemetry::Format {
    let environment: Vec<(OsString, OsString)> =
        environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let of = |path, environment: Vec<(OsString, OsString)>| {
        part(path, environment, |root| server::log_format(&mut root.section("log"))).ok()
    };
    // What is wrong elsewhere, as in the syntax of the file, leaves the environment.
    let variable = |(name, _): &(OsString, OsString)| name.eq_ignore_ascii_case(layers::FORMAT_VARIABLE);
    let variable = environment.iter().filter(|pair| variable(pair)).cloned().collect();
    of(None, variable)
        .filter(|format| *format != telemetry::Format::Text)
        .or_else(|| of(path, environment))
        .unwrap_or(telemetry::Format::Text)
}

fn part<T>(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    read: impl FnOnce(&mut Section<'_>) -> Result<T, Faulty>,
) -> Result<T, Problems> {
    let mut reading = Reading::default();
    let settings = layers::read(path, environment, &mut reading.problems)
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
