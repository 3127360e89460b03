//! Storing events with their deliveries, and moving a stream's cursor.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::census::Census;
use super::outlets::{Outlet, Outlets};
use super::{order, sighting, turn};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Ordering, State};
use crate::domain::event::{Digest, Environment, EventId, Received};
use crate::store::lane::{FIRST, lane, rank};
use crate::store::types::{Batch, CursorMove, Recorded};

/// An event as it was stored, or found.
pub(super) struct Written {
    pub(super) recorded: Recorded,
    /// Its sequence, if it is new.
    pub(super) sequence: i64,
    /// The outlets it can go to at once, by index, each with its lane there.
    pub(super) ready: Vec<(usize, Option<i64>)>,
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
            return Ok(Written { recorded, sequence: 0, ready: Vec::new(), lag, news });
        }
        *sequence = next;
        let ready = insert_deliveries(connection, (outlets, census), (event, of_order), next)?;
        Ok(Written { recorded: Recorded::New, sequence: next, ready, lag: None, news: false })
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
        "INSERT INTO delivery (target_id, sequence, state, lane, rank, due_at) \
         VALUES (?1, ?2, 'pending', ?3, ?4, ?5)",
    )?;
    let mut ready = Vec::new();
    for (index, outlet) in outlets.open_ones() {
        if !outlet.route.takes(event) {
            continue;
        }
        let lane = lane(outlet.route.ordering, event, of_order);
        let first = match lane {
            None => true,
            Some(lane) => goes_first(connection, outlet, lane, event)?,
        };
        let (rank, due_at) = if first {
            ready.push((index, lane));
            (FIRST, Some(event.received_at.0))
        } else {
            (rank(&event.event.id, event.received_at), None)
        };
        insert.execute(params![outlet.target.0, sequence, lane, rank, due_at])?;
        census.step(outlet.target, None, State::Pending);
    }
    Ok(ready)
}

/// Whether a new event may go at once: its lane is empty, or the delivery whose
/// turn it is comes later in its order, has not been started, and steps back.
pub(super) fn goes_first(
    connection: &Connection,
    outlet: &Outlet,
    lane: i64,
    event: &Received,
) -> rusqlite::Result<bool> {
    let target = outlet.target.0;
    let first = connection
        .prepare_cached(
            "SELECT sequence, state FROM delivery WHERE target_id = ?1 AND lane = ?2 ORDER BY rank LIMIT 1",
        )?
        .query_row(params![target, lane], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let Some((first, state)) = first else { return Ok(true) };
    let waits = state == State::Pending.as_str() || state == State::Retrying.as_str();
    if !waits {
        return Ok(false);
    }
    let place = turn::place(connection, first)?;
    if rank(&event.event.id, event.received_at) >= place || !outlet.turns.revoke(first) {
        return Ok(false);
    }
    turn::step_back(connection, outlet.target, first, place)?;
    Ok(true)
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
