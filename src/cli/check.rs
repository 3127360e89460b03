//! `pepay-bridge check`.

use super::{Error, removed, runtime};
use crate::config::{self, Input};

/// Validate the configuration and print the effective one, without its secrets
///
/// What is allowed and probably not meant is a warning on standard error, and so is what waits
/// in the store for a target that is not configured any more. Of a store on a server, a running
/// bridge is asked for that.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Exit 1 if there is a warning
    #[arg(long)]
    strict: bool,
}

/// Prints the effective configuration, and warnings on standard error.
pub(super) fn check(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let loaded = config::load(input)?;
    super::print(&loaded.effective)?;
    for warning in &loaded.warnings {
        super::hint(&format!("warning: {warning}"));
    }
    let removed = runtime()?.block_on(removed::warnings(&loaded.settings));
    for warning in &removed {
        super::hint(&format!("warning: {warning}; {}", removed::ADVICE));
    }
    match loaded.warnings.len() + removed.len() {
        1.. if arguments.strict => Err(Error::failure("there are warnings, and --strict takes none")),
        _ => Ok(()),
    }
}
