//! Storing events with their deliveries, and moving a stream's cursor.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::Outlet;
use crate::domain::clock::UnixMillis;
use crate::domain::event::Received;
use crate::store::inbox::{Batch, CursorMove, Recorded};
use crate::store::lane::{lane, rank};

/// An event as it was stored, or found.
pub(super) struct Written {
    pub(super) recorded: Recorded,
    /// Its sequence, if it is new.
    pub(super) sequence: i64,
    /// The outlets it can go to at once, by index, each with its lane there.
    pub(super) ready: Vec<(usize, Option<i64>)>,
}

/// Stores the events of `batch` that are new, numbers them from `sequence` on,
/// and moves the cursor.
pub(super) fn batch(
    connection: &Connection,
    outlets: &[Outlet],
    batch: &Batch,
    sequence: &mut i64,
    now: UnixMillis,
) -> rusqlite::Result<Vec<Written>> {
    let events = batch.events.iter().map(|event| {
        if !insert_event(connection, event, *sequence + 1)? {
            return Ok(Written { recorded: Recorded::Duplicate, sequence: 0, ready: Vec::new() });
        }
        *sequence += 1;
        let ready = insert_deliveries(connection, outlets, event, *sequence)?;
        Ok(Written { recorded: Recorded::New, sequence: *sequence, ready })
    });
    let written = events.collect::<rusqlite::Result<_>>()?;
    if let Some(cursor) = &batch.cursor {
        move_cursor(connection, cursor, now)?;
    }
    Ok(written)
}

/// Whether `event` was new.
fn insert_event(connection: &Connection, event: &Received, sequence: i64) -> rusqlite::Result<bool> {
    let Received { event, source, origin, environment, received_at } = event;
    let mut insert = connection.prepare_cached(
        "INSERT INTO event (sequence, id, type, object_id, created, source, origin, environment, \
                            received_at, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
    )?;
    let rows = insert.execute(params![
        sequence,
        event.id.as_str(),
        event.kind.as_str(),
        event.object_id,
        event.created,
        source.as_str(),
        origin,
        environment.map(crate::domain::event::Environment::as_str),
        received_at.0,
        &event.body[..],
    ])?;
    Ok(rows == 1)
}

fn insert_deliveries(
    connection: &Connection,
    outlets: &[Outlet],
    event: &Received,
    sequence: i64,
) -> rusqlite::Result<Vec<(usize, Option<i64>)>> {
    let mut occupied =
        connection.prepare_cached("SELECT 1 FROM delivery WHERE target_id = ?1 AND lane = ?2 LIMIT 1")?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO delivery (target_id, sequence, state, lane, rank, due_at) \
         VALUES (?1, ?2, 'pending', ?3, ?4, ?5)",
    )?;
    let mut ready = Vec::new();
    for (index, outlet) in outlets.iter().enumerate() {
        if !outlet.route.types.matches(event.event.kind.as_str()) {
            continue;
        }
        let (target, lane) = (outlet.target.0, lane(outlet.route.ordering, event));
        let waits = match lane {
            None => false,
            Some(lane) => occupied.query_row(params![target, lane], |_| Ok(())).optional()?.is_some(),
        };
        let due_at = (!waits).then_some(event.received_at.0);
        insert.execute(params![target, sequence, lane, rank(event), due_at])?;
        if !waits {
            ready.push((index, lane));
        }
    }
    Ok(ready)
}

fn move_cursor(connection: &Connection, cursor: &CursorMove, now: UnixMillis) -> rusqlite::Result<()> {
    let CursorMove { stream, position } = cursor;
    let mut upsert = connection.prepare_cached(
        "INSERT INTO stream_cursor (stream, event_id, created, moved_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (stream) DO UPDATE SET event_id = ?2, created = ?3, moved_at = ?4",
    )?;
    let event = position.event.as_ref().map(crate::domain::event::EventId::as_str);
    upsert.execute(params![stream, event, position.created, now.0]).map(drop)
}
