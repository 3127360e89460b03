//! Which further sources brought an event that is held already.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::domain::clock::UnixMillis;
use crate::domain::event::Received;

/// Notes that `event`, which is held, came by its source too. The first time by
/// each source is written down; answers how far that was behind the first of all.
/// Whatever comes by the same source again writes nothing.
pub(super) fn note(connection: &Connection, event: &Received) -> rusqlite::Result<Option<Duration>> {
    let mut select = connection
        .prepare_cached("SELECT sequence, received_at FROM event WHERE id = ?1 AND source <> ?2")?;
    let held = select
        .query_row(params![event.event.id.as_str(), event.source.as_str()], |row| {
            Ok((row.get::<_, i64>(0)?, UnixMillis(row.get(1)?)))
        })
        .optional()?;
    let Some((sequence, first_at)) = held else { return Ok(None) };
    let mut insert = connection.prepare_cached(
        "INSERT INTO sighting (sequence, source, origin, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )?;
    let at = event.received_at;
    let rows = insert.execute(params![sequence, event.source.as_str(), event.origin, at.0])?;
    Ok((rows == 1).then(|| at.since(first_at)))
}
