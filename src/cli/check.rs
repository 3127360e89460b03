//! `pepay-bridge check`.

use std::ffi::OsString;
use std::path::Path;

use super::Error;
use crate::config;

/// Prints the effective configuration, and warnings on standard error.
pub(super) fn check(
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    let loaded = config::load(config, environment)?;
    for warning in &loaded.warnings {
        super::hint(&format!("warning: {warning}"));
    }
    super::print(&loaded.effective)
}
