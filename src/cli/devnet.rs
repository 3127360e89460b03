//! `pepay-bridge devnet`.

mod follow;
mod simulate;

use clap::Subcommand;

use super::Error;
use crate::config::Input;

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
pub(super) fn devnet(arguments: Arguments, input: &Input) -> Result<(), Error> {
    match arguments.command {
        Command::Simulate(arguments) => simulate::simulate(arguments, input),
    }
}
