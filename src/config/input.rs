//! The input of the configuration: a file, and the environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The option of the command line that names the file.
const FILE_OPTION: &str = "--config";
/// The variable that names the file if `--config` does not.
const FILE_VARIABLE: &str = "PEPAY_BRIDGE_CONFIG";
/// The prefix of variables that set a key, in lower case.
pub(super) const PREFIX: &str = "pepay_bridge__";
/// The variable that sets `log.filter`, as is usual for Rust programs. It takes precedence over all
/// layers.
pub(super) const FILTER_VARIABLE: &str = "RUST_LOG";
/// The default paths, in the order in which they are tried.
const USUAL: [&str; 2] = ["./pepay-bridge.toml", "/etc/pepay-bridge/pepay-bridge.toml"];

/// The file and the environment that the configuration is read from. It has no `Debug`, since variables
/// may hold secrets.
#[derive(Clone)]
pub struct Input {
    /// The file, and the option or the variable that names it; a default path names itself.
    pub(super) file: Option<(&'static str, PathBuf)>,
    /// The other variables.
    pub(super) environment: BTreeMap<OsString, OsString>,
}

impl Input {
    /// Creates the input of the file at `path`, or of the file that `environment` names.
    pub fn new(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Self {
        let variables = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        let mut environment: BTreeMap<OsString, OsString> = variables.collect();
        let variable = environment.remove(OsStr::new(FILE_VARIABLE)).filter(|path| !path.is_empty());
        let named = path.map(|path| (FILE_OPTION, path.to_owned()));
        Self { file: named.or(variable.map(|path| (FILE_VARIABLE, path.into()))), environment }
    }

    /// Adds the first default file that exists, if no file is named. A file whose existence is unknown
    /// counts as existing, so that reading it reports the error.
    #[must_use]
    pub fn or_usual_file(mut self) -> Self {
        self.file = self.file.or_else(|| {
            let usual = USUAL.into_iter().find(|path| Path::new(path).try_exists().unwrap_or(true))?;
            Some((usual, usual.into()))
        });
        self
    }

    /// Returns the file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|(_, path)| &**path)
    }

    /// Returns the filter of the log that the environment sets.
    pub fn log_filter(&self) -> Option<&OsStr> {
        self.environment.get(OsStr::new(FILTER_VARIABLE)).map(|filter| &**filter)
    }

    /// Returns whether there is no configuration: no file, and no variable that sets a key.
    pub fn is_empty(&self) -> bool {
        let sets = |name: &OsString| name.to_string_lossy().to_lowercase().starts_with(PREFIX);
        self.file.is_none() && !self.environment.keys().any(sets)
    }

    /// Returns the input that consists of the variable `name` alone, in any case of its letters.
    pub(super) fn only(&self, name: &str) -> Self {
        let is_it = |(other, _): &(&OsString, &OsString)| other.eq_ignore_ascii_case(name);
        let environment = self.environment.iter().filter(is_it);
        Self {
            file: None,
            environment: environment.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }
}
