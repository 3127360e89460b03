//! What is noted of an event that is held already.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::conflict;
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Digest, Received};

/// What a repeat has shown.
pub(super) struct Repeat {
    /// How far its source was behind the first of all, if it came by this one for the
    /// first time.
    pub(super) lag: Option<Duration>,
    /// Whether it says something else than what is held.
    pub(super) conflict: bool,
    /// Whether that is news.
    pub(super) news: bool,
}

/// Notes that `event`, which is held, came by its source too. The first time by
/// each source is written down. What comes by the same source again and says the
/// same writes nothing.
pub(super) fn note(connection: &Connection, event: &Received) -> rusqlite::Result<Repeat> {
    let mut select = connection
        .prepare_cached("SELECT sequence, received_at, source <> ?2, digest FROM event WHERE id = ?1")?;
    let (sequence, first_at, is_further, held) =
        select.query_row(params![event.event.id.as_str(), event.source.as_str()], |row| {
            let digest = row.get::<_, Option<[u8; Digest::LENGTH]>>(3)?.map(Digest);
            Ok((row.get::<_, i64>(0)?, UnixMillis(row.get(1)?), row.get::<_, bool>(2)?, digest))
        })?;
    let at = event.received_at;
    let mut lag = None;
    if is_further {
        let mut insert = connection.prepare_cached(
            "INSERT INTO sighting (sequence, source, origin, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?;
        let rows = insert.execute(params![sequence, event.source.as_str(), event.origin, at.0])?;
        lag = (rows == 1).then(|| at.since(first_at));
    }
    let conflict = conflict::is_one(event, held);
    let news = conflict && conflict::keep(connection, sequence, event)?;
    Ok(Repeat { lag, conflict, news })
}
