//! The parts of a path: a delivery's target and event, an action.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::domain::event::EventId;
use crate::domain::operator::Action;

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
