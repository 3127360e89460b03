//! The place of the configuration if the command line does not name it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names the file if `--config` does not.
const VARIABLE: &str = "PEPAY_BRIDGE_CONFIG";

/// The prefix of variables that set a key.
const PREFIX: &str = "PEPAY_BRIDGE__";

/// The default paths, in the order in which they are tried.
const USUAL: [&str; 2] = ["./pepay-bridge.toml", "/etc/pepay-bridge/pepay-bridge.toml"];

/// The advice if there is no configuration.
pub(super) const ADVICE: &str = "\
There is no configuration: neither ./pepay-bridge.toml nor /etc/pepay-bridge/pepay-bridge.toml
exists, no --config or PEPAY_BRIDGE_CONFIG names a file, and no PEPAY_BRIDGE__ variable sets a key.

  pepay-bridge --config FILE    runs the bridge with that file
  pepay-bridge demo             shows the whole flow on this machine, without an account
  pepay-bridge --help           lists the commands, and how to configure";

/// Returns the file that the command line names, or else the first default file that exists. Returns
/// `None` if the environment names the file, or if there is none.
pub(super) fn file(named: Option<PathBuf>, environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let is_named = environment.iter().any(|(name, value)| name == VARIABLE && !value.is_empty());
    let usual = || USUAL.into_iter().map(Path::new).find(|path| is_there(path)).map(Path::to_owned);
    named.or_else(|| if is_named { None } else { usual() })
}

/// Returns whether the file exists. A file whose existence is unknown counts as existing, so that reading
/// it reports the error.
fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// Returns whether there is no configuration: no file, and no variable that names one or sets a key.
pub(super) fn is_missing(file: Option<&Path>, environment: &[(OsString, OsString)]) -> bool {
    let sets = |(name, value): &(OsString, OsString)| {
        let name = name.to_string_lossy().to_ascii_uppercase();
        name.starts_with(PREFIX) || (name == VARIABLE && !value.is_empty())
    };
    file.is_none() && !environment.iter().any(sets)
}
