//! The program: parses the command line, calls one command, and turns its
//! error into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use pepay_bridge::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::execute(Cli::parse(), std::env::vars_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
