//! What a path names: a delivery's target and event, an action.

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
        // Only what is no UTF-8 fails here, and nothing has such a name.
        let nothing = |_: PathRejection| Problem::not_found("there is nothing of this name");
        Path::from_request_parts(parts, state).await.map(|Path(segments)| Self(segments)).map_err(nothing)
    }
}

/// The event of this id. What is no id names no event.
pub(super) fn event_id(text: &str) -> Result<EventId, Problem> {
    text.parse().map_err(|_| no_event(text))
}

/// There is no event of this id.
pub(super) fn no_event(id: &str) -> Problem {
    Problem::not_found(format!("there is no event `{id}`"))
}

/// The action of this name.
pub(super) fn action(text: &str) -> Result<Action, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("there is no action `{text}`")))
}
