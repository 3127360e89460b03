//! `pepay-bridge check`.

use std::ffi::OsString;
use std::path::Path;

use super::Error;
use crate::config;

/// Validate the configuration and print the effective one, without its secrets
///
/// What is allowed and probably not meant is a warning on standard error.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Exit 1 if there is a warning
    #[arg(long)]
    strict: bool,
}

/// Prints the effective configuration, and warnings on standard error.
pub(super) fn check(
    arguments: &Arguments,
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    let loaded = config::load(config, environment)?;
    super::print(&loaded.effective)?;
    for warning in &loaded.warnings {
        super::hint(&format!("warning: {warning}"));
    }
    match loaded.warnings.len() {
        1.. if arguments.strict => Err(Error::failure("there are warnings, and --strict takes none")),
        _ => Ok(()),
    }
}
