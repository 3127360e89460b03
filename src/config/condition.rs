//! `where` of a target: a table of paths and values, or one text `path=value, path=value`.

use ::config::{Value, ValueKind};

use super::layers::Table;
use super::problem::Faulty;
use super::section::{RawValue, Section, text, variable};
use crate::pepay::condition::Condition;

/// A path and the value that is asked for there.
type Term = (String, String);

const ALLOWED: &str = "allowed is a table such as `{ \"data.object.status\" = \"paid\" }`, or the text \
                       `data.object.status=paid`, with commas between several";

impl Section<'_> {
    /// A condition, if there is one. An empty value takes away what the file asks for.
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
        let terms = given.value.into_iter().filter(|(_, value)| !value.is_empty());
        let condition = Condition::new(terms)
            .map_err(|error| self.problem_of(key, &error.to_string(), given.variable))?;
        let shown = condition.iter().flat_map(Condition::terms);
        let shown = shown.map(|(path, value)| (path.to_string(), value.into())).collect();
        self.show(key, &toml::Value::Table(shown));
        Ok(condition)
    }
}

/// The terms of `value`; a path may also be written as tables in tables.
fn terms(value: Value) -> Option<Vec<Term>> {
    match value.kind {
        ValueKind::Table(table) => below("", table),
        ValueKind::String(all) => all
            .split(',')
            .filter(|term| !term.trim().is_empty())
            .map(|term| {
                let (path, value) = term.split_once('=')?;
                Some((path.trim().to_owned(), value.trim().to_owned()))
            })
            .collect(),
        _ => None,
    }
}

fn below(path: &str, table: Table) -> Option<Vec<Term>> {
    let mut terms = Vec::new();
    for (name, value) in table {
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        match value.kind {
            ValueKind::Table(table) => terms.extend(below(&path, table)?),
            _ => terms.push((path, text(value)?)),
        }
    }
    terms.sort();
    Some(terms)
}
