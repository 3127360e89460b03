//! `pepay-bridge completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Error};

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script that completes this command line.
pub(super) fn completions(arguments: &Arguments) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), super::NAME, &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if arguments.shell == Shell::Bash {
        // clap_complete 4.6 has two spellings for the dash of a program's name, so
        // that what a command takes would never be found.
        script = script.replace("pepay__subcmd__bridge", "pepay__bridge");
    }
    super::print(&script)
}
