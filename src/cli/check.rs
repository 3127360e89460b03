//! `pepay-bridge check`.

use std::ffi::OsString;
use std::path::Path;

use super::Error;
use crate::config;

/// Prints the effective configuration.
pub(super) fn check(
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    super::print(&config::load(config, environment)?.effective)
}
