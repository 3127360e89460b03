//! Where the configuration is, if the command line does not say.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Names the file where no `--config` does.
const VARIABLE: &str = "PEPAY_BRIDGE_CONFIG";

/// Begins every variable that sets a key.
const PREFIX: &str = "PEPAY_BRIDGE__";

/// Where a file is looked for that nothing names, the first one first.
const USUAL: [&str; 2] = ["./pepay-bridge.toml", "/etc/pepay-bridge/pepay-bridge.toml"];

/// What to do where there is no configuration at all.
pub(super) const ADVICE: &str = "\
There is no configuration: neither ./pepay-bridge.toml nor /etc/pepay-bridge/pepay-bridge.toml
exists, no --config or PEPAY_BRIDGE_CONFIG names a file, and no PEPAY_BRIDGE__ variable sets a key.

  pepay-bridge --config FILE    runs the bridge with that file
  pepay-bridge demo             shows the whole flow on this machine, without an account
  pepay-bridge --help           lists the commands, and how to configure";

/// The file to read, unless the environment names one or there is none.
pub(super) fn file(named: Option<PathBuf>, environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let is_named = environment.iter().any(|(name, value)| name == VARIABLE && !value.is_empty());
    let usual = || USUAL.into_iter().map(Path::new).find(|path| is_there(path)).map(Path::to_owned);
    named.or_else(|| if is_named { None } else { usual() })
}

/// A file that cannot be looked at is there: reading it says why.
fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// Whether nothing sets a key: neither the file nor a variable.
pub(super) fn is_missing(file: Option<&Path>, environment: &[(OsString, OsString)]) -> bool {
    let sets = |(name, value): &(OsString, OsString)| {
        let name = name.to_string_lossy().to_ascii_uppercase();
        name.starts_with(PREFIX) || (name == VARIABLE && !value.is_empty())
    };
    file.is_none() && !environment.iter().any(sets)
}
