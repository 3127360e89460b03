//! The layers of the configuration: the file, and the environment above it. The defaults are beside the
//! keys, in the files of the sections.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use ::config::{ConfigError, File, FileFormat, Source as _, Value, ValueKind};

use super::access;
use super::files::{Mounts, NamedFile};
use super::input::{FILTER_VARIABLE, Input, PREFIX};
use super::problem::{Faulty, Problems, Warning, escaped, quoted};
use crate::pepay::account::Proxy;
use crate::telemetry::traces;

/// The prefix of the bridge's variables, in lower case.
const OWN: &str = "pepay_bridge_";
/// The largest size of a configuration file, in bytes. A larger file is the wrong file.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
/// The separator of the levels of a key.
const SEPARATOR: &str = "__";

/// A level of the configuration: the given values by name.
pub(super) type Table = HashMap<String, Value>;

/// The content of the file and of the environment.
pub(super) struct Layers {
    /// The given keys.
    pub(super) table: Table,
    /// The proxy that the environment names for every program.
    pub(super) proxy: Proxy,
    /// The variable that asks for traces, if one does.
    pub(super) traces: Option<&'static str>,
    /// The settings that are valid and probably a mistake.
    pub(super) warnings: Vec<Warning>,
    /// The configuration file, if there is one.
    pub(super) file: Option<NamedFile>,
    /// The mount points of this process.
    pub(super) mounts: Mounts,
}

/// Reads the file and merges the environment over it.
///
/// # Errors
/// [`Faulty`] if the file cannot be read or parsed. Otherwise every key of the file would be reported as
/// missing. Other faults go to `problems`.
pub(super) fn read(Input { file, environment }: &Input, problems: &mut Problems) -> Result<Layers, Faulty> {
    let proxy = proxy(environment, problems);
    let traces = traces::asked(|name| {
        Some(environment.get(OsStr::new(name))?.to_str()?.to_owned()).filter(|value| !value.is_empty())
    });
    let variables = variables(environment, problems);
    let (mut table, mut warnings, mut named) = (Table::new(), Vec::new(), None);
    let mounts = Mounts::read();
    if let Some((origin, path)) = file {
        let text;
        (table, text) = content(origin, path, problems)?;
        let key = escaped(&path.to_string_lossy());
        named = Some(NamedFile::new(key, path, text.as_bytes(), &mounts));
        warnings.extend(access::writable(path));
    }
    lay_over(&mut table, variables);
    Ok(Layers { table, proxy, traces, warnings, file: named, mounts })
}

/// Merges `upper` over `lower`, level by level. Names are used unchanged. The builder of the `config`
/// crate reads a quoted name at the top level of a file as a path: `"a.b"` as a section, and `"a[9]"` as
/// a list of ten items. It has no limit for such an index.
fn lay_over(lower: &mut Table, upper: Table) {
    for (name, mut value) in upper {
        let below = lower.get_mut(&name).and_then(table_mut);
        if let (Some(below), Some(table)) = (below, table_mut(&mut value)) {
            lay_over(below, std::mem::take(table));
        } else {
            lower.insert(name, value);
        }
    }
}

/// Returns the proxy of `environment`, from the variables that other programs use too.
fn proxy(environment: &BTreeMap<OsString, OsString>, problems: &mut Problems) -> Proxy {
    let mut variable = |names: [&str; 2]| {
        let set = |name: &&str| environment.get(OsStr::new(name)).is_some_and(|value| !value.is_empty());
        let name = names.into_iter().find(set)?;
        let value = environment.get(OsStr::new(name)).and_then(|value| value.to_str());
        if value.is_none() {
            problems.push(name, "is not UTF-8");
        }
        value.map(str::trim).filter(|value| !value.is_empty())
    };
    let (https, no) =
        (variable(["HTTPS_PROXY", "https_proxy"]), variable(["NO_PROXY", "no_proxy"]).unwrap_or_default());
    match https {
        Some(https) => Proxy::Environment { https: https.into(), no: no.to_owned() },
        None => Proxy::Never,
    }
}

/// Returns the values and the text of the file at `path`.
fn content(origin: &str, path: &Path, problems: &mut Problems) -> Result<(Table, String), Faulty> {
    let name = quoted(&path.to_string_lossy());
    let text = text_of(path).map_err(|error| {
        problems.push(origin, format!("cannot read {name}: {}", access::explained(path, &error)))
    })?;
    if text.len() as u64 > LARGEST_FILE {
        let fault = format!("{name} is larger than {} MiB; allowed is a TOML file", LARGEST_FILE >> 20);
        return Err(problems.push(origin, fault));
    }
    match File::from_str(&text, FileFormat::Toml).collect() {
        Ok(table) => Ok((lower_header_names(table), text)),
        Err(error) => Err(problems.push(path.to_string_lossy(), syntax_error(&text, &error))),
    }
}

/// Returns the text at `path`, cut off after [`LARGEST_FILE`] and one more byte.
fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Returns the position and the reason of the syntax error in `text`. The line is not repeated, since it
/// may contain a secret.
fn syntax_error(text: &str, error: &ConfigError) -> String {
    let cause = match error {
        ConfigError::FileParse { cause, .. } => cause.downcast_ref::<toml::de::Error>(),
        _ => None,
    };
    let Some(cause) = cause else {
        return "is not valid TOML, or a number in it is out of range".into();
    };
    let message = cause.message().trim().replace('\n', ", ");
    match cause.span().and_then(|span| text.get(..span.start)) {
        Some(before) => {
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            format!("line {line}, column {column}: {message}")
        }
        None => message,
    }
}

/// Converts header names to lower case, so that the environment can override the `Authorization` of a
/// file.
fn lower_header_names(mut table: Table) -> Table {
    let targets = table.get_mut("targets").and_then(table_mut);
    for target in targets.into_iter().flat_map(HashMap::values_mut) {
        if let Some(headers) =
            table_mut(target).and_then(|target| target.get_mut("headers")).and_then(table_mut)
        {
            let mut given: Vec<_> = headers.drain().collect();
            // In ASCII lower case sorts last, and the order is reversed. So a name in lower case comes
            // first.
            given.sort_by(|(a, _), (b, _)| b.cmp(a));
            for (name, value) in given {
                let lower = name.to_ascii_lowercase();
                // A second spelling of a name stays unchanged. It is refused later as a repeat.
                let name = if headers.contains_key(&lower) { name } else { lower };
                headers.insert(name, value);
            }
        }
    }
    table
}

fn table_mut(value: &mut Value) -> Option<&mut Table> {
    match &mut value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

/// Returns the keys that the environment sets.
fn variables(environment: &BTreeMap<OsString, OsString>, problems: &mut Problems) -> Table {
    let (mut table, mut filter) = (Table::new(), None);
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        let lower = name.to_lowercase();
        let key = lower.strip_prefix(PREFIX);
        if name == FILTER_VARIABLE || key.is_some() {
            let Some(value) = value.to_str() else {
                problems.push(name, "is not UTF-8");
                continue;
            };
            let value = Value::new(Some(&name), value);
            match key {
                None => filter = Some(value).filter(|value| !is_empty(value)),
                Some(key) => {
                    if let Err(fault) = set(&mut table, key, value) {
                        problems.push(name, fault);
                    }
                }
            }
        } else if lower.starts_with(OWN) && !is_of_others(&name, &value.to_string_lossy()) {
            problems
                .push(name, "names nothing; allowed are PEPAY_BRIDGE__SECTION__KEY and PEPAY_BRIDGE_CONFIG");
        }
    }
    if let Some(filter) = filter {
        let log = table.entry("log".into()).or_insert_with(|| Table::new().into());
        if let Some(log) = table_mut(log) {
            log.insert("filter".into(), filter);
        }
    }
    table
}

/// Returns whether `name` belongs to the container image, the build or the benchmarks, or is a variable
/// that Kubernetes sets in every pod for a service whose name begins with `pepay-bridge`.
fn is_of_others(name: &str, value: &str) -> bool {
    const OURS: [&str; 3] = ["PEPAY_BRIDGE_IMAGE", "PEPAY_BRIDGE_COMMIT", "PEPAY_BRIDGE_BINARY"];
    let protocols = ["TCP", "UDP", "SCTP"];
    let of_service = name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let of_port = name.ends_with("_PORT") && value.contains("://")
        || name.contains("_PORT_") && name.split('_').any(|part| protocols.contains(&part));
    OURS.contains(&name) || of_service || of_port
}

/// Sets `value` at `key`, a name from the environment with separators between its levels.
fn set(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let levels: Vec<&str> = key.split(SEPARATOR).collect();
    let (Some((last, parents)), false) = (levels.split_last(), levels.contains(&"")) else {
        return Err("names no key; allowed is PEPAY_BRIDGE__SECTION__KEY".into());
    };
    let mut place = table;
    for parent in parents {
        let next = place.entry((*parent).to_owned()).or_insert_with(|| Table::new().into());
        place = table_mut(next).ok_or("sets a key below one that another variable gives a value")?;
    }
    // A shell cannot export a variable with a dash in its name, and most header names have one.
    let last = match parents {
        ["targets", _, "headers"] => last.replace('_', "-"),
        _ => (*last).to_owned(),
    };
    match place.insert(last, value) {
        None => Ok(()),
        Some(_) => Err("sets a key that another variable sets too".into()),
    }
}

/// Returns whether `value` is an empty text, which means that the key is not set.
pub(super) fn is_empty(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::String(text) if text.is_empty()) || value.kind == ValueKind::Nil
}
