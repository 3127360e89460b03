//! `pepay-bridge devnet`.

mod follow;
mod simulate;

use std::ffi::OsString;
use std::path::Path;

use clap::Subcommand;

use super::Error;

/// Try the whole way from Pepay to your services on devnet
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Simulate(simulate::Arguments),
}

/// Runs the subcommand.
pub(super) fn devnet(
    arguments: Arguments,
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    match arguments.command {
        Command::Simulate(arguments) => simulate::simulate(arguments, config, environment),
    }
}
