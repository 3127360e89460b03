//! The named values of a request, in its query or in a member of its body, and the parts of its path.
//! Every name has to be known and every value right; one answer lists all faults.

use std::convert::Infallible;
use std::fmt::Display;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::problem::{Faults, Problem};
use crate::domain::event::EventId;
use crate::domain::operator::Action;

/// Named values that have not been read yet.
#[derive(Debug)]
pub(super) struct Params {
    values: Vec<(String, String)>,
    /// The prefix of each name in faults, such as `filter.`.
    prefix: &'static str,
    /// The names that have been read.
    known: Vec<&'static str>,
    faults: Faults,
}

impl Params {
    /// Parses the parameters of a query.
    pub(super) fn query(query: &str) -> Self {
        let values = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { values, prefix: "", known: Vec::new(), faults: Faults::default() }
    }

    /// Takes the members of an object, each of which has to be text.
    pub(super) fn object(members: Map<String, Value>, prefix: &'static str) -> Self {
        let (mut values, mut faults) = (Vec::new(), Faults::default());
        for (name, value) in members {
            match value {
                Value::String(text) => values.push((name, text)),
                _ => faults.note(format!("{prefix}{name}"), "is not text"),
            }
        }
        Self { values, prefix, known: Vec::new(), faults }
    }

    /// Returns the value of `name`, if it is given and `parse` accepts it. A name that is given twice
    /// is a fault, which is reported at the end.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.known.push(name);
        let first = self.values.iter().position(|(given, _)| given == name)?;
        let (_, text) = self.values.remove(first);
        let wrong =
            |error| self.faults.note(format!("{}{name}", self.prefix), format!("= `{text}`: {error}"));
        parse(&text).map_err(wrong).ok()
    }

    /// Returns the value of `name`, which has to be one of `allowed`.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        allowed: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.parsed(name, |text| Ok::<_, Infallible>(text.to_owned()))?;
        let found = allowed.iter().copied().find(|value| word(*value) == text);
        if found.is_none() {
            let name = format!("{}{name}", self.prefix);
            self.faults.note_allowed(
                name,
                format!("= `{text}` is none of these"),
                allowed.iter().map(|value| word(*value)),
            );
        }
        found
    }

    /// Refuses every unknown name and every wrong value.
    pub(super) fn finish(self) -> Result<(), Problem> {
        self.faults().check()
    }

    /// Returns all faults.
    pub(super) fn faults(mut self) -> Faults {
        for (name, _) in self.values {
            let repeated = self.known.iter().any(|known| *known == name);
            let reason = if repeated { "is given more than once" } else { "is not known here" };
            let name = format!("{}{name}", self.prefix);
            self.faults.note_allowed(name, reason, self.known.iter().filter(|_| !repeated));
        }
        self.faults
    }
}

/// The query of a request.
pub(super) struct Query(pub(super) Params);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Params::query(parts.uri.query().unwrap_or_default())))
    }
}

/// An empty query, for calls without parameters.
pub(super) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Params::query(parts.uri.query().unwrap_or_default()).finish().map(|()| Self)
    }
}

/// The named parts of a path, percent-decoded.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // It fails only for invalid UTF-8, which is in no name.
        let nothing = |_: PathRejection| Problem::not_found("there is nothing of this name");
        Path::from_request_parts(parts, state).await.map(|Path(segments)| Self(segments)).map_err(nothing)
    }
}

/// Parses an event id. A text that is not an id names no event.
pub(super) fn event_id(text: &str) -> Result<EventId, Problem> {
    text.parse().map_err(|_| no_event(text))
}

/// Returns the problem that there is no event of this id.
pub(super) fn no_event(id: &str) -> Problem {
    Problem::not_found(format!("there is no event `{id}`"))
}

/// Parses the name of an action.
pub(super) fn action(text: &str) -> Result<Action, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("there is no action `{text}`")))
}
