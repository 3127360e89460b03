//! The command line. Each command has its own file, and ends in success or in an [`Error`] with an exit
//! code.

mod admin;
mod alerts;
mod audit;
mod backup;
mod check;
mod completions;
mod deliveries;
mod demo;
mod devnet;
mod doctor;
mod events;
mod filters;
mod health;
mod import;
mod listing;
mod man;
mod moment;
mod names;
mod progress;
mod reload;
mod removed;
mod restore;
mod run;
mod runtime;
mod simulator;
mod streams;
mod table;
mod targets;
mod text;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::runtime::runtime;
use self::text::clean_lines;
use crate::config::{Input, Problems};
use crate::domain::cause::chain;
use crate::telemetry::traces;

const ABOUT: &str = "\
Receives Pepay's commerce events over WebSocket and webhooks, keeps each one \
once and durably, and forwards each to your services until they acknowledge it.";

const CONFIGURATION: &str = "\
Configuration, later wins: the built-in defaults, the TOML file of --config or
PEPAY_BRIDGE_CONFIG, or else ./pepay-bridge.toml or
/etc/pepay-bridge/pepay-bridge.toml, the environment. A variable is named after its key, with
two underscores between the levels; a list is one text separated by commas:

  PEPAY_BRIDGE__PEPAY__API_KEY=…                 pepay.api_key
  PEPAY_BRIDGE__PEPAY__API_KEY_FILE=/run/secrets/pepay-key
  PEPAY_BRIDGE__STREAMS__COMMERCE__TYPES=commerce.order.*,invoice.*
  PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS=…     webhooks.default.secrets
  PEPAY_BRIDGE__TARGETS__ORDERS__URL=http://orders.internal:8000/pepay-events
  PEPAY_BRIDGE__TARGETS__ORDERS__HEADERS__AUTHORIZATION='Bearer …'
  PEPAY_BRIDGE__SERVER__LISTEN=0.0.0.0:8080

`pepay-bridge check` shows what is in effect. These variables count too:

  OTEL_EXPORTER_OTLP_ENDPOINT    turns traces on, in a build with the feature otlp (--version
                                 names it); the other standard OTEL_ variables set them up
  RUST_LOG                       wins over log.filter
  TOKIO_WORKER_THREADS           sets the number of worker threads

Logs go to standard error.

Exit codes: 0 success, 1 failure, 2 a fault of the command line or of the
configuration, with one line for each.";

const CONFIG_HELP: &str = "TOML file to read the configuration from [env: PEPAY_BRIDGE_CONFIG] [default: ./pepay-bridge.toml, then /etc/pepay-bridge/pepay-bridge.toml]";

/// The advice if there is no configuration.
const UNCONFIGURED: &str = "\
There is no configuration: neither ./pepay-bridge.toml nor /etc/pepay-bridge/pepay-bridge.toml
exists, no --config or PEPAY_BRIDGE_CONFIG names a file, and no PEPAY_BRIDGE__ variable sets a key.

  pepay-bridge --config FILE    runs the bridge with that file
  pepay-bridge demo             shows the whole flow on this machine, without an account
  pepay-bridge --help           lists the commands, and how to configure";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = NAME, about = ABOUT, version = VERSION, after_long_help = CONFIGURATION)]
pub struct Cli {
    #[arg(long, global = true, value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    /// Ask a running bridge whether it is ready; exits 0 if it is and 1 if not
    Health(health::Arguments),
    /// Find events, see what happened to one, send it again, compare it with Pepay's
    Events(admin::Command<events::Command>),
    /// List deliveries, and decide about those that wait for an operator
    Deliveries(admin::Command<deliveries::Command>),
    /// List, pause, resume and test the targets
    Targets(admin::Command<targets::Command>),
    /// List the streams, reconnect one, or read its events from Pepay again
    Streams(admin::Command<streams::Command>),
    /// See who has changed what, and whose bodies were read
    Audit(admin::Command<audit::Command>),
    Reload(reload::Arguments),
    /// Try whether alerts reach you
    Alerts(admin::Command<alerts::Command>),
    Doctor(doctor::Arguments),
    Backup(backup::Arguments),
    Restore(restore::Arguments),
    Import(import::Arguments),
    Devnet(devnet::Arguments),
    Demo(demo::Arguments),
    Simulator(simulator::Arguments),
    /// Print the script that completes this command line in a shell
    Completions(completions::Arguments),
    /// Print the names that a running bridge has for something: what completion scripts ask for
    #[command(hide = true)]
    CompleteNames(names::Arguments),
    /// Print the manual page, or write one for each command
    Man(man::Arguments),
}

/// The name of the program and of its manual pages.
const NAME: &str = "pepay-bridge";

/// The version, the commit, and the optional features of this build.
const VERSION: &str = if traces::COMPILED_IN {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("PEPAY_BRIDGE_COMMIT"), ", otlp)")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("PEPAY_BRIDGE_COMMIT"), ")")
};

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has faults.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// There is no configuration.
    #[error("{0}")]
    Unconfigured(Problems),
    /// The command line has a fault that only the command itself can find.
    #[error("{0}")]
    Usage(String),
    /// The failure has been logged already. The value is the exit code.
    #[error("the log says why")]
    Logged(u8),
    /// Any other failure.
    #[error(transparent)]
    Failure(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Creates a failure with this reason.
    fn failure(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failure(reason.into())
    }

    /// Prints the error on standard error and returns the exit code. A logged failure is not printed.
    pub fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Configuration(problems) => (problems.to_string(), ExitCode::from(2)),
            Self::Unconfigured(problems) => (format!("{problems}\n\n{UNCONFIGURED}"), ExitCode::from(2)),
            Self::Usage(fault) => (format!("pepay-bridge: {}", clean_lines(fault)), ExitCode::from(2)),
            Self::Failure(reason) => {
                (format!("pepay-bridge: {}", clean_lines(&chain(&**reason))), ExitCode::FAILURE)
            }
            Self::Logged(code) => return ExitCode::from(*code),
        };
        hint(&text);
        code
    }
}

/// Runs the command of `cli`, with `environment` as the last layer of the configuration.
///
/// # Errors
/// [`Error`] if the command fails.
pub fn execute(cli: Cli, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Error> {
    // The program has one TLS implementation. An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let input = Input::new(cli.config.as_deref(), environment).or_usual_file();
    match carry_out(cli.command.unwrap_or(Command::Run(run::Arguments::default())), &input) {
        Err(Error::Configuration(problems)) if input.is_empty() => Err(Error::Unconfigured(problems)),
        ended => ended,
    }
}

fn carry_out(command: Command, input: &Input) -> Result<(), Error> {
    match command {
        Command::Run(arguments) => run::run(&arguments, input),
        Command::Check(arguments) => check::check(&arguments, input),
        Command::Health(arguments) => health::health(&arguments, input),
        Command::Events(command) => command.run(input, events::events),
        Command::Deliveries(command) => command.run(input, deliveries::deliveries),
        Command::Targets(command) => command.run(input, targets::targets),
        Command::Streams(command) => command.run(input, streams::streams),
        Command::Audit(command) => command.run(input, audit::audit),
        Command::Alerts(command) => command.run(input, alerts::alerts),
        Command::Reload(arguments) => reload::reload(&arguments, input),
        Command::Backup(arguments) => backup::backup(&arguments, input),
        Command::Restore(arguments) => restore::run(&arguments, input),
        Command::Import(arguments) => import::import(&arguments, input),
        Command::Doctor(arguments) => doctor::doctor(&arguments, input),
        Command::Devnet(arguments) => devnet::devnet(arguments, input),
        Command::Demo(arguments) => demo::demo(&arguments, input),
        Command::Simulator(arguments) => simulator::simulator(arguments, input),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::CompleteNames(arguments) => names::names(&arguments, input),
        Command::Man(arguments) => man::man(&arguments),
    }
}

/// Prints `text` on standard output. A closed pipe is not an error.
fn print(text: &str) -> Result<(), Error> {
    print_bytes(text.as_bytes()).map(|_| ())
}

/// Prints `bytes` on standard output. Returns `false` if the reader has closed the pipe.
fn print_bytes(bytes: &[u8]) -> Result<bool, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::failure(format!("cannot write to standard output: {error}"))),
    }
}

/// Prints `text` on standard error, beside the output of a command.
fn hint(text: &str) {
    // If standard error fails, no other place for the report is left.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_has_its_place_in_the_table_of_the_documentation() {
        let page = include_str!("../docs/commands.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        // The words of the code spans of each first cell.
        let rows: Vec<Vec<_>> = rows
            .map(|cell| cell.split('`').skip(1).step_by(2).flat_map(str::split_whitespace).collect())
            .collect();
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            let row = rows.iter().find(|row| row.contains(&name));
            let row = row.unwrap_or_else(|| panic!("docs/commands.md has no row of `{name}`"));
            for subcommand in command.get_subcommands().map(clap::Command::get_name) {
                assert!(row.contains(&subcommand), "docs/commands.md has no `{name} {subcommand}`");
            }
        }
    }
}
