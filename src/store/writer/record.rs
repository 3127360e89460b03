//! Storing events with their deliveries, and moving a stream's cursor.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::census::Census;
use super::outlets::Outlets;
use super::{order, sighting};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Ordering, State};
use crate::domain::event::{Digest, Environment, EventId, Received};
use crate::store::lane::{lane, rank};
use crate::store::types::{Batch, CursorMove, Recorded};

/// An event as it was stored, or found.
pub(super) struct Written {
    pub(super) recorded: Recorded,
    /// Its sequence, if it is new.
    pub(super) sequence: i64,
    /// The outlets it goes to, by index, each with its lane there.
    pub(super) outlets: Vec<(usize, Option<i64>)>,
    /// How far its source was behind the first, if it came by this one for the first time.
    pub(super) lag: Option<Duration>,
    /// Whether it is a conflict that was not known.
    pub(super) news: bool,
}

/// Stores the events of `batch` that are new, numbers them from `sequence` on,
/// and moves the cursor.
pub(super) fn batch(
    connection: &Connection,
    (outlets, census): (&Outlets, &Census),
    batch: &Batch,
    sequence: &mut i64,
    now: UnixMillis,
) -> rusqlite::Result<Vec<Written>> {
    let by_order = outlets.open_ones().any(|(_, outlet)| outlet.route.ordering == Ordering::PerOrder);
    let events = batch.events.iter().map(|event| {
        let next = *sequence + 1;
        let of_order = if by_order { order::lane_of(connection, &event.event, next)? } else { None };
        if !insert_event(connection, event, next, of_order)? {
            let sighting::Repeat { lag, conflict, news } = sighting::note(connection, event)?;
            let recorded = if conflict { Recorded::Conflict } else { Recorded::Duplicate };
            return Ok(Written { recorded, sequence: 0, outlets: Vec::new(), lag, news });
        }
        *sequence = next;
        let outlets = insert_deliveries(connection, (outlets, census), (event, of_order), next)?;
        Ok(Written { recorded: Recorded::New, sequence: next, outlets, lag: None, news: false })
    });
    let written = events.collect::<rusqlite::Result<_>>()?;
    if let Some(cursor) = &batch.cursor {
        move_cursor(connection, cursor, now)?;
    }
    Ok(written)
}

/// Whether `event` was new.
fn insert_event(
    connection: &Connection,
    event: &Received,
    sequence: i64,
    of_order: Option<i64>,
) -> rusqlite::Result<bool> {
    let Received { event, source, origin, environment, received_at } = event;
    let mut insert = connection.prepare_cached(
        "INSERT INTO event (sequence, id, type, object_id, created, source, origin, environment, \
                            received_at, body, digest, order_lane) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (id) DO NOTHING",
    )?;
    let rows = insert.execute(params![
        sequence,
        event.id.as_str(),
        event.kind.as_str(),
        event.subject.object,
        event.created,
        source.as_str(),
        origin,
        environment.map(Environment::as_str),
        received_at.0,
        &event.body[..],
        event.digest.map(|Digest(digest)| digest),
        of_order,
    ])?;
    Ok(rows == 1)
}

fn insert_deliveries(
    connection: &Connection,
    (outlets, census): (&Outlets, &Census),
    (event, of_order): (&Received, Option<i64>),
    sequence: i64,
) -> rusqlite::Result<Vec<(usize, Option<i64>)>> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO delivery (target_id, sequence, state, lane, rank) VALUES (?1, ?2, 'pending', ?3, ?4)",
    )?;
    let rank = rank(&event.event.id, event.received_at);
    let mut taken_by = Vec::new();
    for (index, outlet) in outlets.open_ones() {
        if !outlet.route.takes(event) {
            continue;
        }
        let lane = lane(outlet.route.ordering, event, of_order);
        insert.execute(params![outlet.target.0, sequence, lane, rank])?;
        census.step(outlet.target, None, State::Pending);
        taken_by.push((index, lane));
    }
    Ok(taken_by)
}

fn move_cursor(connection: &Connection, cursor: &CursorMove, now: UnixMillis) -> rusqlite::Result<()> {
    let CursorMove { stream, position, history } = cursor;
    let mut upsert = connection.prepare_cached(
        "INSERT INTO stream_cursor (stream, event_id, created, moved_at, history) \
         VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (stream) DO UPDATE \
         SET event_id = ?2, created = ?3, moved_at = ?4, history = coalesce(?5, history)",
    )?;
    let event = position.event.as_ref().map(EventId::as_str);
    upsert.execute(params![stream, event, position.created, now.0, history]).map(drop)
}
