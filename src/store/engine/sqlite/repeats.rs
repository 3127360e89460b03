//! Notes events that are stored already: the sources that repeat them, and contents that differ. An
//! event with differing content is a conflict. It is kept beside the stored event and never
//! delivered.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Digest, Received};

/// The largest number of conflicts that are kept for one event.
const KEPT: i64 = 8;
/// The largest body of a conflict that is kept, in bytes.
const LARGEST_BODY: usize = 256 * 1024;

/// The result of noting a repeated event.
pub(super) struct Repeat {
    /// How far the source was behind the first one, if this source has brought the event for the
    /// first time.
    pub(super) lag: Option<Duration>,
    /// Whether the content differs from the stored event.
    pub(super) conflict: bool,
    /// Whether the conflict is new.
    pub(super) news: bool,
}

/// Notes that the stored `event` has arrived again. The first arrival by each source is stored. A
/// further arrival by the same source with the same content writes nothing.
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
    let conflict = is_conflict(event, held);
    let news = conflict && keep_conflict(connection, sequence, event)?;
    Ok(Repeat { lag, conflict, news })
}

/// Returns whether the content of `event` differs from the stored event with the digest `held`. An
/// event that was stored without a digest differs from none.
fn is_conflict(event: &Received, held: Option<Digest>) -> bool {
    held.zip(event.event.digest).is_some_and(|(held, other)| held != other)
}

/// Keeps `event` as a conflict of the event of `sequence`. Returns whether the conflict is new: the
/// same source has not brought the same content before.
fn keep_conflict(connection: &Connection, sequence: i64, event: &Received) -> rusqlite::Result<bool> {
    let Received { event, source, origin, received_at, .. } = event;
    let Some(Digest(digest)) = event.digest else { return Ok(false) };
    let known = connection
        .prepare_cached("SELECT 1 FROM conflict WHERE sequence = ?1 AND digest = ?2 AND source = ?3")?
        .query_row(params![sequence, digest, source.as_str()], |_| Ok(()))
        .optional()?;
    if known.is_some() {
        return Ok(false);
    }
    let kept: i64 = connection
        .prepare_cached("SELECT count(*) FROM conflict WHERE sequence = ?1")?
        .query_row(params![sequence], |row| row.get(0))?;
    if kept < KEPT {
        let body = Some(&event.body[..]).filter(|body| body.len() <= LARGEST_BODY);
        connection
            .prepare_cached(
                "INSERT INTO conflict (sequence, digest, source, origin, type, received_at, size, body) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, CASE WHEN EXISTS \
                   (SELECT 1 FROM conflict WHERE sequence = ?1 AND digest = ?2) THEN NULL ELSE ?8 END)",
            )?
            .execute(params![
                sequence,
                digest,
                source.as_str(),
                origin,
                event.kind.as_str(),
                received_at.0,
                i64::try_from(event.body.len()).unwrap_or(i64::MAX),
                body,
            ])?;
    }
    Ok(true)
}
