//! Positions in Pepay's order, and their comparison.

use std::cmp::Ordering;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId, Received};
use crate::store::types::Position;

/// Returns the position of `event`. A time in the future is replaced by that of arrival, since no
/// later event could pass it.
pub(super) fn position_of(event: &Event, received_at: UnixMillis) -> Position {
    Position { event: Some(event.id.clone()), created: event.created.min(received_at.seconds()) }
}

/// Returns the position of the event of this id, with the time that the id shows.
pub(super) fn position_on(event: &EventId) -> Position {
    Position { event: Some(event.clone()), created: event.creation_time().unwrap_or(0) }
}

/// Returns the position of the stream after these frames, read in this order; `None` if it does not
/// move. A repeated older frame does not take it back. That would do no harm, since everything up
/// to both is stored, but the next gap would begin at the older one.
pub(super) fn cursor_after(position: Option<&Position>, frames: &[Received]) -> Option<Position> {
    latest(position, frames.iter().map(|frame| position_of(&frame.event, frame.received_at)))
}

/// Like [`cursor_after`], for events of a page that arrived at `received_at`.
pub(super) fn position_after(
    position: Option<&Position>,
    events: &[Event],
    received_at: UnixMillis,
) -> Option<Position> {
    latest(position, events.iter().map(|event| position_of(event, received_at)))
}

fn latest(position: Option<&Position>, places: impl Iterator<Item = Position>) -> Option<Position> {
    let mut moved: Option<Position> = None;
    for next in places {
        if moved.as_ref().or(position).is_none_or(|current| is_past(&next, current)) {
            moved = Some(next);
        }
    }
    moved
}

pub(super) fn is_past(next: &Position, current: &Position) -> bool {
    let order = |position: &Position| position.event.as_ref().and_then(EventId::creation_order);
    match next.created.cmp(&current.created) {
        _ if current.event.is_none() => true,
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => match (order(next), order(current)) {
            (Some(next), Some(current)) => next >= current,
            _ => true,
        },
    }
}
