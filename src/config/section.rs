//! The reader of one section, key by key.
//!
//! A derived deserialiser stops at the first fault and does not know the layer of a value. Operators need
//! every fault at once. So each key is read by one line of code, with its default and its form. Each read
//! also records problems, notes the key as known, and writes a line of the effective configuration. So
//! these three always agree with the settings that are used.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Value, ValueKind};

use super::access;
use super::files::{self, Mounts, NamedFile};
use super::form::{self, Form, show_duration};
use super::layers::{Table, is_empty};
use super::problem::{Faulty, Problem, Problems, Warning, quoted};
use crate::pepay::account::Proxy;

/// The results of reading all sections, other than the settings.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) problems: Problems,
    pub(super) warnings: Vec<Warning>,
    /// The files that keys name.
    pub(super) files: Vec<NamedFile>,
    /// The mount points of this process.
    pub(super) mounts: Mounts,
    /// The lines of the effective configuration, TOML.
    pub(super) effective: Vec<String>,
    /// The full path of every key that was read.
    pub(super) known: BTreeSet<String>,
    /// The proxy that the environment names for every program.
    pub(super) proxy: Proxy,
}

/// The given value of a key.
pub(super) struct RawValue<T> {
    pub(super) value: T,
    /// The environment variable that set the value; `None` for the file.
    pub(super) variable: Option<String>,
}

/// A section that is being read.
pub(super) struct Section<'r> {
    reading: &'r mut Reading,
    path: String,
    given: Table,
    /// The keys whose value is inherited from another section. Faults are recorded in that section.
    inherited: BTreeSet<&'static str>,
    asked: Vec<String>,
}

impl<'r> Section<'r> {
    /// Creates the root, whose keys are the sections.
    pub(super) fn root(given: Table, reading: &'r mut Reading) -> Self {
        Self { reading, path: String::new(), given, inherited: BTreeSet::new(), asked: Vec::new() }
    }

    /// Returns the given values of the section `name`, which is not read yet.
    pub(super) fn given(&self, name: &str) -> Table {
        match self.given.get(name).map(|given| &given.kind) {
            Some(ValueKind::Table(table)) => table.clone(),
            _ => Table::new(),
        }
    }

    /// Returns the section `name`. It is empty if it is not given.
    pub(super) fn section(&mut self, name: &str) -> Section<'_> {
        self.asked.push(name.to_owned());
        let given = self.given.remove(name);
        self.open(name, given)
    }

    /// Returns whether there is at least one named section below `name`.
    pub(super) fn has_any(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|given| match &given.kind {
            ValueKind::Table(table) => !table.is_empty(),
            _ => true,
        })
    }

    /// Reads each of the named sections below `name`, sorted by name.
    ///
    /// # Errors
    /// [`Faulty`] if one of them is faulty.
    pub(super) fn sections<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&str, Section<'_>) -> Result<T, Faulty>,
    ) -> Result<Vec<T>, Faulty> {
        self.asked.push(name.to_owned());
        let Some(given) = self.given.remove(name) else { return Ok(Vec::new()) };
        let ValueKind::Table(given) = given.kind else {
            let path = self.path_of(name);
            self.problem(name, &format!("is no table; allowed are sections such as `[{path}.NAME]`"));
            return Err(Faulty);
        };
        let mut given: Vec<_> = given.into_iter().collect();
        given.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut all = Vec::new();
        for (own_name, given) in given {
            let path = self.path_of(&format!("{name}.{}", own_name.escape_debug()));
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
            if own_name.len() > 64 || own_name.is_empty() || !own_name.chars().all(allowed) {
                let fault = "is no name; allowed are 1 to 64 of `a` to `z`, `0` to `9`, `_` and `-`";
                self.problem(name, &format!("{} {fault}", quoted(&own_name)));
            }
            all.push(read(&own_name, self.open(&path, Some(given))));
        }
        all.into_iter().collect()
    }

    fn open(&mut self, path: &str, given: Option<Value>) -> Section<'_> {
        let given = match given.map(|given| given.kind) {
            Some(ValueKind::Table(table)) => table,
            None => Table::new(),
            Some(_) => {
                self.problem(path, &format!("is no table; allowed is a section `[{path}]`"));
                Table::new()
            }
        };
        let effective = &mut self.reading.effective;
        if !effective.is_empty() {
            effective.push(String::new());
        }
        effective.push(format!("[{path}]"));
        let inherited = BTreeSet::new();
        Section { reading: self.reading, path: path.to_owned(), given, inherited, asked: Vec::new() }
    }

    /// Inherits each of `keys` from `other`, unless this section has one of the keys beside it.
    pub(super) fn inherit(&mut self, other: &Table, keys: &[(&'static str, &[&str])]) {
        let is_given = |key: &&str| self.given.get(*key).is_some_and(|value| !is_empty(value));
        let open = keys.iter().filter(|(_, beside)| !beside.iter().any(is_given));
        let open: Vec<_> = open.map(|(key, _)| *key).collect();
        let taken = open.iter().filter_map(|&key| Some((key.to_owned(), other.get(key)?.clone())));
        self.given.extend(taken);
        self.inherited.extend(open);
    }

    /// Returns the proxy that the environment names for every program.
    pub(super) fn environments_proxy(&self) -> Proxy {
        self.reading.proxy.clone()
    }

    /// Reads a key that has a default.
    pub(super) fn value<T>(&mut self, key: &str, default: &str, form: &Form<T>) -> Result<T, Faulty> {
        let given = self.take_text(key)?;
        let given = given.unwrap_or_else(|| RawValue { value: default.to_owned(), variable: None });
        self.read(key, given, form)
    }

    /// Reads an optional key.
    pub(super) fn optional<T>(&mut self, key: &str, form: &Form<T>) -> Result<Option<T>, Faulty> {
        let Some(given) = self.take_text(key)? else {
            self.show(key, &"".into());
            return Ok(None);
        };
        self.read(key, given, form).map(Some)
    }

    /// Reads an optional key that names a file.
    pub(super) fn optional_file(&mut self, key: &str) -> Result<Option<PathBuf>, Faulty> {
        let path = self.optional(key, &form::file())?;
        // A file that cannot be read is reported by the code that uses it.
        if let Some(path) = &path
            && let Ok(content) = files::content(path)
        {
            self.note_file(key, path, &content);
        }
        Ok(path)
    }

    /// Notes that `key` names the file at `path`, whose content is `content`.
    pub(super) fn note_file(&mut self, key: &str, path: &Path, content: &[u8]) {
        if !self.inherited.contains(key) {
            let file = NamedFile::new(self.path_of(key), path, content, &self.reading.mounts);
            self.reading.files.push(file);
        }
    }

    /// Reads a required key. The message about a missing key has `allowed`.
    pub(super) fn required<T>(&mut self, key: &str, allowed: &str, form: &Form<T>) -> Result<T, Faulty> {
        match self.take_text(key)? {
            Some(given) => self.read(key, given, form),
            None => Err(self.problem(key, &format!("is missing and has no default; allowed is {allowed}"))),
        }
    }

    /// Reads a list, or one text with commas between the items.
    pub(super) fn list<T>(&mut self, key: &str, default: &[&str], form: &Form<T>) -> Result<Vec<T>, Faulty> {
        let mut given = self.take_list(key)?.unwrap_or_else(|| RawValue {
            value: default.iter().map(|&item| item.to_owned()).collect(),
            variable: None,
        });
        given.value.retain(|item| !item.is_empty());
        let mut values = Vec::new();
        for item in &given.value {
            values
                .push(form.read(item).map_err(|fault| self.problem_of(key, &fault, given.variable.clone())));
        }
        self.show(key, &toml::Value::Array(given.value.iter().map(|item| form.show(item)).collect()));
        values.into_iter().collect()
    }

    fn read<T>(&mut self, key: &str, given: RawValue<String>, form: &Form<T>) -> Result<T, Faulty> {
        let value = form.read(&given.value).map_err(|fault| self.problem_of(key, &fault, given.variable))?;
        self.show(key, &form.show(&given.value));
        Ok(value)
    }

    /// Ends the section. A given key that was not read is recorded as unknown.
    pub(super) fn finish(mut self) {
        let given = std::mem::take(&mut self.given);
        let mut unknown: Vec<_> = given.iter().collect();
        unknown.sort_by_key(|(key, _)| *key);
        for (key, value) in unknown {
            let near = self.asked.iter().filter(|asked| strsim::jaro_winkler(key, asked) > 0.8);
            let nearest =
                near.max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
            let hint = match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("allowed are `{}`", self.asked.join("`, `")),
            };
            self.problem_of(
                &key.escape_debug().to_string(),
                &format!("is no known key; {hint}"),
                variable(value),
            );
        }
    }

    /// Records a problem if the first of two valid durations is longer than the second.
    pub(super) fn at_most(
        &mut self,
        (key, value): (&str, Result<Duration, Faulty>),
        (limit_key, limit): (&str, Result<Duration, Faulty>),
    ) {
        if let (Ok(value), Ok(limit)) = (value, limit)
            && value > limit
        {
            let (value, limit) = (show_duration(value), show_duration(limit));
            let fault =
                format!("`{value}` is too long; allowed is at most `{limit_key}`, which is `{limit}`");
            self.problem(key, &fault);
        }
    }

    /// Records a problem of `key`.
    pub(super) fn problem(&mut self, key: &str, message: &str) -> Faulty {
        self.problem_of(key, message, None)
    }

    /// Records a problem of `key`, which `variable` has set.
    pub(super) fn problem_of(&mut self, key: &str, message: &str, variable: Option<String>) -> Faulty {
        if self.inherited.contains(key) {
            return Faulty;
        }
        let (key, message) = (self.path_of(key), message.to_owned());
        self.reading.problems.record(Problem { key, message, variable })
    }

    /// Records a warning about `key`. For an inherited key the other section records it.
    pub(super) fn warn(&mut self, key: &str, found: impl Into<String>, advice: &str) {
        if !self.inherited.contains(key) {
            let (key, found, advice) = (self.path_of(key), found.into(), advice.to_owned());
            self.reading.warnings.push(Warning { key, found, advice });
        }
    }

    /// Records a warning if other users may list the folder of the secret's file at `path`, or replace
    /// files in it. A folder has one warning.
    pub(super) fn warn_of_folder(&mut self, key: &str, path: &Path) {
        let Some((found, remedy)) = access::open_folder(path) else { return };
        if self.reading.warnings.iter().all(|warning| warning.found != found) {
            self.warn(key, found, &format!("take that permission away ({remedy})"));
        }
    }

    /// Writes a line of the effective configuration.
    pub(super) fn show(&mut self, key: &str, value: &toml::Value) {
        self.reading.effective.push(format!("{key} = {value}"));
    }

    /// Takes the given value of `key`. An empty text counts as not given.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.asked.push(key.to_owned());
        self.reading.known.insert(self.path_of(key));
        self.given.remove(key).filter(|value| !is_empty(value))
    }

    /// Takes the given value of `key` as text.
    pub(super) fn take_text(&mut self, key: &str) -> Result<Option<RawValue<String>>, Faulty> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let variable = variable(&value);
        match text(value) {
            Some(value) => Ok(Some(RawValue { value, variable })),
            None => Err(self.problem_of(key, "is a list or a table; allowed is a single value", variable)),
        }
    }

    /// Takes the given value of `key` as a list of trimmed texts. Some of them may be empty.
    pub(super) fn take_list(&mut self, key: &str) -> Result<Option<RawValue<Vec<String>>>, Faulty> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let variable = variable(&value);
        let items: Option<Vec<String>> = match value.kind {
            ValueKind::Array(items) => items.into_iter().map(text).collect(),
            // A comma may also end the list.
            kind => text(Value::new(None, kind)).map(|all| {
                all.trim_end().strip_suffix(',').unwrap_or(&all).split(',').map(str::to_owned).collect()
            }),
        };
        let Some(items) = items else {
            let fault = "is no list of single values; allowed is a list, or one text separated by commas";
            return Err(self.problem_of(key, fault, variable));
        };
        let items = items.iter().map(|item| item.trim().to_owned());
        Ok(Some(RawValue { value: items.collect(), variable }))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Returns the environment variable that set `value`; `None` for the file.
pub(super) fn variable(value: &Value) -> Option<String> {
    match &value.kind {
        // A table has no order, so the first variable by name is used.
        ValueKind::Table(table) => table.values().filter_map(variable).min(),
        _ => value.origin().map(str::to_owned),
    }
}

/// Returns a single value as text; `None` for a list or a table.
pub(super) fn text(value: Value) -> Option<String> {
    match value.kind {
        ValueKind::String(text) => Some(text),
        ValueKind::Boolean(value) => Some(value.to_string()),
        ValueKind::I64(value) => Some(value.to_string()),
        ValueKind::Float(value) => Some(value.to_string()),
        _ => None,
    }
}
