//! The key `where` of a target: a table of paths and values, or one text such as `path=value,
//! path=value`.

use std::collections::BTreeMap;

use ::config::{Value, ValueKind};

use super::layers::Table;
use super::problem::{Faulty, quoted};
use super::section::{RawValue, Section, text, variable};
use crate::pepay::condition::Condition;

/// A required value at a path.
struct Term {
    path: String,
    value: String,
    is_of_environment: bool,
}

const ALLOWED: &str = "allowed is a table such as `{ \"data.object.status\" = \"paid\" }`, or the text \
                       `data.object.status=paid`, with commas between several";

impl Section<'_> {
    /// Reads a condition, if there is one. If both layers have a path, the environment's value takes
    /// precedence. An empty value removes the path.
    pub(super) fn condition(&mut self, key: &str) -> Result<Option<Condition>, Faulty> {
        let given = match self.take(key) {
            Some(value) => {
                let variable = variable(&value);
                let Some(value) = terms(value) else {
                    return Err(self.problem_of(key, &format!("is no such table; {ALLOWED}"), variable));
                };
                RawValue { value, variable }
            }
            None => RawValue { value: Vec::new(), variable: None },
        };
        let (mut terms, mut layers) = (BTreeMap::new(), BTreeMap::new());
        for Term { path, value, is_of_environment } in given.value {
            if layers.insert(path.clone(), is_of_environment) == Some(is_of_environment) {
                let fault = format!("has the path {} twice; allowed is each path once", quoted(&path));
                return Err(self.problem_of(key, &fault, given.variable));
            }
            terms.insert(path, value);
        }
        let terms = terms.into_iter().filter(|(_, value)| !value.is_empty());
        let condition = Condition::new(terms)
            .map_err(|error| self.problem_of(key, &error.to_string(), given.variable))?;
        let shown = condition.iter().flat_map(Condition::terms);
        let shown = shown.map(|(path, value)| (path.to_string(), value.into())).collect();
        self.show(key, &toml::Value::Table(shown));
        Ok(condition)
    }
}

/// Returns the terms of `value`. A path may also be written as nested tables.
fn terms(value: Value) -> Option<Vec<Term>> {
    match value.kind {
        ValueKind::Table(table) => below("", table),
        ValueKind::String(all) => all
            .split(',')
            .filter(|term| !term.trim().is_empty())
            .map(|term| {
                let (path, value) = term.split_once('=')?;
                let (path, value) = (path.trim().to_owned(), value.trim().to_owned());
                Some(Term { path, value, is_of_environment: false })
            })
            .collect(),
        _ => None,
    }
}

fn below(path: &str, table: Table) -> Option<Vec<Term>> {
    let mut terms = Vec::new();
    for (name, value) in table {
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        if let ValueKind::Table(table) = value.kind {
            terms.extend(below(&path, table)?);
        } else {
            let is_of_environment = variable(&value).is_some();
            terms.push(Term { path, value: text(value)?, is_of_environment });
        }
    }
    // Terms of the environment come last, since they replace those of the file.
    terms.sort_by_key(|term| term.is_of_environment);
    Some(terms)
}
